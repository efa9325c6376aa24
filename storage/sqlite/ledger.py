"""The embedded ledger: one file, owned by one process, written by one connection in one thread.

WAL with `synchronous = FULL`: what is committed has reached the disk (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread
from msgspec.structs import replace

from orchestrator.domain.audit import GENESIS, Head
from orchestrator.domain.task import Priority
from orchestrator.storage.commands import Command, Erased, Outcome
from orchestrator.storage.disguise import Disguise
from orchestrator.storage.ports import CommitUnknown, Depths, LedgerCorrupt, LedgerError, LedgerLocked, Unreadable
from orchestrator.storage.sealing import PLAIN, Codec
from orchestrator.storage.sqlite import batch, parts, sql
from orchestrator.storage.sqlite.book import SqliteBook
from orchestrator.storage.sqlite.keys import KnownKeys
from orchestrator.storage.sqlite.locking import own, private
from orchestrator.storage.sqlite.reader import SqliteReader
from orchestrator.storage.sqlite.schema import migrate, version
from orchestrator.storage.sqlite.secrets import settle
from orchestrator.storage.sqlite.thread import OwnThread
from orchestrator.storage.work import of_each_class

# Of a value whose type it knows nothing of, the module sqlite3 asks two objects in vain how to store it. Of None, which
# rows hold many of, it is told here that it stays as it is: on all connections of the process, to which it is the same.
sqlite3.register_adapter(type(None), dict[None, None]().get)

WRITER = "main"
LOG_PAGES = 1_000
"""So many pages long the log usually gets (`wal_autocheckpoint`); twice that where a reader holds it up."""
_PRAGMAS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = OFF",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA temp_store = MEMORY",
    # What is deleted is overwritten with zeros (https://www.sqlite.org/pragma.html#pragma_secure_delete).
    "PRAGMA secure_delete = ON",
    "PRAGMA journal_size_limit = 67108864",
    # The commit that fills the log empties it, and those behind wait for that: four times as long a log would save no
    # processor time (new rows stand side by side, so few pages are written twice), and quadruple that wait.
    "PRAGMA wal_autocheckpoint = 1000",
)


class SqliteLedger(SqliteReader):
    """Use `await SqliteLedger.opened(path)`. The whole object belongs to one event loop."""

    exclusive = True

    def __init__(
        self, path: str, connection: sqlite3.Connection, lock: IO[bytes], book: SqliteBook, max_bytes: int = 0
    ) -> None:
        super().__init__(path)
        self._max_bytes = max_bytes
        self._connection: sqlite3.Connection | None = connection
        self._lock = lock
        self._book = book
        self._codec = book.codec
        self._unknown = False
        self._traces = not batch.empty_log(connection)
        """Whether the log may still hold what was erased, be it by a process that was killed before it emptied it."""
        self._thread = OwnThread("ledger")

    @classmethod
    async def opened(
        cls, path: str, *, max_bytes: int = 0, outbox: bool = False, codec: Codec = PLAIN
    ) -> "SqliteLedger":
        """Opens, migrates and owns the file at `path`, which `max_bytes` bounds (0: the disk does).

        With an `outbox`, each commit writes down what streams are to be told of it.

        Raises LedgerLocked, LedgerCorrupt, SchemaTooNew, Unreadable, or OSError where the folder cannot be used.
        """
        ledger = await anyio.to_thread.run_sync(_open, cls, path, max_bytes, outbox, codec)
        try:
            await ledger.open()
        except BaseException:
            await ledger.close()
            raise
        return ledger

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        return await self._thread.run(partial(self._commit, commands))

    def depths(self) -> Mapping[Priority, Depths]:
        book = self._book
        return {priority: Depths(book.ready[priority], book.open[priority]) for priority in Priority}

    async def room(self) -> int | None:
        free, log = await anyio.to_thread.run_sync(self._on_disk)
        (pages, unused, size) = (await self._all(sql.PAGES))[0]
        if free + log >= 2 * LOG_PAGES * size:
            # What is unused within the file comes first; but the way to it is by the log, which needs the disk.
            free += unused * size
        return min(free, self._max_bytes - (pages - unused) * size) if self._max_bytes else free

    def _on_disk(self) -> tuple[int, int]:
        """Bytes that the file system has free, and those that the log has taken already."""
        try:
            disk = os.statvfs(os.path.dirname(self._path))
            log = os.path.getsize(f"{self._path}-wal")
        except OSError as error:
            raise Unreadable("the file system cannot be asked") from error
        return disk.f_bavail * disk.f_frsize, log

    async def close(self) -> None:
        """Readers first, so that the last connection to close is the one that may checkpoint."""
        with anyio.CancelScope(shield=True):
            await super().close()
            if not self._thread.ended:
                try:
                    await self._thread.run(self._close)
                finally:
                    self._thread.end()

    def _commit(self, commands: Sequence[Command]) -> list[Outcome]:
        if self._connection is None:
            raise RuntimeError("the ledger is closed")
        if self._unknown:
            raise CommitUnknown("an earlier commit is unknown")
        try:
            self._book, outcomes = batch.commit(self._connection, self._book, commands)
        except CommitUnknown:
            self._unknown = True
            raise
        erased = Erased in map(type, outcomes)
        if erased or self._traces:
            # Where a reader was in the way, the commits behind it do not wait for that reader too, each again.
            self._traces = not batch.empty_log(self._connection, sql.HARDLY_WAIT if erased else sql.IN_PASSING)
        return outcomes

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # The lock last: who owns the file next must find it let go of.
            with closing(self._lock), closing(connection):
                pass


def _open(cls: type[SqliteLedger], path: str, max_bytes: int, outbox: bool, codec: Codec) -> SqliteLedger:
    # By its real name, so that a link to the file is no way around its lock.
    path = os.path.realpath(path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lock = own(path)
    try:
        os.close(private(path, os.O_RDWR | os.O_CREAT))
        _check_length(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
        try:
            return cls(path, connection, lock, _prepared(connection, max_bytes, outbox, codec), max_bytes)
        except BaseException:
            connection.close()
            raise
    except BaseException:
        lock.close()
        raise


def _check_length(path: str) -> None:
    """Raises LedgerCorrupt for a file that was cut within a page, which SQLite would fill up with zeros.

    Where there is a log, a page may be incomplete in the file that is whole in the log.
    """
    size = os.path.getsize(path)
    if not size or os.path.exists(f"{path}-wal"):
        return
    with open(path, "rb") as file:
        header = file.read(18)
    # Bytes 16 and 17 are the size of a page (https://www.sqlite.org/fileformat.html#page_size), 1 stands for 65536.
    page = int.from_bytes(header[16:18])
    if size < 512 or size % (65536 if page == 1 else page or size + 1):
        raise LedgerCorrupt("the file is not a ledger, or was cut off")


def _prepared(connection: sqlite3.Connection, max_bytes: int, outbox: bool, codec: Codec) -> SqliteBook:
    """Sets the connection up, brings the schema up to date and reads the book."""
    try:
        version(connection)  # First of all, so that nothing is changed in a file that is something else's.
        _configure(connection, max_bytes)
        migrate(connection)
        _check_key(connection, codec)
        return replace(_book(connection, settle(connection, codec), outbox), codec=codec)
    except (sqlite3.Error, ValueError) as error:
        raise _verdict(error) from error


def _verdict(error: Exception) -> LedgerError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_BUSY"):
        return LedgerLocked("another program holds the database")
    if isinstance(error, sqlite3.OperationalError) and name != "SQLITE_ERROR":
        return Unreadable(f"the database cannot be opened: {name}")
    return LedgerCorrupt("the file is not a ledger, or is damaged")


def _configure(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Raises Unreadable where the file system cannot give what our promises rest on."""
    (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if journal != "wal":
        raise Unreadable("the file system does not support a write-ahead log")
    for pragma in _PRAGMAS:
        connection.execute(pragma).fetchall()
    if max_bytes:
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        # A pragma takes no parameter; the number is our own.
        bound = "PRAGMA max_page_count = " + str(max(1, max_bytes // page))
        connection.execute(bound)


def _check_key(connection: sqlite3.Connection, codec: Codec) -> None:
    """Raises Unreadable where the last task's key cannot be unwrapped: it is the wrong master key, or none is given."""
    last = connection.execute(sql.LAST_DATA_KEY).fetchone()
    if last is not None and last[1] is not None:
        codec.rewrapped(last[1], last[0])


def _book(connection: sqlite3.Connection, disguise: Disguise, outbox: bool) -> SqliteBook:
    """Raises LedgerCorrupt where the audit trail does not end as its head says: nothing could be chained to it."""
    heads = {row[0]: Head(*row) for row in connection.execute(sql.READ_HEADS)}
    head = heads.get(WRITER, Head(WRITER))
    last = connection.execute(sql.LAST_LINK, (WRITER,)).fetchone()
    if (head.seq, head.entry_hash) != (last or (0, GENESIS)):
        raise LedgerCorrupt("the audit trail does not end as its head says")
    (last_seq,) = connection.execute(sql.LAST_GIVEN).fetchone()
    (callbacks,) = connection.execute(sql.ANY_WEBHOOK).fetchone()
    return SqliteBook(
        head=head,
        disguise=disguise,
        last_seq=last_seq,
        ready=_counts(connection, sql.COUNT_READY),
        open=_counts(connection, sql.COUNT_OPEN),
        outbox=outbox,
        callbacks=bool(callbacks),
        keys=KnownKeys(connection),
        in_parts=head.seq - parts.catch_up(connection),
    )


def _counts(connection: sqlite3.Connection, statement: str) -> dict[Priority, int]:
    return of_each_class({Priority(priority): count for priority, count in connection.execute(statement)})
