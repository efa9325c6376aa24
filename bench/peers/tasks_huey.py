"""Huey, on Redis, which keeps the results; greenlets, as its manual recommends for tasks that wait for others."""

import json
from typing import Any

import urllib3
from calling import BROKER, ENDPOINT, body
from huey import RedisHuey

huey = RedisHuey("bench", url=BROKER)
agents = urllib3.PoolManager(maxsize=64, retries=False)


@huey.task()
def call(number: int) -> Any:
    """The task."""
    headers = {"Content-Type": "application/json"}
    return json.loads(agents.request("POST", ENDPOINT, body=json.dumps(body(number)), headers=headers).data)


def fill(count: int) -> None:
    """Puts so many jobs into the queue."""
    for number in range(count):
        call(number)
