"""A start: how long it waits for its server, and that nothing is left of one that is broken off."""

import time
from itertools import chain, count, repeat

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

    def __init__(self, at: int) -> None:
        self.at, self.answers, self._scope = at, 0, anyio.CancelScope()

    def __call__(self) -> float:
        """Is told of each answer before it is passed on; how long it is to be held."""
        self.answers += 1
        if self.answers == self.at:
            self._scope.cancel()
        return 0.0

    async def open(self, url: str) -> None:
        with self._scope:
            ledger = await PostgresLedger.opened(url, "clinic", time.time)
            with anyio.CancelScope(shield=True):
                await ledger.close()


async def test_server_that_takes_its_time(postgres):
    """A start waits for longer than a replica at work does, whose callers wait."""
    database, delays = await postgres.new_database(), chain([CONNECT_S + 0.1], repeat(0.0))
    async with Proxy(postgres.port, delay=lambda: next(delays)) as proxy:
        await (await open_ledger(postgres.url(database, proxy.port))).close()
        delays = chain([CONNECT_S + 0.1], repeat(0.0))
        with pytest.raises(TimeoutError):
            await connect(postgres.url(database, proxy.port))


async def test_broken_off_at_any_answer_of_the_server(postgres):
    """No connection of it stays."""
    database = await postgres.new_database()
    await (await open_ledger(postgres.url(database))).close()
    for at in count(1):
        starter = Starter(at)
        async with Proxy(postgres.port, delay=starter) as proxy:
            # Where TLS may be asked for, a connection of asyncpg that is cancelled leaves a future with an error.
            await starter.open(postgres.url(database, proxy.port) + "?sslmode=disable")
            await until_gone(postgres, database)
        if starter.answers < at:
            break
    assert at > 10
