"""The file of the embedded ledger: who may own it, what is refused, and how it grows with the program."""

import contextlib
import os
import sqlite3
import sys
from pathlib import Path

import anyio
import pytest
from ledger_builders import accept, draft, moved, one, stored, trail

from orchestrator.domain.lifecycle import Step
from orchestrator.storage.commands import Note, Noted
from orchestrator.storage.opening import UnsupportedURL, open_ledger, open_reader, sqlite_path
from orchestrator.storage.ports import LedgerCorrupt, LedgerError, LedgerLocked, SchemaTooNew
from orchestrator.storage.rows import AUDIT_COLUMNS
from orchestrator.storage.sqlite import schema
from orchestrator.storage.sqlite.ledger import SqliteLedger

pytestmark = pytest.mark.anyio

OWNER = """
import anyio, sys
from orchestrator.domain.audit import AuditDraft
from orchestrator.storage.commands import Note
from orchestrator.storage.sqlite.ledger import SqliteLedger

async def main():
    ledger = await SqliteLedger.opened(sys.argv[1])
    await ledger.commit([Note(AuditDraft(event="note", created_at=0.0))])
    print("owned", end="", flush=True)
    await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "ledger.db"


@contextlib.contextmanager
def raw(file: Path):
    """A connection past the ledger, whose changes are committed."""
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        yield connection


async def made(file: Path, tasks: int = 1) -> None:
    """Makes a ledger with some tasks in it, and closes it."""
    ledger = await SqliteLedger.opened(str(file))
    await stored(ledger, *[accept(number) for number in range(1, tasks + 1)])
    await ledger.close()


async def refused(file: Path, error: type[LedgerError]) -> None:
    """The file cannot be opened, and a second try meets the same error, not a lock that was left behind."""
    for _ in range(2):
        with pytest.raises(error):
            await SqliteLedger.opened(str(file))


async def test_durability(file):
    """What is committed has reached the disk: a write-ahead log, synchronised at each commit."""
    ledger = await SqliteLedger.opened(str(file))
    assert ledger._connection is not None
    assert ledger._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    await ledger.close()


async def test_second_owner(file):
    """It is refused, whatever name it has for the file, for as long as the first one is there."""
    link = file.with_name("link.db")
    link.symlink_to(file)
    ledger = await SqliteLedger.opened(str(file))
    for name in (str(file), str(link), f"{file.parent}/../{file.parent.name}/{file.name}"):
        with pytest.raises(LedgerLocked):
            await SqliteLedger.opened(name)
    await stored(ledger, accept(1))
    await ledger.close()
    again = await SqliteLedger.opened(str(link))
    assert len(await trail(again)) == 1
    await again.close()


async def test_owner_in_another_process(file):
    """It is respected while it lives; killed, it lets go, and what it committed is there."""
    async with await anyio.open_process([sys.executable, "-c", OWNER, str(file)], stdin=None, stderr=None) as owner:
        assert owner.stdout is not None
        try:
            assert (await owner.stdout.receive())[:1] == b"o"
            with pytest.raises(LedgerLocked):
                await SqliteLedger.opened(str(file))
        finally:
            owner.kill()
    ledger = await SqliteLedger.opened(str(file))
    assert [entry.event for entry in await trail(ledger)] == ["note"]
    await ledger.close()


async def test_another_program_holds_the_database(file, monkeypatch):
    """Somebody who does not know of our lock, such as a shell, but has SQLite's."""
    await made(file)
    monkeypatch.setattr(sqlite3, "connect", lambda *a, real=sqlite3.connect, **k: real(*a, timeout=0.0, **k))
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as shell:
        shell.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
        shell.execute("BEGIN EXCLUSIVE")
        await refused(file, LedgerLocked)


async def test_nobody_else_may_read_the_files(file):
    """The database, its log and its lock are the owner's alone, even where the process is careless."""
    before = os.umask(0)
    try:
        ledger = await SqliteLedger.opened(str(file))
        await stored(ledger, accept(1))
        modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()}
        await ledger.close()
    finally:
        os.umask(before)
    names = ["ledger.db", "ledger.db-shm", "ledger.db-wal", "ledger.db.lock"]
    assert modes == dict.fromkeys(names, 0o600)


