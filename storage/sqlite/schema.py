"""Numbered migrations: each file of `storage/migrations/sqlite` runs once, in order, in a transaction of its own."""

import sqlite3
from importlib import resources

from orchestrator.storage.ports import LedgerCorrupt, SchemaTooNew

_OURS = {"schema_version", "tasks", "audit_entries", "audit_heads"}
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
_CREATE = "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL, probes INTEGER NOT NULL) STRICT"
_READ = "SELECT max(version) FROM schema_version"
_CLEAR = "DELETE FROM schema_version"
_WRITE = "INSERT INTO schema_version (version, probes) VALUES (?, 0)"


def migrations() -> list[tuple[int, str]]:
    """Version and SQL text of each migration, in order."""
    folder = resources.files("orchestrator.storage.migrations").joinpath("sqlite")
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return [(int(name[:4]), folder.joinpath(name).read_text("utf-8")) for name in files]


def latest_version() -> int:
    """The version that this program knows."""
    return migrations()[-1][0]


def version(connection: sqlite3.Connection) -> int:
    """The schema's version; 0 for an empty file. Raises LedgerCorrupt for a database of something else."""
    tables = {name for (name,) in connection.execute(_TABLES)}
    if not tables:
        return 0
    if not tables >= _OURS:
        raise LedgerCorrupt("the file is a database, but not a ledger")
    (found,) = connection.execute(_READ).fetchone()
    return int(found or 0)


def migrate(connection: sqlite3.Connection) -> int:
    """Brings the schema up to date and returns its version. Twice is safe.

    Raises SchemaTooNew for a file of a newer program, LedgerCorrupt for one that is not a ledger. A step that fails
    leaves the schema as the step before it did.
    """
    found, steps = version(connection), migrations()
    if found > steps[-1][0]:
        raise SchemaTooNew(f"its schema is version {found}, this program knows {steps[-1][0]}")
    for number, sql in steps:
        if number > found:
            _apply(connection, number, sql)
    return steps[-1][0]


def _apply(connection: sqlite3.Connection, number: int, sql: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements(sql):
            connection.execute(statement)
        connection.execute(_CREATE)
        connection.execute(_CLEAR)
        connection.execute(_WRITE, (number,))
        connection.execute("COMMIT")
    except BaseException:
        # Some errors, a full disk among them, have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(sql: str) -> list[str]:
    """`executescript` would commit behind our back, so the file is split where SQLite says that a statement ends."""
    found: list[str] = []
    waiting = ""
    for line in sql.splitlines(keepends=True):
        waiting += line
        if sqlite3.complete_statement(waiting):
            found.append(waiting)
            waiting = ""
    return found
