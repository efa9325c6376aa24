"""What can happen to a ledger that replicas share over a network. The contract itself is in test_ledgers.py."""

import asyncio
import random
import time
from contextlib import asynccontextmanager, suppress
from io import BytesIO

import anyio
import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import pytest
from ledger_builders import (
    NOW,
    a_key,
    accept,
    draft,
    kinds,
    move,
    moved,
    one,
    read,
    recount,
    stored,
    task_id,
    trail,
)
from ports import reserved_port
from postgres_server import Server
from proxy import Proxy

from orchestrator import auditing
from orchestrator.crypto.signing import Signer
from orchestrator.domain.audit import flaws
from orchestrator.domain.checkpoint import checkpoint
from orchestrator.domain.lifecycle import State, Step
from orchestrator.domain.task import Priority
from orchestrator.embedding import Orchestrator
from orchestrator.settings import load
from orchestrator.storage.commands import Accepted, Duplicate, Moved, Note
from orchestrator.storage.opening import UnsupportedURL, latest_version, open_ledger, open_reader
from orchestrator.storage.ports import (
    AuditQuery,
    CommitUnknown,
    Depths,
    LedgerCorrupt,
    NotCommitted,
    SchemaTooNew,
    Unreadable,
)
from orchestrator.storage.postgres import ledger as ledger_module
from orchestrator.storage.postgres.ledger import PostgresLedger
from orchestrator.testing import ScriptedAgents, a_request, an_agent, check_history

pytestmark = pytest.mark.anyio

READY_WITHIN_S = 10.0
AT_ONCE_S = 2.5
A_KEY = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
"""
WRITERS = (
    "SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database"
    " WHERE locktype = 'advisory' AND datname = '{}'"
)
OURS = "SELECT pid, state FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'orchestrator'"


@pytest.fixture
async def database(postgres):
    return await postgres.new_database()


@pytest.fixture
async def ledger(postgres, database):
    async with opened(postgres, database) as ledger:
        yield ledger


@asynccontextmanager
async def opened(server: Server, database: str, writer="clinic", port=None, now=time.time):
    ledger = await PostgresLedger.opened(server.url(database, port), writer, now)
    try:
        yield ledger
    finally:
        await ledger.close()


@asynccontextmanager
async def replicas(server: Server, database: str, number: int):
    """So many ledgers on one database."""
    ledgers = [await PostgresLedger.opened(server.url(database), "clinic", time.time) for _ in range(number)]
    try:
        yield ledgers
    finally:
        for ledger in ledgers:
            await ledger.close()


async def until_ready(ledger: PostgresLedger) -> None:
    """As the audit writer's probe does."""
    with anyio.fail_after(READY_WITHIN_S):
        while True:
            try:
                await ledger.commit([])
            except NotCommitted:
                await anyio.sleep(0.05)
            else:
                return


async def until_waiting(server: Server, database: str) -> int:
    """The server process of ours that waits for a lock."""
    statement = OURS.format(database) + " AND wait_event_type = 'Lock'"
    with anyio.fail_after(READY_WITHIN_S):
        while not (found := await server.execute(statement)):  # noqa: ASYNC110 - it happens in the server
            await anyio.sleep(0.01)
    return found[0]["pid"]


@asynccontextmanager
async def locked(server: Server, database: str):
    """The book is in the hands of somebody who is in the middle of a batch."""
    other = await asyncpg.connect(server.url(database))
    try:
        async with other.transaction():
            await other.fetch("SELECT FROM book FOR UPDATE")
            yield
    finally:
        await other.close()


async def stop_between_two_commits(server: Server, database: str) -> None:
    """A COMMIT that is under way at a stop is a thing of its own; whoever has the book keeps others from theirs."""
    other = await asyncpg.connect(server.url(database))
    await other.execute("BEGIN")
    await other.fetch("SELECT FROM book FOR UPDATE")
    await anyio.to_thread.run_sync(server.stop)
    other.terminate()


async def without_triggers(server: Server, database: str) -> None:
    """As somebody does who owns the tables, and knows that the triggers are in the way."""
    for function in ("audit_refuse", "audit_removal"):
        await server.execute(f"DROP FUNCTION {function}() CASCADE", database)


