"""The combinations of stores on which the HTTP contract holds, and one database that is emptied for each test."""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from postgres_server import Server

from orchestrator.storage.opening import is_postgres, open_ledger, sqlite_path

COMBINATIONS = ("sqlite", "postgresql", "sqlite+redis", "postgresql+redis")

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
_END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
# Neither triggers nor foreign keys have a say in what a test leaves behind.
_UNCHECKED = "SET session_replication_role = replica"


class Emptied:
    """A migrated database that is put back to what it was when it was made: ten times as fast as a new one."""

    def __init__(self, server: Server) -> None:
        self._server, self._name, self._tables = server, "", list[str]()

    async def url(self) -> str:
        """Where it is, empty now. Whoever is still connected is thrown out."""
        if not self._name:
            await self._make()
        statements = [_END_OTHERS, _UNCHECKED]
        for table in self._tables:
            statements += [
                f"DELETE FROM {table}",
                f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM fresh.{table}",
            ]
        await self._server.run(";".join(statements), self._name)
        return self._server.url(self._name)

    async def _make(self) -> None:
        name = await self._server.new_database()
        await (await open_ledger(self._server.url(name))).close()
        self._tables = [table for (table,) in await self._server.execute(_TABLES, name)]
        statements = ["CREATE SCHEMA fresh"]
        statements += [f"CREATE TABLE fresh.{table} AS TABLE {table}" for table in self._tables]
        await self._server.run(";".join(statements), name)
        self._name = name


def count(url: str, table: str) -> int:
    """How many rows a table has, read past the orchestrator."""
    return rows(url, f"SELECT count(*) FROM {table}")[0][0]


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """What the database answers, read past the orchestrator."""
    if is_postgres(url):
        return _ask_postgres(url, statement)
    connection = sqlite3.connect(f"file:{sqlite_path(url)}?mode=ro", uri=True)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def everything(url: str) -> bytes:
    """All that is in the tables of a PostgreSQL database, value for value."""
    tables = [table for (table,) in rows(url, _TABLES)]
    values = [value for table in tables for row in rows(url, f"SELECT * FROM {table}") for value in row]
    return b"\n".join(value if isinstance(value, bytes) else str(value).encode() for value in values)


def _ask_postgres(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Waits in a thread, since whoever asks is in an event loop already."""
    import asyncpg  # pyright: ignore[reportMissingTypeStubs]

    async def ask() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, ask()).result()
