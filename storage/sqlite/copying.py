"""Whole copies of the embedded ledger: one taken from a file that is in use, and one put into its place.

By SQLite's online backup (https://www.sqlite.org/backup.html) inside one read transaction: the writer is not held up,
and the copy is the ledger as it was at one moment.
"""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from orchestrator.storage.ports import LedgerCorrupt, LedgerError, Unreadable
from orchestrator.storage.sqlite.locking import give_to_owner_of_folder, own
from orchestrator.storage.sqlite.schema import migrate, version

PAGES = 4_096
BEFORE = ".before-restore"


def copy(source: str, target: str) -> None:
    """Writes the ledger at `source`, whoever owns it, to `target`, one file without a log. A failure leaves none.

    Raises OSError, LedgerCorrupt where the copy is not whole, or Unreadable.
    """
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
    try:
        _copied(source, target)
        _synced(target)
    except BaseException:
        discard(target)
        raise


def publish(file: str, name: str) -> None:
    """Gives a copy its name for good. Raises FileExistsError where something bears it already."""
    if os.path.exists(name):
        raise FileExistsError(f"{name} exists; it is not replaced")
    os.rename(file, name)
    _synced(str(Path(name).resolve().parent))


def discard(file: str) -> None:
    """Removes a copy. Twice is safe."""
    Path(file).unlink(missing_ok=True)


def check(path: str) -> None:
    """Raises OSError for no such file, LedgerCorrupt for what is no ledger, Unreadable where that cannot be told."""
    # SQLite would make an empty database where there is no file.
    os.close(os.open(path, os.O_RDONLY))
    try:
        with closing(_reading(path)) as connection:
            if not version(connection):
                raise LedgerCorrupt("the file is empty")
    except sqlite3.Error as error:
        raise _verdict(error) from error


def put_in_place(copy_path: str, target: str) -> None:
    """Makes the ledger at `target` what the copy is; what was there stays beside it, with `BEFORE` appended.

    Raises LedgerLocked where a process owns it, and what `copy` raises. Ended at any moment, it leaves at `target` the
    old ledger or the new one, whole.
    """
    target = os.path.realpath(target)
    with own(target):
        fresh = f"{target}.restored"
        copy(copy_path, fresh)
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            migrate(connection)
        give_to_owner_of_folder(fresh)
        _synced(fresh)
        if os.path.exists(target):
            _set_aside(target)
        os.replace(fresh, target)
        _synced(str(Path(target).parent))


def _set_aside(target: str) -> None:
    """The old ledger gets a second name. Its log goes first into it: SQLite would play it into the new one."""
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(target)) as old:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    kept = f"{target}{BEFORE}"
    for end in ("-wal", "-shm"):
        Path(kept + end).unlink(missing_ok=True)
    Path(kept).unlink(missing_ok=True)
    os.link(target, kept)
    for end in ("-wal", "-shm"):
        # Still there only where the old ledger is damaged: then what it holds stays with it.
        with suppress(FileNotFoundError):
            os.replace(target + end, kept + end)


def _copied(source: str, target: str) -> None:
    try:
        with closing(_reading(source)) as old, closing(sqlite3.connect(target, isolation_level=None)) as new:
            old.execute("BEGIN")
            old.execute("SELECT count(*) FROM sqlite_master").fetchone()
            old.backup(new, pages=PAGES)
            new.execute("PRAGMA journal_mode = DELETE").fetchall()
            found = new.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        raise _verdict(error) from error
    if found != ("ok",):
        raise LedgerCorrupt("the database is damaged")


def _verdict(error: sqlite3.Error) -> LedgerError:
    broken = getattr(error, "sqlite_errorname", "") in ("SQLITE_CORRUPT", "SQLITE_NOTADB")
    return LedgerCorrupt("the database is damaged") if broken else Unreadable("the database cannot be read")


def _reading(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("PRAGMA query_only = ON", "PRAGMA wal_autocheckpoint = 0", "PRAGMA busy_timeout = 2000"):
        connection.execute(pragma).fetchall()
    return connection


def _synced(path: str) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
