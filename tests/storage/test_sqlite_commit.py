"""What a batch comes to when the database, the disk or the caller does not go along."""

import asyncio
import contextlib
import sqlite3

import anyio
import anyio.to_thread
import pytest
from anyio import wait_all_tasks_blocked
from ledger_builders import a_key, accept, draft, kinds, move, moved, one, recount, stored, task_id, trail
from ledger_faults import Gate, database_error, put_before

from orchestrator.domain.lifecycle import State, Step
from orchestrator.domain.task import Priority
from orchestrator.storage.commands import Accepted, Note
from orchestrator.storage.ports import CommitUnknown, LedgerCorrupt, LedgerError, NotCommitted
from orchestrator.storage.sqlite.ledger import SqliteLedger

pytestmark = pytest.mark.anyio


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "ledger.db")


@pytest.fixture
async def ledger(file):
    ledger = await SqliteLedger.opened(file)
    yield ledger
    await ledger.close()


async def unchanged(ledger: SqliteLedger, tasks: int) -> None:
    """The ledger holds so many tasks, its memory agrees with its file, and it takes another one."""
    assert len(await ledger.tasks(State.QUEUED, limit=10**6)) == tasks == len(await trail(ledger))
    assert ledger.depths() == await recount(ledger)
    await stored(ledger, accept(999))
    assert len(await trail(ledger)) == tasks + 1
    assert ledger.depths() == await recount(ledger)


END = {"goes on": "", "was rolled back": "ROLLBACK", "was committed": "COMMIT"}


@pytest.mark.parametrize(
    ("name", "end", "verdict"),
    [
        ("SQLITE_BUSY", "goes on", NotCommitted),
        ("SQLITE_NOMEM", "goes on", NotCommitted),
        ("SQLITE_FULL", "goes on", NotCommitted),
        ("SQLITE_FULL", "was rolled back", NotCommitted),
        ("SQLITE_CORRUPT", "goes on", LedgerCorrupt),
        ("SQLITE_IOERR_WRITE", "goes on", CommitUnknown),
        ("SQLITE_IOERR_FSYNC", "was rolled back", CommitUnknown),
        ("SQLITE_IOERR_FSYNC", "was committed", CommitUnknown),
        ("SQLITE_NOMEM", "was rolled back", CommitUnknown),
        ("SQLITE_CORRUPT", "was committed", CommitUnknown),
        ("", "was rolled back", CommitUnknown),
        ("", "goes on", NotCommitted),
    ],
)
async def test_commit_fails(ledger, file, name, end, verdict):
    """Not done where that is certain, and then all is as before; else unknown: no more is written until a restart."""
    await stored(ledger, accept(1))

    def fail(connection: sqlite3.Connection, statement: str) -> None:
        if statement == "COMMIT":
            if END[end]:
                connection.execute(END[end])
            raise database_error(name)

    real = put_before(ledger, fail)
    with pytest.raises(verdict) as caught:
        await ledger.commit([accept(2), Note(draft("note"))])
    assert type(caught.value) is verdict
    ledger._connection = real
    if verdict is not CommitUnknown:
        assert not real.in_transaction
        await unchanged(ledger, tasks=1)
        return
    for commands in ([], [accept(3)]):
        with pytest.raises(CommitUnknown):
            await ledger.commit(commands)
    await ledger.close()
    again = await SqliteLedger.opened(file)
    stands = end == "was committed"
    assert (await again.task(task_id(2)) is not None) is stands
    assert len(await trail(again)) == (3 if stands else 1)
    assert again.depths() == await recount(again)
    await again.close()


@pytest.mark.parametrize(
    "statement", ["BEGIN", "INSERT OR FAIL INTO tasks", "INSERT INTO audit_entries", "INSERT INTO audit_heads"]
)
@pytest.mark.parametrize(
    ("name", "verdict"),
    [("SQLITE_IOERR_WRITE", NotCommitted), ("SQLITE_FULL", NotCommitted), ("SQLITE_CORRUPT_INDEX", LedgerCorrupt)],
)
async def test_failure_before_the_commit(ledger, statement, name, verdict):
    """Nothing can have been stored, whatever went wrong."""
    await stored(ledger, accept(1))

    def fail(_: sqlite3.Connection, executed: str) -> None:
        if executed.startswith(statement):
            raise database_error(name)

    real = put_before(ledger, fail)
    with pytest.raises(verdict):
        await ledger.commit([accept(2)])
    ledger._connection = real
    await unchanged(ledger, tasks=1)


async def test_failure_while_the_batch_is_done_one_by_one(ledger):
    """The whole batch is not stored, also the commands that had been done already."""
    await stored(ledger, accept(1, key=a_key()))
    added: list[str] = []

    def fail(_: sqlite3.Connection, statement: str) -> None:
        if statement.startswith("INSERT OR FAIL INTO tasks"):
            added.append(statement)
            if len(added) == 2:
                raise database_error("SQLITE_IOERR_WRITE")

    real = put_before(ledger, fail)
    with pytest.raises(NotCommitted):
        await ledger.commit([accept(2), accept(3, key=a_key()), accept(4)])
    ledger._connection = real
    await unchanged(ledger, tasks=1)


async def test_rollback_that_fails_too(ledger):
    """It changes nothing of the verdict, and the next batch does not commit what was left of this one."""

    def fail(_: sqlite3.Connection, statement: str) -> None:
        if statement.startswith(("INSERT INTO audit_heads", "ROLLBACK")):
            raise database_error("SQLITE_IOERR_WRITE")

    real = put_before(ledger, fail)
    with pytest.raises(NotCommitted):
        await ledger.commit([accept(1)])
    ledger._connection = real
    with contextlib.suppress(NotCommitted):
        await ledger.commit([])
    await unchanged(ledger, tasks=0)