async def check_chains(ledger: PostgresLedger) -> dict[str, int]:
    """How long each chain is, after checking that all are whole."""
    lengths: dict[str, int] = {}
    for head in await ledger.audit_heads():
        entries = [entry async for entry in ledger.audit_chain(head.writer)]
        assert list(flaws(entries, head)) == []
        lengths[head.writer] = len(entries)
    return lengths


class TestTheServer:
    async def test_killed_between_two_commits(self, ledger, postgres, database):
        """The next commit, or the one after, is on a new connection; the name and its chain go on."""
        await stored(ledger, accept(1))
        for (pid,) in await postgres.execute(WRITERS.format(database)):
            await postgres.execute(f"SELECT pg_terminate_backend({pid})")
        await until_ready(ledger)
        await stored(ledger, accept(2))
        assert ledger.writer == "clinic"
        assert len(await trail(ledger)) == 2

    async def test_killed_in_the_middle_of_a_batch(self, ledger, postgres, database):
        """The batch is not stored, and that is what it says."""
        await stored(ledger, accept(1))
        refused: list[NotCommitted] = []

        async def commit():
            try:
                await ledger.commit([accept(2), accept(3)])
            except NotCommitted as error:
                refused.append(error)

        async with locked(postgres, database), anyio.create_task_group() as group:
            group.start_soon(commit)
            pid = await until_waiting(postgres, database)
            await postgres.execute(f"SELECT pg_terminate_backend({pid})")
        assert len(refused) == 1
        await until_ready(ledger)
        assert await ledger.task(task_id(2)) is None
        await stored(ledger, accept(2))
        assert len(await trail(ledger)) == 2

    async def test_held_up_by_a_replica_that_stands_still(self, ledger, postgres, database):
        """For seconds, not for good; it says that nothing is stored, and keeps its connection."""
        async with locked(postgres, database):
            with anyio.fail_after(4.0), pytest.raises(NotCommitted, match="55P03"):
                await ledger.commit([accept(1)])
        await stored(ledger, accept(1))
        assert len(await trail(ledger)) == 1

    async def test_restarted(self, ledger, postgres):
        """What was acknowledged is there. Meanwhile all is refused at once; then it is ready within ten seconds."""
        (record,) = await stored(ledger, accept(1))
        await ledger.task(task_id(1))
        await anyio.to_thread.run_sync(postgres.stop)
        try:
            for _ in range(3):
                with anyio.fail_after(AT_ONCE_S), pytest.raises(NotCommitted):
                    await ledger.commit([accept(2)])
                with anyio.fail_after(AT_ONCE_S), pytest.raises(Unreadable):
                    await ledger.task(task_id(1))
        finally:
            await anyio.to_thread.run_sync(postgres.start)
        await until_ready(ledger)
        assert await read(ledger, record) == record
        await stored(ledger, accept(2))
        assert (await check_chains(ledger)) == {"clinic": 2}
        assert ledger.depths() == await recount(ledger)

    async def test_read_only_and_back(self, ledger, postgres):
        """A primary that was demoted takes no commit, but is read; promoted again, it is ready within ten seconds."""
        (record,) = await stored(ledger, accept(1))
        await postgres.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        try:
            await postgres.execute("SELECT pg_reload_conf()")
            with anyio.fail_after(READY_WITHIN_S):
                while True:
                    try:
                        await ledger.commit([])
                    except NotCommitted:
                        break
            with anyio.fail_after(AT_ONCE_S), pytest.raises(NotCommitted):
                await ledger.commit([accept(2)])
            assert await read(ledger, record) == record
        finally:
            await postgres.execute("ALTER SYSTEM RESET default_transaction_read_only")
            await postgres.execute("SELECT pg_reload_conf()")
        await until_ready(ledger)
        await stored(ledger, accept(2))
        assert len(await trail(ledger)) == 2

    async def test_away_at_the_start(self, postgres):
        """It is said without the password."""
        for url in (postgres.url("postgres", reserved_port()), postgres.url("no_such_database")):
            with anyio.fail_after(AT_ONCE_S), pytest.raises(Unreadable) as raised:
                await open_ledger(url)
            assert "hunter2" not in str(raised.value) + repr(raised.value)
        with pytest.raises(UnsupportedURL) as refused:
            await open_ledger("postgresql://tests:hunter2@127.0.0.1:port/postgres")
        assert "hunter2" not in "".join(map(str, [refused.value, refused.value.__cause__]))


