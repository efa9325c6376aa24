"""The parts of the embedded ledger's trail: by what entries are found, other than by place, task or chain.

An index has a page written with each commit, one by case a page for each of its tasks. So these are filled behind the
trail, a part of it at a time and in their own order: its latest time, the runs of each event, its entries by case. Who
looks for something looks into these, and through what is behind the last part. Of a run only its bounds are known, as
in a block range index (https://www.postgresql.org/docs/current/brin.html).
"""

import contextlib
import sqlite3
from collections.abc import Sequence

from msgspec.structs import replace

from orchestrator.storage.sqlite import sql
from orchestrator.storage.sqlite.book import SqliteBook

ENTRIES = 2_048
"""So many are behind the last part before another is noted, and hardly more: looking through them takes 0.5 ms."""


def behind(connection: sqlite3.Connection) -> int:
    """How many entries are in no part yet; at most ENTRIES, however many there are."""
    return int(connection.execute(sql.COUNT_BEHIND_PARTS, (ENTRIES,)).fetchone()[0])


def noted(connection: sqlite3.Connection, book: SqliteBook) -> SqliteBook:
    """The book, after the next part was noted in this transaction, if it is time for it."""
    if book.head.seq - book.in_parts < ENTRIES:
        return book
    _note(connection)
    return replace(book, in_parts=book.head.seq)


def entries_removed(connection: sqlite3.Connection, up_to: Sequence[tuple[str, int]]) -> None:
    """What was removed up to these places (writer and `seq`) is not found any more, nor is the name of a case left."""
    connection.executemany(sql.REMOVE_CASES, up_to)
    connection.executemany(sql.REMOVE_RUNS, up_to)
    connection.execute(sql.REMOVE_PARTS)


def catch_up(connection: sqlite3.Connection) -> int:
    """Notes the parts of a ledger that came without, each in a transaction of its own. Returns what is behind them.

    A disk that is full keeps nobody from starting: then more is looked through.
    """
    with contextlib.suppress(sqlite3.OperationalError):
        while behind(connection) == ENTRIES:
            # Rolls back, or commits, as the block ends.
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                _note(connection)
    return behind(connection)


def _note(connection: sqlite3.Connection) -> None:
    """Up to twice ENTRIES of those that are in no part, the oldest first: of an older ledger that makes fewer parts."""
    runs = connection.execute(sql.READ_NEXT_RUNS, (2 * ENTRIES,)).fetchall()
    last, first, latest = max(run[0] for run in runs), min(run[1] for run in runs), max(run[3] for run in runs)
    connection.executemany(sql.ADD_RUN, [run[:3] for run in runs])
    connection.execute(sql.ADD_CASES, (last, first, last))
    connection.execute(sql.ADD_PART, (last, first, latest))