async def test_mistake_in_our_own_code(ledger):
    """It comes out as it is, and leaves no transaction open behind it."""

    def fail(_: sqlite3.Connection, statement: str) -> None:
        if statement.startswith("INSERT OR FAIL INTO tasks"):
            raise RuntimeError("a mistake")

    real = put_before(ledger, fail)
    with pytest.raises(RuntimeError, match="mistake"):
        await ledger.commit([accept(1)])
    ledger._connection = real
    await unchanged(ledger, tasks=0)


async def fill(ledger: SqliteLedger) -> int:
    """Accepts tasks, two in a batch, until there is no more room; how many are stored."""
    for number in range(1, 1_000, 2):
        try:
            batch = [accept(n, payload={"text": "x" * 9_000}, key=a_key(f"key-{n}")) for n in (number, number + 1)]
            await ledger.commit(batch)
        except NotCommitted:
            return number - 1
    raise AssertionError("it never was full")


async def test_full_database(tmp_path):
    """Nothing of the batch is stored, a probe fails too, and it goes on when there is room, without a restart."""
    ledger = await SqliteLedger.opened(str(tmp_path / "ledger.db"), max_bytes=400_000)
    count = await fill(ledger)
    assert count > 2
    depths = ledger.depths()
    assert depths[Priority.NORMAL].open == count
    for commands in ([], [accept(500, payload={"text": "x" * 60_000})]):
        with pytest.raises(NotCommitted):
            await ledger.commit(commands)
    assert (ledger.depths(), await recount(ledger)) == (depths, depths)
    assert len(await trail(ledger)) == count
    assert ledger._connection is not None
    ledger._connection.execute("PRAGMA max_page_count = 1000")
    assert await ledger.commit([]) == []
    await unchanged(ledger, tasks=count)
    await ledger.close()


async def test_full_database_opened_again(tmp_path):
    """It opens under the same bound and can be read; with more room it goes on."""
    file = str(tmp_path / "ledger.db")
    ledger = await SqliteLedger.opened(file, max_bytes=400_000)
    count = await fill(ledger)
    await ledger.close()
    assert (await anyio.Path(file).stat()).st_size <= 400_000
    again = await SqliteLedger.opened(file, max_bytes=400_000)
    assert len(await trail(again)) == count
    with pytest.raises(NotCommitted):
        await again.commit([])
    await again.close()
    larger = await SqliteLedger.opened(file, max_bytes=800_000)
    await unchanged(larger, tasks=count)
    await larger.close()


async def test_no_room_for_the_tables(tmp_path):
    """It does not open, and lets go of what it has begun."""
    file = str(tmp_path / "ledger.db")
    with pytest.raises(LedgerError):
        await SqliteLedger.opened(file, max_bytes=20_000)
    ledger = await SqliteLedger.opened(file)
    await unchanged(ledger, tasks=0)
    await ledger.close()


async def test_probes_leave_nothing(ledger):
    """However often it is asked, the file does not grow."""
    assert ledger._connection is not None
    await ledger.commit([])
    before = ledger._connection.execute("PRAGMA page_count").fetchone()
    for _ in range(20):
        await ledger.commit([])
    assert ledger._connection.execute("PRAGMA page_count").fetchone() == before


async def test_batch_with_everything_that_can_go_wrong(ledger):
    """Each command comes to its own outcome, and the memory of the ledger agrees with its file."""
    (record,) = await stored(ledger, accept(1, key=a_key()))
    leased = await moved(ledger, record, Step.LEASE)
    batch = [
        accept(2, key=a_key()),
        accept(3, key=a_key(fingerprint="body-2")),
        accept(4, payload={"x": object()}),
        move(record, Step.CANCEL),
        accept(5, limit=1),
        accept(1),
        accept(6, priority=Priority.LOW, limit=1),
        accept(7, priority=Priority.LOW, limit=1),
        move(leased, Step.SUCCEED, output=1),
        accept(8, limit=1),
    ]
    expected = ["Duplicate", "Reused", "Failed", "Stale", "Full", "Failed", "Accepted", "Full", "Moved", "Accepted"]
    assert kinds(await ledger.commit(batch)) == expected
    assert ledger.depths() == await recount(ledger)
    assert len(await trail(ledger)) == 5


async def test_caller_cancelled_during_the_commit(ledger):
    """It waits until the batch is on the disk, and only then goes."""
    gate = Gate()
    real = put_before(ledger, gate)
    gone = False

    async def commit() -> None:
        nonlocal gone
        try:
            await ledger.commit([accept(1)])
        finally:
            gone = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit)
        await anyio.to_thread.run_sync(gate.reached.wait)
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            assert not gone
            gate.opened.set()
    ledger._connection = real
    await unchanged(ledger, tasks=1)


@pytest.mark.parametrize("close", [True, False])
async def test_caller_cancelled_natively_during_the_commit(ledger, file, close):
    """asyncio's own cancellation (Ctrl-C) waits for nobody; what comes next on the connection does."""
    gate = Gate()
    real = put_before(ledger, gate)
    caller = asyncio.create_task(ledger.commit([accept(1)]))
    await anyio.to_thread.run_sync(gate.reached.wait)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    nexts = asyncio.create_task(ledger.close() if close else one(ledger, accept(2)))
    # Long enough for a thread to run into the other one, if nothing held it up.
    await asyncio.sleep(0.05)
    assert not nexts.done()
    assert real.in_transaction
    gate.opened.set()
    outcome = await nexts
    if close:
        ledger = await SqliteLedger.opened(file)
    else:
        ledger._connection = real
        assert isinstance(outcome, Accepted)
    await unchanged(ledger, tasks=1 if close else 2)
    await ledger.close()