class TestTheAnswerToACommit:
    @pytest.fixture
    async def proxy(self, postgres):
        async with Proxy(postgres.port) as proxy:
            yield proxy

    async def test_lost_after_the_commit_arrived(self, postgres, database, proxy):
        """It is found on another connection that all is stored; the caller never hears of it."""
        async with opened(postgres, database, port=proxy.port) as ledger:
            for number in range(1, 6):
                await until_ready(ledger)
                proxy.cut = "after"
                await stored(ledger, accept(number))
                assert proxy.cuts == number
            await until_ready(ledger)
            assert ledger.writer == "clinic"
            assert len(await trail(ledger)) == 5
            assert ledger.depths() == await recount(ledger)

    async def test_lost_before_the_commit_arrived(self, postgres, database, proxy):
        """It is found that nothing is stored, and nothing of it appears afterwards."""
        async with opened(postgres, database, port=proxy.port) as ledger:
            for number in range(1, 4):
                proxy.cut = "before"
                with pytest.raises(NotCommitted):
                    await ledger.commit([accept(number)])
                assert proxy.cuts == number
                await until_ready(ledger)
                assert await ledger.task(task_id(number)) is None
                await stored(ledger, accept(number))
            assert len(await trail(ledger)) == 3

    @pytest.mark.parametrize("cut", ["before", "after"])
    async def test_lost_for_what_writes_no_audit(self, postgres, database, proxy, cut):
        """A probe too is told truthfully."""
        async with opened(postgres, database, port=proxy.port) as ledger:
            proxy.cut = cut
            if cut == "after":
                assert await ledger.commit([]) == []
            else:
                with pytest.raises(NotCommitted):
                    await ledger.commit([])

    async def test_lost_for_good(self, postgres, database, proxy, monkeypatch):
        """When nobody can be asked it is unknown, and stays so: only a new start reads what is there."""
        monkeypatch.setattr(ledger_module, "RESOLVE_S", 0.5)
        async with opened(postgres, database, port=proxy.port) as ledger:
            proxy.cut, proxy.refusing_after_cut = "after", True
            with pytest.raises(CommitUnknown):
                await ledger.commit([accept(1)])
            proxy.refusing = False
            with pytest.raises(CommitUnknown):
                await ledger.commit([])


