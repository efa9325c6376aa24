"""A start: how long it waits for its server, and that nothing is left of one that is broken off."""

import asyncio
import time
from itertools import chain, count, repeat
from typing import Any

import anyio
import pytest
from postgres_server import Server
from proxy import Proxy

from orchestrator.storage.opening import open_ledger
from orchestrator.storage.postgres.connecting import CONNECT_S, connect
from orchestrator.storage.postgres.ledger import PostgresLedger

pytestmark = pytest.mark.anyio

READY_WITHIN_S = 10.0
OURS = "SELECT query FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'orchestrator'"


async def until_gone(server: Server, database: str) -> None:
    """Raises TimeoutError where a connection of ours stays."""
    with anyio.fail_after(READY_WITHIN_S):
        while await server.execute(OURS.format(database)):  # noqa: ASYNC110 - it is in the server that it ends
            await anyio.sleep(0.01)


class Starter:
    """Opens a ledger behind a proxy, and is stopped as the server gives its `at`-th answer."""

    def __init__(self, at: int, *, natively: bool) -> None:
        self.at, self._natively = at, natively
        self.answers, self._scope = 0, anyio.CancelScope()
        self._opening: asyncio.Task[Any] | None = None

    def __call__(self) -> float:
        """Is told of each answer before it is passed on; how long it is to be held."""
        self.answers += 1
        if self.answers == self.at:
            assert self._opening is not None
            if self._natively:
                self._opening.cancel()
            else:
                self._scope.cancel()
        return 0.0

    async def open(self, url: str) -> None:
        self._opening = asyncio.create_task(self._open(url))
        await asyncio.gather(self._opening, return_exceptions=True)
        if not self._opening.cancelled() and (ledger := self._opening.result()) is not None:
            await ledger.close()

    async def _open(self, url: str) -> PostgresLedger | None:
        with self._scope:
            return await PostgresLedger.opened(url, "clinic", time.time)
        return None


async def test_server_that_takes_its_time(postgres):
    """A start waits for longer than a replica at work does, whose callers wait."""
    database, delays = await postgres.new_database(), chain([CONNECT_S + 0.1], repeat(0.0))
    async with Proxy(postgres.port, delay=lambda: next(delays)) as proxy:
        await (await open_ledger(postgres.url(database, proxy.port))).close()
        delays = chain([CONNECT_S + 0.1], repeat(0.0))
        with pytest.raises(TimeoutError):
            await connect(postgres.url(database, proxy.port))


@pytest.mark.parametrize("natively", [False, True])
async def test_broken_off_at_any_answer_of_the_server(postgres, natively):
    """No connection of it stays. A program around us may well break it off natively, past all scopes and shields."""
    database = await postgres.new_database()
    await (await open_ledger(postgres.url(database))).close()
    for at in count(1):
        starter = Starter(at, natively=natively)
        async with Proxy(postgres.port, delay=starter) as proxy:
            # Where TLS may be asked for, a connection of asyncpg that is cancelled leaves a future with an error.
            await starter.open(postgres.url(database, proxy.port) + "?sslmode=disable")
            await until_gone(postgres, database)
        if starter.answers < at:
            break
    assert at > 10
