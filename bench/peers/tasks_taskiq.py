"""taskiq, on Redis streams."""

import asyncio
from typing import Annotated, Any

import aiohttp
from calling import BROKER, ENDPOINT, body
from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

broker = RedisStreamBroker(BROKER).with_result_backend(RedisAsyncResultBackend(BROKER))


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def startup(state: TaskiqState) -> None:
    """One session for the worker."""
    state.session = aiohttp.ClientSession()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def shutdown(state: TaskiqState) -> None:
    """Its end."""
    await state.session.close()


@broker.task
async def call(number: int, context: Annotated[Context, TaskiqDepends()]) -> Any:
    """The task."""
    async with context.state.session.post(ENDPOINT, json=body(number)) as response:
        return await response.json()


async def enqueue(count: int) -> None:
    """Fills the queue."""
    await broker.startup()
    for first in range(0, count, 64):
        await asyncio.gather(*(call.kiq(n) for n in range(first, min(count, first + 64))))
    await broker.shutdown()


def fill(count: int) -> None:
    """Puts so many jobs into the queue."""
    asyncio.run(enqueue(count))