class TestReplicas:
    async def test_one_key_sixty_four_times(self, postgres, database):
        """One task, whoever asks first; all others are told of it."""
        async with replicas(postgres, database, 4) as ledgers:
            outcomes = []

            async def race(number, ledger):
                for turn in range(4):
                    first = number * 16 + turn * 4
                    outcomes.extend(await ledger.commit([accept(first + i, key=a_key()) for i in range(4)]))

            async with anyio.create_task_group() as group:
                for number, ledger in enumerate(ledgers):
                    group.start_soon(race, number, ledger)
            (accepted,) = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
            duplicates = [outcome for outcome in outcomes if isinstance(outcome, Duplicate)]
            assert len(duplicates) == 63
            assert {outcome.record.task.task_id for outcome in duplicates} == {accepted.record.task.task_id}
            assert await ledgers[0].tasks(State.QUEUED) == [accepted.record]

    async def test_each_has_a_chain(self, postgres, database):
        """Names are told apart by a number, every chain is whole, and pages pass over nothing while all write."""
        async with replicas(postgres, database, 3) as ledgers:
            assert [ledger.writer for ledger in ledgers] == ["clinic", "clinic-2", "clinic-3"]
            seen: list[tuple[str, int]] = []

            async def follow(scope):
                cursor = 0
                while len(seen) < 60:
                    page = await ledgers[0].audit(AuditQuery(after=cursor, limit=7))
                    seen.extend((entry.writer, entry.seq) for entry in page.entries)
                    cursor = page.next or cursor + len(page.entries)
                scope.cancel()

            async def write(ledger):
                for _ in range(20):
                    await ledger.commit([Note(draft("note"))])

            with anyio.fail_after(30):
                async with anyio.create_task_group() as group:
                    group.start_soon(follow, anyio.CancelScope())
                    for ledger in ledgers:
                        group.start_soon(write, ledger)
            assert await check_chains(ledgers[1]) == {"clinic": 20, "clinic-2": 20, "clinic-3": 20}
            assert sorted(seen) == [(ledger.writer, seq) for ledger in ledgers for seq in range(1, 21)]

    async def test_name_of_one_that_left(self, postgres, database):
        """The next to come has it, and goes on with its chain."""
        async with opened(postgres, database) as first:
            async with opened(postgres, database) as second:
                await second.commit([Note(draft("note"))])
            async with opened(postgres, database) as third:
                assert (first.writer, third.writer) == ("clinic", "clinic-2")
                await third.commit([Note(draft("note"))])
                assert await check_chains(first) == {"clinic-2": 2}

    async def test_one_lease_for_all(self, postgres, database):
        """One of them gets it."""
        async with replicas(postgres, database, 4) as ledgers:
            (record,) = await stored(ledgers[0], accept(1))
            outcomes = []

            async def lease(ledger):
                outcomes.append(await one(ledger, move(record, Step.LEASE)))

            async with anyio.create_task_group() as group:
                for ledger in ledgers:
                    group.start_soon(lease, ledger)
            assert sorted(kinds(outcomes)) == ["Moved", "Stale", "Stale", "Stale"]

    @pytest.mark.parametrize("step", [Step.COME_DUE, Step.LOSE, Step.EXPIRE])
    async def test_janitors_of_all_at_once(self, postgres, database, step):
        """Whatever time brings for a task, one of them does it, once."""
        async with replicas(postgres, database, 4) as ledgers:
            records = await stored(ledgers[0], *(accept(number) for number in range(1, 21)))
            if step is not Step.EXPIRE:
                records = [await moved(ledgers[0], record, Step.LEASE) for record in records]
            if step is Step.COME_DUE:
                records = [await moved(ledgers[0], record, Step.RETRY) for record in records]
            outcomes = []

            async def sweep(ledger):
                outcomes.extend(await ledger.commit([move(record, step) for record in records]))

            async with anyio.create_task_group() as group:
                for ledger in ledgers:
                    group.start_soon(sweep, ledger)
            assert sorted(kinds(outcomes)) == ["Moved"] * 20 + ["Stale"] * 60
            told = [entry.task_id for entry in await everything(ledgers[0]) if entry.event == step.value]
            assert sorted(map(str, told)) == sorted(record.task.task_id for record in records)

    async def test_bound_of_a_class(self, postgres, database):
        """It is one for all of them, at every moment."""
        async with replicas(postgres, database, 4) as ledgers:
            outcomes = []

            async def fill(number, ledger):
                for i in range(10):
                    outcomes.append(await one(ledger, accept(number * 10 + i, limit=13)))

            async with anyio.create_task_group() as group:
                for number, ledger in enumerate(ledgers):
                    group.start_soon(fill, number, ledger)
            assert kinds(outcomes).count("Accepted") == 13
            assert [record.seq for record in await ledgers[0].tasks(State.QUEUED)] == list(range(1, 14))

    async def test_counts_of_one_that_only_reads(self, postgres, database, monkeypatch):
        """It hears of what the others did."""
        monkeypatch.setattr(ledger_module, "COUNTS_S", 0.0)
        async with replicas(postgres, database, 2) as (first, second):
            await stored(first, accept(1), accept(2))
            assert second.depths()[Priority.NORMAL] == Depths()
            await second.lanes()
            assert second.depths() == first.depths() == await recount(first)

    async def test_opened_all_at_once(self, postgres, database):
        """The schema is made once, and each gets a name of its own."""
        ledgers: list[PostgresLedger] = []

        async def start():
            ledgers.append(await PostgresLedger.opened(postgres.url(database), "clinic", time.time))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(start)
        assert sorted(ledger.writer or "" for ledger in ledgers) == ["clinic", "clinic-2", "clinic-3", "clinic-4"]
        for ledger in ledgers:
            await stored(ledger, accept(ledgers.index(ledger) + 1))
            await ledger.close()

    @pytest.mark.parametrize("ahead", [1000.0, -1000.0, 0.07])
    async def test_clock_that_is_wrong(self, postgres, database, ahead):
        """Leases and waits end by the database's clock, whatever the clock of who wrote them, who sees his own."""

        def wrong():
            return time.time() + ahead

        async with opened(postgres, database, now=wrong) as first, opened(postgres, database) as second:
            written = wrong()
            (record,) = await stored(first, accept(1, deadline_at=written + 3600.0))
            leased = await moved(first, record, Step.LEASE, at=written)
            assert await read(first, record) == leased
            seen = await read(second, record)
            assert seen.progress.lease_until == pytest.approx(written - ahead + 10.0, abs=0.5)
            assert await second.lapsed(written - ahead + 9.0, 9) == [] == await first.lapsed(written + 9.0, 9)
            assert await second.lapsed(written - ahead + 11.0, 9) == [seen]
            assert await first.lapsed(written + 11.0, 9) == [leased]
            waiting = await moved(first, leased, Step.RETRY, at=written)
            assert (await second.due(written - ahead + 11.0, 9))[0].seq == record.seq
            assert await first.next_due() == waiting.progress.due_at
            theirs = await read(second, record)
            assert isinstance(await one(second, move(theirs, Step.COME_DUE)), Moved)


