"""SAQ, on Redis."""

import asyncio
from typing import Any

import aiohttp
from calling import BROKER, ENDPOINT, body
from saq import Queue

queue = Queue.from_url(BROKER)


async def call(ctx: dict[str, Any], *, number: int) -> Any:
    """The task."""
    async with ctx["session"].post(ENDPOINT, json=body(number)) as response:
        return await response.json()


async def startup(ctx: dict[str, Any]) -> None:
    """One session for the worker."""
    ctx["session"] = aiohttp.ClientSession()


async def shutdown(ctx: dict[str, Any]) -> None:
    """Its end."""
    await ctx["session"].close()


settings = {"queue": queue, "functions": [call], "concurrency": 64, "startup": startup, "shutdown": shutdown}


async def enqueue(count: int) -> None:
    """Fills the queue."""
    await queue.connect()
    for first in range(0, count, 64):
        await asyncio.gather(*(queue.enqueue("call", number=n) for n in range(first, min(count, first + 64))))
    await queue.disconnect()


def fill(count: int) -> None:
    """Puts so many jobs into the queue."""
    asyncio.run(enqueue(count))
