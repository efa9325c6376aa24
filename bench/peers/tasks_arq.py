"""arq, on Redis."""

import asyncio
from typing import Any, ClassVar

import aiohttp
from arq import create_pool
from arq.connections import RedisSettings
from calling import BROKER, ENDPOINT, body


async def call(ctx: dict[str, Any], number: int) -> Any:
    """The task."""
    async with ctx["session"].post(ENDPOINT, json=body(number)) as response:
        return await response.json()


async def startup(ctx: dict[str, Any]) -> None:
    """One session for the worker."""
    ctx["session"] = aiohttp.ClientSession()


async def shutdown(ctx: dict[str, Any]) -> None:
    """Its end."""
    await ctx["session"].close()


class WorkerSettings:
    """64 jobs at once; the default of 10 is slower."""

    functions: ClassVar = [call]
    redis_settings = RedisSettings.from_dsn(BROKER)
    max_jobs = 64
    on_startup = startup
    on_shutdown = shutdown


async def enqueue(count: int) -> None:
    """Fills the queue."""
    pool = await create_pool(RedisSettings.from_dsn(BROKER))
    for first in range(0, count, 64):
        await asyncio.gather(*(pool.enqueue_job("call", n) for n in range(first, min(count, first + 64))))
    await pool.aclose()


def fill(count: int) -> None:
    """Puts so many jobs into the queue."""
    asyncio.run(enqueue(count))