class TestTheDatabase:
    async def test_of_a_newer_program(self, postgres, database):
        """It is not touched."""
        async with opened(postgres, database):
            pass
        await postgres.execute("UPDATE schema_version SET version = 99", database)
        with pytest.raises(SchemaTooNew):
            await open_ledger(postgres.url(database))

    async def test_of_something_else(self, postgres, database):
        """It is left as it was."""
        await postgres.execute("CREATE TABLE tasks (title text)", database)
        with pytest.raises(LedgerCorrupt):
            await open_ledger(postgres.url(database))
        assert len(await postgres.execute("SELECT FROM pg_tables WHERE schemaname = 'public'", database)) == 1

    async def test_whose_trail_was_cut(self, postgres, database):
        """Nothing is chained to it."""
        async with opened(postgres, database) as ledger:
            await stored(ledger, accept(1), accept(2))
        await without_triggers(postgres, database)
        await postgres.execute("DELETE FROM audit_entries WHERE seq = 2", database)
        with pytest.raises(LedgerCorrupt):
            await PostgresLedger.opened(postgres.url(database), "clinic", time.time)

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE audit_entries SET reason = 'nice' WHERE seq = 2",
            "DELETE FROM audit_entries WHERE seq = 2",
            "TRUNCATE audit_entries",
            "INSERT INTO audit_entries TABLE audit_entries ON CONFLICT (position) DO UPDATE SET reason = 'nice'",
            "DELETE FROM audit_heads",
            "UPDATE audit_heads SET seq = seq - 1",
            "UPDATE audit_heads SET entry_hash = ''",
            "TRUNCATE audit_heads",
        ],
    )
    async def test_trail_only_grows(self, postgres, database, statement):
        """Whoever tries to change or remove an entry by SQL is refused, the server's owner as well."""
        async with opened(postgres, database) as ledger:
            await stored(ledger, accept(1), accept(2))
            before = await trail(ledger)
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only grows"):
                await postgres.execute(statement, database)
            await stored(ledger, accept(3))
            assert (await trail(ledger))[:2] == before

    async def test_replicas_testify_to_each_other(self, postgres, database):
        """A checkpoint of one names the ends of all chains: what it names of another's cannot be cut off, unseen."""
        url = postgres.url(database)
        async with opened(postgres, database) as ledger, opened(postgres, database) as other:
            await stored(other, accept(1), accept(2))
            await stored(ledger, accept(3))
            signer = Signer(A_KEY)
            draft = checkpoint(await ledger.audit_heads(), NOW, signer.public_key, signer.sign)
            await one(ledger, Note(draft))
        report = await auditing.verify(url, public_keys=[signer.public_key])
        assert (report.flaws, report.signed) == ([], {"clinic": 1, "clinic-2": 2})
        await without_triggers(postgres, database)
        await postgres.execute("DELETE FROM audit_entries WHERE writer = 'clinic-2' AND seq = 2", database)
        entry = "(SELECT entry_hash FROM audit_entries WHERE writer = 'clinic-2')"
        await postgres.execute(
            f"UPDATE audit_heads SET seq = 1, entry_hash = {entry} WHERE writer = 'clinic-2'", database
        )
        (flaw,) = (await auditing.verify(url, public_keys=[signer.public_key])).flaws
        assert (flaw.writer, flaw.seq) == ("clinic-2", 2)

    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
    async def test_by_any_of_its_names(self, postgres, database, scheme):
        """They are one."""
        ledger = await open_ledger(postgres.url(database, scheme=scheme), writer="clinic")
        await stored(ledger, accept(1))
        await ledger.close()
        assert not ledger.exclusive

    async def test_on_the_second_of_two_hosts(self, postgres, database):
        """The one that answers, and can be written, is taken."""
        hosts = f"127.0.0.1:{reserved_port()},127.0.0.1:{postgres.port}"
        ledger = await open_ledger(f"postgresql://tests@{hosts}/{database}", writer="clinic")
        await stored(ledger, accept(1))
        await ledger.close()

    async def test_audited_beside_a_running_ledger(self, ledger, postgres, database):
        """The trail is shown, verified and exported; a reader sees one moment, and a change of the trail is found."""
        url = postgres.url(database)
        await stored(ledger, accept(1), accept(2))
        reader = await open_reader(url)
        await stored(ledger, accept(3))
        assert len(await trail(reader)) == 2
        await reader.close()
        assert len((await auditing.entries(url, query=AuditQuery(limit=9)))[0]) == 3
        assert (await auditing.verify(url)).flaws == []
        output = BytesIO()
        await auditing.export(url, output=output)
        assert len(output.getvalue().splitlines()) == 3
        record = await ledger.task(task_id(3))
        assert record is not None
        leased = await moved(ledger, record, Step.LEASE)
        (given,), _ = await auditing.case(url, case_id=record.task.case_id)
        assert (given.task_id, given.agent_id) == (task_id(3), leased.progress.agent_id)
        assert await auditing.create_tables(url) == latest_version(url)
        await without_triggers(postgres, database)
        await postgres.execute("UPDATE audit_entries SET reason = 'nice' WHERE seq = 2", database)
        assert [flaw.seq for flaw in (await auditing.verify(url)).flaws] == [2]

    @pytest.mark.parametrize("bad", [{"case_id": "a\0b"}, {"traceparent": "k\0"}])
    async def test_value_that_only_this_database_refuses(self, ledger, bad):
        """It fails alone."""
        outcomes = await ledger.commit([accept(1), accept(2, **bad), accept(3)])
        assert kinds(outcomes) == ["Accepted", "Failed", "Accepted"]
        assert len(await trail(ledger)) == 2

    async def test_one_bad_command_among_many(self, ledger):
        """The others are applied in their order."""
        await stored(ledger, accept(1000, key=a_key()))
        batch = [accept(number, key=a_key() if number == 137 else None) for number in range(1, 257)]
        outcomes = await ledger.commit(batch)
        assert [number for number, kind in enumerate(kinds(outcomes), 1) if kind != "Accepted"] == [137]
        seqs = [outcome.record.seq for outcome in outcomes if isinstance(outcome, Accepted)]
        assert seqs == list(range(2, 257))


