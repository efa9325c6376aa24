"""A connection that fails, or waits, where a test says."""

import sqlite3
import threading
from collections.abc import Callable
from typing import Any

from orchestrator.storage.sqlite.ledger import SqliteLedger


def database_error(name: str, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> sqlite3.Error:
    """As SQLite raises it; without a name as an older Python does."""
    error = kind("made up")
    if name:
        error.sqlite_errorname = name
    return error


class FaultyConnection:
    """Stands before a ledger's connection; `before` is called with each statement, and may raise."""

    def __init__(self, connection: sqlite3.Connection, before: Callable[[sqlite3.Connection, str], None]) -> None:
        self._connection, self._before = connection, before

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        self._before(self._connection, statement)
        return self._connection.execute(statement, *parameters)

    def executemany(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        self._before(self._connection, statement)
        return self._connection.executemany(statement, *parameters)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def close(self) -> None:
        self._connection.close()


def put_before(ledger: SqliteLedger, before: Callable[[sqlite3.Connection, str], None]) -> sqlite3.Connection:
    """Has the ledger write through a FaultyConnection; returns the real one, to be put back."""
    real = ledger._connection
    assert real is not None
    ledger._connection = FaultyConnection(real, before)  # pyright: ignore[reportAttributeAccessIssue]
    return real


class Gate:
    """Holds every COMMIT until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, connection: sqlite3.Connection, statement: str) -> None:
        if statement == "COMMIT":
            self.reached.set()
            assert self.opened.wait(30)