async def test_folders_that_are_not_there_yet(tmp_path):
    """They are made."""
    file = tmp_path / "a" / "b" / "ledger.db"
    await made(file)
    assert file.is_file()


@pytest.mark.parametrize("name", ["file/ledger.db", "folder"])
async def test_place_that_cannot_be_used(tmp_path, name):
    """A file where a folder should be, a folder where a file should be: OSError says so."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"file|directory"):
        await SqliteLedger.opened(str(tmp_path / name))


async def test_folder_that_may_not_be_written(tmp_path):
    """OSError says so, and nothing is left behind."""
    folder = tmp_path / "folder"
    folder.mkdir(0o555)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        with pytest.raises(PermissionError):
            await SqliteLedger.opened(str(folder / "ledger.db"))
    finally:
        if root:
            os.seteuid(0)
    assert list(folder.iterdir()) == []


async def test_newer_schema(file):
    """A newer program wrote it: it is refused, and left as it is."""
    await made(file)
    with raw(file) as connection:
        connection.execute("UPDATE schema_version SET version = 9999")
    before = file.read_bytes()
    await refused(file, SchemaTooNew)
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"x", b"not a database " * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_something_else(file, content):
    """A file that is no database is no ledger, and is left as it is."""
    file.write_bytes(content)
    await refused(file, LedgerCorrupt)
    assert file.read_bytes() == content


@pytest.mark.parametrize("table", ["patients (name)", "schema_version (version)", "schema_version (other)"])
async def test_database_of_something_else(file, table):
    """Our tables are not laid into it, and its journal stays as it is."""
    with raw(file) as connection:
        connection.execute(f"CREATE TABLE {table}")
    before = file.read_bytes()
    await refused(file, LedgerCorrupt)
    assert file.read_bytes() == before


@pytest.mark.parametrize("share", [0.001, 0.02, 0.25, 0.5, 0.9, 0.999])
async def test_truncated_file(file, share):
    """It is found on opening, wherever it was cut."""
    await made(file, tasks=300)
    os.truncate(file, max(1, int(file.stat().st_size * share)))
    await refused(file, LedgerCorrupt)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM audit_heads",
        "UPDATE audit_heads SET seq = seq + 1",
        "UPDATE audit_heads SET entry_hash = ''",
        "DELETE FROM audit_entries WHERE seq = 3",
        "DELETE FROM audit_entries",
        "UPDATE tasks SET priority = 'none'",
    ],
)
async def test_book_that_does_not_fit(file, damage):
    """An audit trail that does not end where its head says cannot be continued: it is refused."""
    await made(file, tasks=3)
    with raw(file) as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(damage)
    await refused(file, LedgerCorrupt)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entries SET reason = 'nice' WHERE seq = 2",
        "UPDATE audit_entries SET seq = seq",
        "UPDATE OR REPLACE audit_entries SET seq = 1 WHERE seq = 2",
        "DELETE FROM audit_entries WHERE seq = 3",
        "DELETE FROM audit_entries",
        "REPLACE INTO audit_entries SELECT * FROM audit_entries WHERE seq = 2",
        f"REPLACE INTO audit_entries SELECT position + 9, {AUDIT_COLUMNS} FROM audit_entries WHERE seq = 2",
        "INSERT INTO audit_entries SELECT * FROM audit_entries WHERE true ON CONFLICT DO UPDATE SET reason = 'nice'",
        "DELETE FROM audit_heads",
        "UPDATE audit_heads SET seq = seq - 1",
        "UPDATE audit_heads SET entry_hash = ''",
        "UPDATE audit_heads SET writer = 'other', seq = seq + 1",
    ],
)
async def test_trail_only_grows(file, statement):
    """Whoever tries to change or remove an entry by SQL is refused, and the ledger goes on."""
    await made(file, tasks=3)
    with raw(file) as connection:
        before = connection.execute("SELECT * FROM audit_entries").fetchall()
        with pytest.raises(sqlite3.IntegrityError, match="audit"):
            connection.execute(statement)
        assert connection.execute("SELECT * FROM audit_entries").fetchall() == before
    ledger = await SqliteLedger.opened(str(file))
    await stored(ledger, accept(4))
    assert len(await trail(ledger)) == 4
    await ledger.close()


async def test_migrations(file, monkeypatch):
    """Each runs once, in order; a failing one is undone as a whole, and those before it stay."""
    real = schema.migrations()
    assert [number for number, _ in real] == list(range(1, len(real) + 1))
    await made(file)
    steps = [
        *real,
        (len(real) + 1, "CREATE TABLE log (at INTEGER);\n-- once; only\nINSERT INTO log VALUES (1);"),
        (len(real) + 2, "INSERT INTO log VALUES (2);\nINSERT INTO nowhere VALUES (1);"),
    ]
    monkeypatch.setattr(schema, "migrations", lambda: steps)
    await refused(file, LedgerCorrupt)
    steps[-1] = (len(real) + 2, "INSERT INTO log VALUES (2);")
    for _ in range(2):
        await made_again(file)
    with raw(file) as connection:
        assert connection.execute("SELECT at FROM log").fetchall() == [(1,), (2,)]
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(len(real) + 2,)]


async def made_again(file: Path) -> None:
    """Opens and closes; what was written before is there, and it goes on."""
    ledger = await SqliteLedger.opened(str(file))
    before = await trail(ledger)
    assert before[0].event == "accepted"
    assert isinstance(await one(ledger, Note(draft("note"))), Noted)
    assert (await trail(ledger))[:-1] == before
    await ledger.close()


async def test_readers_cannot_write(file):
    """Only the writer can, whatever a reader is made to execute."""
    ledger = await SqliteLedger.opened(str(file))
    assert ledger._open is not None
    for statement in ("DELETE FROM tasks", "UPDATE schema_version SET version = 0", "CREATE TABLE t (a)"):
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await ledger._open.execute(statement)
    await ledger.close()


async def test_reader_beside_the_owner(file):
    """It sees one moment of the ledger, and hinders nobody."""
    ledger = await SqliteLedger.opened(str(file))
    (record,) = await stored(ledger, accept(1))
    reader = await open_reader(f"sqlite:///{file}")
    before = await trail(reader)
    await moved(ledger, record, Step.LEASE, Step.SUCCEED)
    assert await trail(reader) == before
    await reader.close()
    await ledger.close()


async def test_closed_ledger(file):
    """It says so, to readers and writers, instead of waiting; its log is folded into the file."""
    ledger = await SqliteLedger.opened(str(file))
    await stored(ledger, accept(1))
    await ledger.close()
    with pytest.raises(RuntimeError, match="closed"):
        await ledger.commit([])
    with pytest.raises(RuntimeError, match="closed"):
        await ledger.agents()
    assert sorted(path.name for path in file.parent.iterdir()) == ["ledger.db", "ledger.db.lock"]


async def test_reader_that_does_not_open(file, monkeypatch):
    """Then the writer lets go as well."""

    async def fail(self):
        raise OSError("no more threads")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteLedger, "open", fail)
        with pytest.raises(OSError, match="threads"):
            await SqliteLedger.opened(str(file))
    await made(file)


async def test_opening_that_is_cancelled(file):
    """However far it has come, nothing holds the file afterwards."""
    for steps in (0, 1, 2, 3, 5, 8):
        ledger: list[SqliteLedger] = []

        async def open_it(opened: list[SqliteLedger] = ledger) -> None:
            opened.append(await SqliteLedger.opened(str(file)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_it)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        for opened in ledger:
            await opened.close()
    await made(file)


def test_urls():
    """Three slashes are relative, four absolute; what would not be one local file is refused."""
    assert sqlite_path("sqlite:///var/a%20b.db") == "var/a b.db"
    assert sqlite_path("sqlite:////var/a.db") == "/var/a.db"
    assert sqlite_path("sqlite+aiosqlite:///a.db") == "a.db"
    for url in (
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://host/a.db",
        "sqlite:///a.db?x=1",
        "redis://h",
    ):
        with pytest.raises(UnsupportedURL):
            sqlite_path(url)


async def test_url_of_the_ledger_in_memory():
    """It is there for trying things out."""
    ledger = await open_ledger("memory://")
    await stored(ledger, accept(1))
    await ledger.close()