class TestCallersThatAreCancelled:
    @pytest.fixture
    async def ledger(self, postgres, database):
        # Where TLS may be asked for, a connection of asyncpg that is cancelled meanwhile leaves a future with an error.
        url = postgres.url(database) + "?sslmode=disable"
        ledger = await PostgresLedger.opened(url, "clinic", time.time)
        yield ledger
        await ledger.close()

    async def test_at_any_moment(self, ledger, postgres, database):
        """No transaction stays open, no connection leaks, nothing is stored by half, and no answer goes astray."""
        chance = random.Random(7)
        await stored(ledger, accept(1), accept(2))

        async def commit(number):
            outcomes = await ledger.commit([accept(number), Note(draft("note"))])
            assert kinds(outcomes) == ["Accepted", "Noted"]

        async def look():
            found = await asyncio.gather(ledger.task(task_id(1)), ledger.audit(AuditQuery(limit=3)))
            assert found[0].task.task_id == task_id(1)
            assert len(found[1].entries) <= 3

        for number in range(10, 210):
            task = asyncio.create_task(commit(number) if chance.random() < 0.5 else look())
            if chance.random() < 0.5:
                for _ in range(chance.randrange(30)):
                    await asyncio.sleep(0)
            else:
                await asyncio.sleep(chance.random() * 0.02)
            task.cancel()
            with suppress(asyncio.CancelledError, NotCommitted):
                await task
        await until_ready(ledger)
        await check_chains(ledger)
        assert ledger.depths() == await recount(ledger)
        accepted = [entry for entry in await everything(ledger) if entry.event == "accepted"]
        assert len(accepted) == len(await ledger.tasks(State.QUEUED, limit=999))
        assert "0 of 4 in use" in repr(ledger._pool)
        with anyio.fail_after(READY_WITHIN_S):
            while True:
                states = [state for _, state in await postgres.execute(OURS.format(database))]
                if len(states) <= 5 and set(states) == {"idle"}:
                    break
                await anyio.sleep(0.05)

    async def test_in_a_scope(self, ledger):
        """A commit is finished first, and stored."""
        with anyio.move_on_after(0) as scope:
            await ledger.commit([accept(1)])
        assert scope.cancel_called
        assert await ledger.task(task_id(1)) is not None


