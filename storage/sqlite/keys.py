"""Which idempotency keys the embedded ledger knows: the newest from memory, the others by an index.

Keys stand at random in an index. Entered as they come, each brings a page of it into the log, and has one read as soon
as the index is larger than what is kept of the file in memory. So new ones are remembered until there are many, and
then entered in the order of the index, some with each commit: neighbours share their pages. This is a log-structured
merge-tree (O'Neil et al., Acta Informatica 33, 1996) of two components, the first of them in memory.

Memory and index say where to look. Whether a key stands, and for what, is said by its row alone.
"""

import contextlib
import sqlite3
from collections.abc import Sequence

from orchestrator.storage.sqlite import sql

MANY = 32_768
"""So many are remembered before they are entered, and hardly twice as many ever; 150 bytes each."""


class KnownKeys:
    """Belongs to the connection that writes. A key is the 16 bytes that it wears (storage/disguise.py)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Reads those that are not in the index yet, which are told from the others by their seq.

        Where those are many they are entered now: a process that is restarted often would never come to an end.
        """
        self._new = dict[bytes, int]()
        """By this transaction; each with the seq of its task, as below."""
        self._remembered = dict[bytes, int](connection.execute(sql.READ_NEW_KEYS))
        if len(self._remembered) >= MANY:
            # A disk that is full keeps nobody from starting: then they stay remembered.
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute(sql.ENTER_ALL_KEYS)
                connection.execute(sql.ENTERED_ALL)
                self._remembered = {}
        self._leaving = dict[bytes, int]()
        """On their way into the index."""
        self._order: list[int] = []
        """The seqs of those, in the order of the index; the first `_at` are in it."""
        self._at = self._entered = 0

    def begin(self) -> None:
        """A transaction begins; one before that was not committed has not been."""
        self._new = {}

    def find(self, connection: sqlite3.Connection, digest: bytes) -> tuple[int, bytes, str, float | None] | None:
        """Seq, fingerprint, task and expiry of a key that stands."""
        for remembered in (self._new, self._remembered, self._leaving):
            if (seq := remembered.get(digest)) is not None and (found := _row(connection, seq, digest)):
                return found
        indexed = connection.execute(sql.FIND_INDEXED, (digest,)).fetchone()
        return _row(connection, indexed[0], digest) if indexed else None

    def any_stands(self, connection: sqlite3.Connection, digests: Sequence[bytes]) -> bool:
        """Whether one of them stands, or would after another."""
        different = set(digests)
        if len(different) < len(digests):
            return True
        for remembered in (self._new, self._remembered, self._leaving):
            if any(self.find(connection, digest) for digest in remembered.keys() & different):
                return True
        done = 0
        for size, any_indexed in sql.ANY_INDEXED:
            while len(digests) - done >= size:
                # The module sqlite3 takes a bytearray as it is; for bytes it looks for a way to adapt them.
                some = [bytearray(digest) for digest in digests[done : done + size]]
                if connection.execute(any_indexed, some).fetchone():
                    return True
                done += size
        return False

    def add(self, digest: bytes, seq: int) -> None:
        """A row of it was written."""
        self._new[digest] = seq

    def enter(self, connection: sqlite3.Connection) -> None:
        """Enters some that wait for it into the index, in this transaction; more than came with it."""
        rows = sql.ENTERED_AT_ONCE
        part = self._order[self._at : self._at + rows * -(-2 * len(self._new) // rows)]
        for start in range(0, len(part), rows):
            some = part[start : start + rows]
            connection.execute(sql.ENTER_KEYS, [*some, *some[-1:] * (rows - len(some))])
        self._entered = len(part)
        if part and self._at + len(part) == len(self._order):
            connection.execute(sql.ENTERED_UP_TO, (max(self._leaving.values()),))

    def committed(self) -> None:
        """The transaction was."""
        self._remembered.update(self._new)
        self._at += self._entered
        self.begin()
        if self._at == len(self._order):
            self._leaving, self._order, self._at = {}, [], 0
            if len(self._remembered) >= MANY:
                self._leaving, self._remembered = self._remembered, {}
                self._order = [self._leaving[digest] for digest in sorted(self._leaving)]


def _row(connection: sqlite3.Connection, seq: int, digest: bytes) -> tuple[int, bytes, str, float | None] | None:
    return connection.execute(sql.FIND_KEY, (seq, digest)).fetchone()
