"""The real thing for every test here: an orchestrator on a loopback port and a file."""

import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from orchestrator.testing import Service


@pytest.fixture
def anyio_backend() -> str:
    """Hypercorn and aiohttp need asyncio."""
    return "asyncio"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """The file of the ledger."""
    return tmp_path / "ledger.db"


@pytest.fixture
def environ() -> dict[str, str]:
    """Settings that differ from the packaged ones; a module may override it."""
    return {"ORCHESTRATOR_RETRY_BASE": "0.01", "ORCHESTRATOR_RETRY_CAP_S": "0.05"}


@pytest.fixture
async def service(ledger: Path, environ: dict[str, str]) -> AsyncGenerator[Service]:
    """A running orchestrator."""
    async with Service(ledger, environ) as service:
        yield service


@pytest.fixture
def rows(ledger: Path):
    """Counts the rows of a table, read past the orchestrator."""

    def count(table: str) -> int:
        connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
        try:
            return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        finally:
            connection.close()

    return count
