"""Dramatiq, on Redis, with its middleware for results; 8 threads are its default."""

import json
from typing import Any

import dramatiq
import urllib3
from calling import BROKER, ENDPOINT, body
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=BROKER)
broker.add_middleware(Results(backend=RedisBackend(url=BROKER)))
dramatiq.set_broker(broker)
agents = urllib3.PoolManager(maxsize=64, retries=False)


@dramatiq.actor(store_results=True)
def call(number: int) -> Any:
    """The task."""
    headers = {"Content-Type": "application/json"}
    return json.loads(agents.request("POST", ENDPOINT, body=json.dumps(body(number)), headers=headers).data)


def fill(count: int) -> None:
    """Puts so many jobs into the queue."""
    for number in range(count):
        call.send(number)
