"""Each ledger keeps the one contract of all ledgers."""

from pathlib import Path

import pytest
from conformance import LedgerContract
from postgres_server import Server
from stores import Emptied

from orchestrator.storage.memory import MemoryLedger
from orchestrator.storage.opening import open_ledger
from orchestrator.storage.ports import Ledger
from orchestrator.storage.sealing import PLAIN
from orchestrator.storage.sqlite.ledger import SqliteLedger

pytestmark = pytest.mark.anyio


class MemoryStore:
    """One ledger; it remembers for as long as the object lives."""

    def __init__(self) -> None:
        self._ledger: MemoryLedger | None = None

    async def open(self, *, outbox: bool = False) -> MemoryLedger:
        self._ledger = self._ledger or MemoryLedger(outbox=outbox)
        return self._ledger

    def another(self) -> "MemoryStore":
        return MemoryStore()


class SqliteStore:
    """A file in a folder."""

    def __init__(self, folder: Path, number: int = 0) -> None:
        self._folder, self._number, self._made = folder, number, 0

    async def open(self, *, outbox: bool = False) -> SqliteLedger:
        return await SqliteLedger.opened(str(self._folder / f"{self._number}.db"), outbox=outbox)

    def another(self) -> "SqliteStore":
        self._made += 1
        return SqliteStore(self._folder, self._made)


class PostgresStore:
    """A database, made when it is first opened. All others are one, emptied for each: they follow one another."""

    codec = PLAIN

    def __init__(self, server: Server, emptied: Emptied | None = None) -> None:
        self._server, self._url = server, ""
        self._emptied, self._others = emptied, emptied or Emptied(server)

    async def open(self, *, outbox: bool = False) -> Ledger:
        if not self._url:
            emptied = self._emptied
            self._url = await emptied.url() if emptied else self._server.url(await self._server.new_database())
        return await open_ledger(self._url, writer="main", outbox=outbox, codec=self.codec)

    def another(self) -> "PostgresStore":
        return PostgresStore(self._server, self._others)


class TestMemoryLedger(LedgerContract):
    """On both event loops."""

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request):
        return request.param

    @pytest.fixture
    def store(self):
        return MemoryStore()


class TestSqliteLedger(LedgerContract):
    """A real file, on asyncio, which its readers need."""

    @pytest.fixture
    def anyio_backend(self):
        return "asyncio"

    @pytest.fixture
    def store(self, tmp_path):
        return SqliteStore(tmp_path)


class TestPostgresLedger(LedgerContract):
    """A database of a real server, on asyncio, which its driver needs."""

    @pytest.fixture
    def anyio_backend(self):
        return "asyncio"

    @pytest.fixture
    def store(self, postgres):
        return PostgresStore(postgres)
