"""Procrastinate, on PostgreSQL. It keeps no results, so the task stores its own, in the same database."""

import asyncio

import aiohttp
from calling import BROKER, ENDPOINT, body
from procrastinate import App, PsycopgConnector
from psycopg.types.json import Jsonb

connector = PsycopgConnector(conninfo=BROKER)
app = App(connector=connector)
sessions: list[aiohttp.ClientSession] = []


@app.task(name="call")
async def call(number: int) -> None:
    """The task."""
    if not sessions:
        sessions.append(aiohttp.ClientSession())
    async with sessions[0].post(ENDPOINT, json=body(number)) as response:
        result = await response.json()
    async with connector.pool.connection() as connection:
        await connection.execute("INSERT INTO results VALUES (%s, %s)", (number, Jsonb(result)))


async def enqueue(count: int) -> None:
    """Makes the tables, and fills the queue."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        async with connector.pool.connection() as connection:
            await connection.execute("CREATE TABLE results (number bigint PRIMARY KEY, result jsonb)")
        await call.batch_defer_async(*({"number": number} for number in range(count)))


def fill(count: int) -> None:
    """Puts so many jobs into the queue."""
    asyncio.run(enqueue(count))