async def everything(ledger: PostgresLedger):
    return [entry for head in await ledger.audit_heads() async for entry in ledger.audit_chain(head.writer)]


class TestTheOrchestrator:
    def orchestrator(self, server: Server, database: str, agents: ScriptedAgents, **environ: str) -> Orchestrator:
        stores = {"DATABASE_URL": server.url(database), "ORCHESTRATOR_STORAGE_WRITER": "clinic"}
        settings = load(environ=stores | environ)
        return Orchestrator(settings, client=agents)

    async def test_runs_on_it(self, postgres, database):
        """Tasks are done, also those that were accepted before a restart, by one chain that tells of all."""
        async with self.orchestrator(postgres, database, ScriptedAgents()) as system:
            waiting = await system.route(a_request("embed"))
        async with self.orchestrator(postgres, database, ScriptedAgents()) as system:
            await system.gateway.register(an_agent())
            routed = [waiting, *[await system.route(a_request("embed")) for _ in range(5)]]
            for one_of_them in routed:
                record = await system.gateway.task(one_of_them.record.task.task_id, 20.0)
                assert record.progress.state is State.SUCCEEDED
        async with opened(postgres, database) as ledger:
            assert len(await check_history(ledger)) == 6
            assert list(await check_chains(ledger)) == ["clinic"]

    async def test_outlives_its_server(self, postgres, database):
        """While the database is away it refuses and waits, no actor gives up; afterwards it goes on by itself."""
        from orchestrator.domain.errors import AuditUnavailable

        async with self.orchestrator(postgres, database, ScriptedAgents()) as system:
            await system.gateway.register(an_agent())
            await stop_between_two_commits(postgres, database)
            try:
                with anyio.move_on_after(6):
                    while True:
                        with pytest.raises(AuditUnavailable):
                            await system.route(a_request("embed"))
                        with pytest.raises(AuditUnavailable):
                            await system.gateway.task(task_id(1))
                        await anyio.sleep(0.2)
                assert [child.name for child in system.status() if child.restarts] == []
            finally:
                await anyio.to_thread.run_sync(postgres.start)
            with anyio.fail_after(READY_WITHIN_S):
                while True:
                    try:
                        routed = await system.route(a_request("embed"))
                        break
                    except AuditUnavailable:
                        await anyio.sleep(0.1)
            record = await system.gateway.task(routed.record.task.task_id, 20.0)
            assert record.progress.state is State.SUCCEEDED

    async def test_two_on_one_database(self, postgres, database):
        """What one accepts the other does, if only the other has an agent for it; each writes a chain of its own."""
        idle, busy = ScriptedAgents(), ScriptedAgents()
        alone = {"ORCHESTRATOR_REGISTRY_BACKEND": "memory"}
        async with (
            self.orchestrator(postgres, database, idle, **alone) as accepting,
            self.orchestrator(postgres, database, busy, **alone) as working,
        ):
            await working.gateway.register(an_agent())
            routed = [await accepting.route(a_request("embed")) for _ in range(5)]
            for one_of_them in routed:
                record = await accepting.gateway.task(one_of_them.record.task.task_id, 20.0)
                assert record.progress.state is State.SUCCEEDED
        assert (len(idle.calls), len(busy.calls)) == (0, 5)
        async with opened(postgres, database) as ledger:
            assert list(await check_chains(ledger)) == ["clinic", "clinic-2"]

    async def test_leaves_the_leases_of_other_replicas_alone(self, postgres, database):
        """At its start it takes back nothing: they may still be at work."""
        async with opened(postgres, database) as ledger:
            now = time.time()
            (record,) = await stored(ledger, accept(1, deadline_at=now + 3600.0))
            leased = await moved(ledger, record, Step.LEASE, at=now + 3600.0)
            async with self.orchestrator(postgres, database, ScriptedAgents()) as system:
                assert (await system.gateway.task(task_id(1))).progress.state is State.LEASED
            assert await read(ledger, record) == leased
