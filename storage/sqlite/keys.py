"""Which idempotency keys the embedded ledger knows: the newest from memory, the others by runs of an index.

Keys stand at random in an index. Entered as they come, each brings a page of it into the log, and has one read as soon
as the index is larger than what is kept of the file in memory. So new ones are remembered until there are many, and
those become a run of their own, some with each commit (storage/sqlite/key_runs.py): that is as much work however many
there were before. A run goes when all its keys are over. This is a log-structured merge-tree (O'Neil et al., Acta
Informatica 33, 1996) that merges nothing, since its filters tell the runs apart.

Memory, filters and runs say where to look. Whether a key stands, and for what, is said by its row alone.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from orchestrator.storage.sqlite import key_runs, sql
from orchestrator.storage.sqlite.key_runs import Filters

MANY = 32_768
"""So many are remembered before they become a run, and hardly twice as many ever; 150 bytes each."""


class KnownKeys:
    """Belongs to the connection that writes. A key is the 16 bytes that it wears (storage/disguise.py)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Reads those that are in no run yet, which are told from the others by their seq.

        Where those are half as many, or more, they become runs now: a process that is restarted often would never come
        to an end, and one that has just begun keeps little in memory.
        """
        self._new = dict[bytes, int]()
        """By this transaction; each with the seq of its task, as below."""
        self._remembered = dict[bytes, int]()
        self._leaving = dict[bytes, int]()
        """On their way into a run."""
        self._rows: list[bytearray] = []
        """The same, row by row; the first `_at` are written."""
        self._at = self._written = 0
        self._whole: list[int] = []
        """The runs that there are once this transaction has made one whole."""
        self._filters = Filters()
        for run, stored in connection.execute(sql.READ_FILTERS):
            self._filters.load(run, stored)
        self._run, up_to = connection.execute(sql.READ_NEXT_KEY_RUN).fetchone()
        # A disk that is full keeps nobody from starting: then they stay remembered.
        with contextlib.suppress(sqlite3.OperationalError):
            while len(oldest := dict(connection.execute(sql.READ_NEW_KEYS, (up_to, MANY)))) >= MANY // 2:
                self._become_run(connection, oldest)
                up_to = max(oldest.values())
        self._remembered = dict(connection.execute(sql.READ_NEW_KEYS, (up_to, -1)))

    def begin(self) -> None:
        """A transaction begins; one before that was not committed has not been."""
        self._new = {}

    def find(self, connection: sqlite3.Connection, digest: bytes) -> tuple[int, bytes, str, float | None] | None:
        """Seq, fingerprint, task and expiry of a key that stands."""
        for seq in self._seqs(connection, digest):
            found: tuple[int, bytes, str, float | None] | None
            if found := connection.execute(sql.FIND_KEY, (seq, digest)).fetchone():
                return found
        return None

    def any_stands(self, connection: sqlite3.Connection, digests: Sequence[bytes]) -> bool:
        """Whether one of them stands, or would after another."""
        different = set(digests)
        if len(different) < len(digests):
            return True
        maybe = {digest for digest, _ in self._filters.runs(digests)}
        for remembered in (self._new, self._remembered, self._leaving):
            maybe |= remembered.keys() & different
        return any(self.find(connection, digest) for digest in maybe)

    def add(self, keys: Iterable[tuple[bytes, int]]) -> None:
        """Rows of them were written; each with the seq of its task."""
        self._new.update(keys)

    def enter(self, connection: sqlite3.Connection) -> None:
        """Writes some of those that are on their way into their run, in this transaction; more than came with it."""
        self._write(connection, -(-2 * len(self._new) * key_runs.ROWS // MANY))

    def committed(self) -> None:
        """The transaction was."""
        self._remembered.update(self._new)
        self.begin()
        self._at += self._written
        self._written = 0
        if self._at == len(self._rows):
            if self._rows:
                self._run += 1
                self._filters.keep([*self._whole, self._run])
                self._leave({})
            if len(self._remembered) >= MANY:
                self._leave(self._remembered)
                self._remembered = {}

    def _seqs(self, connection: sqlite3.Connection, digest: bytes) -> Iterator[int]:
        """Of the tasks for which the key may stand."""
        for remembered in (self._new, self._remembered, self._leaving):
            if (seq := remembered.get(digest)) is not None:
                yield seq
        for _, run in self._filters.runs((digest,)):
            # None where the run is gone, or not whole yet.
            if stored := connection.execute(sql.READ_KEYS_OF_RUN, (key_runs.place(run, digest),)).fetchone():
                yield from key_runs.seqs(stored[0], digest)

    def _leave(self, keys: dict[bytes, int]) -> None:
        self._leaving, self._rows, self._at = keys, key_runs.rows_of(keys) if keys else [], 0

    def _write(self, connection: sqlite3.Connection, count: int) -> None:
        """So many rows of the run, and with the last of them that it is whole."""
        some = self._rows[self._at : self._at + count]
        self._written = len(some)
        for number, keys in enumerate(some, self._run * key_runs.ROWS + self._at):
            connection.execute(sql.WRITE_KEYS_OF_RUN, (number, key_runs.row(keys)))
            self._filters.add(self._run, keys)
        if some and self._at + len(some) == len(self._rows):
            self._complete(connection)

    def _complete(self, connection: sqlite3.Connection) -> None:
        connection.execute(sql.ADD_KEY_RUN, (self._run, max(self._leaving.values()), self._filters.stored(self._run)))
        over = [run * key_runs.ROWS for (run,) in connection.execute(sql.REMOVE_KEY_RUNS, (self._run,))]
        connection.executemany(sql.REMOVE_KEYS_OF_RUN, [(first, first + key_runs.ROWS) for first in over])
        self._whole = [run for (run,) in connection.execute(sql.READ_KEY_RUNS)]

    def _become_run(self, connection: sqlite3.Connection, keys: dict[bytes, int]) -> None:
        """All of them at once, in a transaction of its own. Raises sqlite3.OperationalError."""
        # Rolls back, or commits, as the block ends.
        connection.execute("BEGIN IMMEDIATE")
        try:
            with connection:
                self._leave(keys)
                self._write(connection, key_runs.ROWS)
            self.committed()
        finally:
            self._leave({})
