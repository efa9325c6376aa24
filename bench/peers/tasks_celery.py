"""Celery, on Redis, with its pool of threads, which is the one that does this task fastest."""

import json
from typing import Any

import urllib3
from calling import BROKER, ENDPOINT, body
from celery import Celery

app = Celery("tasks_celery", broker=BROKER, backend=BROKER)
agents = urllib3.PoolManager(maxsize=64, retries=False)


@app.task
def call(number: int) -> Any:
    """The task."""
    headers = {"Content-Type": "application/json"}
    return json.loads(agents.request("POST", ENDPOINT, body=json.dumps(body(number)), headers=headers).data)


def fill(count: int) -> None:
    """Puts so many jobs into the queue."""
    for number in range(count):
        call.delay(number)
