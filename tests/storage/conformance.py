"""What every ledger promises. A ledger's tests subclass LedgerContract and say what a store of its kind is.

See `test_ledgers.py`. A ledger that forgets with its process answers `open` with the same object again.
"""

from datetime import UTC, datetime
from typing import Any, Protocol

import anyio
import pytest
from anyio.lowlevel import checkpoint
from conformance_anchors import Anchoring
from conformance_browsing import Looking
from conformance_consents import Consents
from conformance_crowds import InCrowds
from conformance_erasure import Erasing
from conformance_outbox import Telling
from conformance_retention import Removing
from conformance_webhooks import CallingBack
from hypothesis import HealthCheck, given, settings
from ledger_builders import (
    LANE,
    NOW,
    a_key,
    a_task,
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
from ledger_lives import live, lives
from msgspec.structs import replace

from orchestrator.domain.agent import Agent, Sighting
from orchestrator.domain.api_key import ApiKey
from orchestrator.domain.audit import head_of, rfc3339
from orchestrator.domain.identity import Scope
from orchestrator.domain.lifecycle import Progress, State, Step
from orchestrator.domain.task import Consent, Priority
from orchestrator.storage.commands import (
    Accept,
    Accepted,
    Duplicate,
    ExpireKeys,
    Failed,
    ForgetAgent,
    ForgetApiKey,
    Full,
    Moved,
    Note,
    Noted,
    Result,
    Reused,
    SaveAgent,
    SaveApiKey,
    Stale,
    TellSightings,
    Transition,
)
from orchestrator.storage.memory import MemoryLedger
from orchestrator.storage.ports import AuditQuery, Depths, Ledger, Ticket

pytestmark = pytest.mark.anyio

UNICODE = "Zoë 患者 🩺 \u202e '\";--"
FLOATS = [0.1, 1e-300, 1.7976931348623157e308, 5e-324, -2.5, 1.0, 123456789.12345679]
NESTED: dict[str, Any] = {"a": [{"b": [None, True, False, "", 0, -1, 2**53, FLOATS, {UNICODE: UNICODE}]}], "": {}}


class Store(Protocol):
    """Where ledgers of a kind live."""

    async def open(self, *, outbox: bool = False) -> Ledger:
        """A ledger with what this store holds."""
        ...

    def another(self) -> "Store":
        """An empty store."""
        ...


class Contract:
    """Fixtures for all of it; `store` is for the subclass to give."""

    @pytest.fixture
    async def ledger(self, store):
        ledger = await store.open()
        yield ledger
        await ledger.close()


class Accepting(Contract):
    async def test_task_with_everything(self, ledger, store):
        """What was accepted is read back exactly, now and after the ledger was opened again."""
        task = a_task(
            case_id=UNICODE,
            task_type="analyze_monitor",
            payload=NESTED,
            priority=Priority.HIGH,
            consent=Consent(True, UNICODE, datetime(2031, 2, 3, 4, 5, 6, 789, UTC)),
            meta={"site": "Graz-Süd", **NESTED},
            raw_media=True,
            created_at=NOW + 0.123456789,
            deadline_at=NOW + 1e-3,
            replay_of=task_id(77),
            principal=UNICODE,
        )
        progress = Progress(State.LEASED, 3, 2, 1, None, "agent-é", "boot-1", NOW + 0.1, ("a", "ü"), UNICODE)
        (record,) = await stored(ledger, Accept(task, progress, LANE, draft("accepted", task, progress)))
        assert (record.task, record.progress, record.updated_at, record.result) == (task, progress, NOW, None)
        assert await read(ledger, record) == record
        await ledger.close()
        again = await store.open()
        assert await read(again, record) == record
        await again.close()

    async def test_unknown_task(self, ledger):
        """There is nothing to read."""
        assert await ledger.task("task-unknown") is None

    async def test_order_of_acceptance(self, ledger):
        """`seq` grows with each task, over batches and whatever the class."""
        records = await stored(ledger, accept(1), accept(2, priority=Priority.URGENT))
        records += await stored(ledger, accept(3, priority=Priority.LOW))
        seqs = [record.seq for record in records]
        assert seqs == sorted(set(seqs))
        assert [record.seq for record in await ledger.tasks(State.QUEUED)] == seqs

    async def test_caller_changes_its_payload_afterwards(self, ledger):
        """The task stays as it was accepted."""
        payload = {"text": "hello"}
        (record,) = await stored(ledger, accept(payload=payload))
        payload["text"] = "changed"
        assert (await read(ledger, record)).task.payload == {"text": "hello"}

    async def test_same_task_id_twice(self, ledger):
        """The second fails, without a trace, and the first stays as it is."""
        (record,) = await stored(ledger, accept(1, case_id="first"))
        outcomes = await ledger.commit([accept(1, case_id="second"), accept(2)])
        assert kinds(outcomes) == ["Failed", "Accepted"]
        assert await read(ledger, record) == record
        assert len(await trail(ledger)) == 2


class Keys(Contract):
    async def test_same_request_again(self, ledger):
        """It is a duplicate of the first task, as that is by now, with its result; no second task, no audit entry."""
        (record,) = await stored(ledger, accept(1, key=a_key()))
        receipt = head_of((await trail(ledger))[0])
        assert await one(ledger, accept(2, key=a_key())) == Duplicate(record, receipt)
        done = await moved(ledger, record, Step.LEASE, Step.SUCCEED, output={"score": 0.1})
        assert done.result is not None
        assert await one(ledger, accept(3, key=a_key())) == Duplicate(done, receipt)
        assert await ledger.task(task_id(2)) is None
        assert [entry.event for entry in await trail(ledger)] == ["accepted", "leased", "succeeded"]

    async def test_same_request_again_where_the_glass_was_broken(self, ledger):
        """The receipt of the duplicate is that of the acceptance, not of the entry that stands before it."""
        request = accept(1, key=a_key())
        broken = replace(request, override=draft("consent_overridden", request.task))
        accepted = await one(ledger, broken)
        assert isinstance(accepted, Accepted)
        assert [entry.event for entry in await trail(ledger)] == ["consent_overridden", "accepted"]
        assert accepted.receipt == head_of((await trail(ledger))[1])
        again = replace(broken, task=replace(broken.task, task_id=task_id(2)))
        assert await one(ledger, again) == Duplicate(accepted.record, accepted.receipt)

    async def test_another_request_under_the_key(self, ledger):
        """It is refused, and nothing of it is stored."""
        await stored(ledger, accept(1, key=a_key()))
        assert await one(ledger, accept(2, key=a_key(fingerprint="body-2"))) == Reused()
        assert await ledger.task(task_id(2)) is None
        assert len(await trail(ledger)) == 1

    async def test_same_key_in_another_scope(self, ledger):
        """It is another key."""
        await stored(ledger, accept(1, key=a_key()), accept(2, key=a_key(fingerprint="body-2", scope="clinic")))

    async def test_within_one_batch(self, ledger):
        """The first of the batch has the key, the others meet it, and those without are not touched."""
        commands = [
            accept(1, key=a_key()),
            accept(2, key=a_key()),
            accept(3),
            accept(4, key=a_key(fingerprint="body-2")),
            accept(5, key=a_key("key-2")),
        ]
        outcomes = await ledger.commit(commands)
        assert kinds(outcomes) == ["Accepted", "Duplicate", "Accepted", "Reused", "Accepted"]
        assert isinstance(outcomes[1], Duplicate)
        assert outcomes[1].record.task.task_id == task_id(1)
        assert [entry.task_id for entry in await trail(ledger)] == [task_id(1), task_id(3), task_id(5)]

    async def test_published_expiry(self, ledger):
        """Up to it the key stands for its request, from it on it is free, also for another one."""
        await stored(ledger, accept(1, key=a_key(expires_at=NOW + 10.0)))
        assert isinstance(await one(ledger, accept(2, key=a_key(), at=NOW + 9.999)), Duplicate)
        await stored(ledger, accept(3, key=a_key(fingerprint="body-2"), at=NOW + 10.0))
        assert isinstance(await one(ledger, accept(4, key=a_key(), at=NOW + 10.0)), Reused)

    async def test_keys_are_swept(self, ledger):
        """ExpireKeys frees what is over at its time, nothing else, and writes no audit entry."""
        first, second, third = a_key("1", expires_at=NOW + 1), a_key("2", expires_at=NOW + 2), a_key("3")
        await stored(ledger, accept(1, key=first), accept(2, key=second), accept(3, key=third))
        assert await one(ledger, ExpireKeys(NOW + 1.0)) == Noted()
        again = [accept(4, key=first), accept(5, key=second), accept(6, key=third)]
        assert kinds(await ledger.commit(again)) == ["Accepted", "Duplicate", "Duplicate"]
        assert len(await trail(ledger)) == 4

    @pytest.mark.parametrize("sweep_first", [True, False])
    async def test_sweep_and_key_in_one_batch(self, ledger, sweep_first):
        """A key that is accepted after the sweep stays; one that stands before it goes."""
        batch = [ExpireKeys(NOW + 9.0), accept(1, key=a_key(expires_at=NOW + 5.0))]
        await ledger.commit(batch if sweep_first else batch[::-1])
        outcome = await one(ledger, accept(2, key=a_key()))
        assert isinstance(outcome, Duplicate if sweep_first else Accepted)

    async def test_request_that_was_refused(self, ledger):
        """Its key stays free."""
        await stored(ledger, accept(1))
        assert isinstance(await one(ledger, accept(2, key=a_key(), limit=1)), Full)
        await stored(ledger, accept(3, key=a_key(fingerprint="body-2")))


class Bounds(Contract):
    async def test_full_class(self, ledger):
        """It takes as many as its limit, within a batch too. What is leased or waits counts; other classes do not."""
        first, second = await stored(ledger, accept(1, limit=2), accept(2, limit=2))
        await moved(ledger, first, Step.LEASE, Step.RETRY)
        await moved(ledger, second, Step.LEASE)
        commands = [
            accept(3, limit=2),
            accept(4, limit=2, priority=Priority.LOW),
            accept(5, limit=3),
            accept(6, limit=3),
        ]
        assert kinds(await ledger.commit(commands)) == ["Full", "Accepted", "Accepted", "Full"]
        assert await one(ledger, accept(7, limit=3)) == Full(Priority.NORMAL)
        assert (await one(ledger, accept(8))) != Full(Priority.NORMAL)
        assert await ledger.task(task_id(3)) is None
        assert len(await trail(ledger)) == 8

    async def test_place_of_a_finished_task(self, ledger):
        """It leaves room, in the same batch already."""
        (record,) = await stored(ledger, accept(1, limit=1))
        commands = [accept(2, limit=1), move(record, Step.CANCEL), accept(3, limit=1), accept(4, limit=1)]
        assert kinds(await ledger.commit(commands)) == ["Full", "Moved", "Accepted", "Full"]

    async def test_duplicate_when_full(self, ledger):
        """What was accepted before is answered, however full it is."""
        await stored(ledger, accept(1, key=a_key(), limit=1))
        assert isinstance(await one(ledger, accept(2, key=a_key(), limit=1)), Duplicate)

    async def test_depths(self, ledger, store):
        """They count what is ready and what is open in each class, and again so after the ledger was opened anew."""
        waiting = Progress(due_at=NOW + 5.0)
        records = await stored(
            ledger, accept(1), accept(2), accept(3, progress=waiting), accept(4, priority=Priority.LOW)
        )
        await moved(ledger, records[0], Step.LEASE)
        await moved(ledger, records[1], Step.CANCEL)
        expected = {p: Depths() for p in Priority} | {Priority.NORMAL: Depths(0, 2), Priority.LOW: Depths(1, 1)}
        assert ledger.depths() == expected == await recount(ledger)
        await ledger.close()
        again = await store.open()
        assert again.depths() == expected
        await again.close()


class Moving(Contract):
    async def test_life_of_a_task(self, ledger):
        """Each step changes the progress and nothing else."""
        (record,) = await stored(ledger, accept(1, payload=NESTED))
        life = [Step.LEASE, Step.MOVE, Step.RETRY, Step.COME_DUE, Step.LEASE, Step.LOSE, Step.LEASE, Step.SUCCEED]
        for number, step in enumerate(life, 1):
            outcome = await one(ledger, move(record, step, at=NOW + number, output=NESTED))
            assert isinstance(outcome, Moved)
            assert await read(ledger, record) == outcome.record
            assert (outcome.record.seq, outcome.record.task) == (record.seq, record.task)
            assert outcome.record.updated_at == NOW + number
            record = outcome.record
        assert record.progress.state is State.SUCCEEDED
        assert record.result == Result(4, "agent-1", NESTED, "model-1", NOW + 8)

    @pytest.mark.parametrize("output", [None, True, "", [], {}, 0, 0.1, UNICODE, NESTED])
    async def test_result(self, ledger, output):
        """It is read back exactly, with the task, but not in lists of tasks."""
        (record,) = await stored(ledger, accept(1))
        leased = await moved(ledger, record, Step.LEASE)
        assert (await read(ledger, record)).result is None
        done = await moved(ledger, leased, Step.SUCCEED, output=output)
        assert (await read(ledger, record)).result == Result(1, "agent-1", output, "model-1", NOW)
        assert await ledger.tasks(State.SUCCEEDED) == [replace(done, result=None)]

    async def test_two_moves_of_one_record(self, ledger):
        """In one batch or in two, exactly the first takes place; the other leaves no trace, not even its result."""
        (record,) = await stored(ledger, accept(1))
        leased = await moved(ledger, record, Step.LEASE)
        outcomes = await ledger.commit([move(leased, Step.RETRY), move(leased, Step.SUCCEED, output="late")])
        assert kinds(outcomes) == ["Moved", "Stale"]
        assert await one(ledger, move(leased, Step.CANCEL)) == Stale()
        found = await read(ledger, record)
        assert (found.progress.state, found.result) == (State.RETRY_WAIT, None)
        assert [entry.event for entry in await trail(ledger)] == ["accepted", "leased", "retry_scheduled"]

    async def test_coming_due_twice(self, ledger):
        """It takes place once, although it changes neither the state nor the attempt."""
        (record,) = await stored(ledger, accept(1, progress=Progress(due_at=NOW + 5.0)))
        outcomes = await ledger.commit([move(record, Step.COME_DUE), move(record, Step.COME_DUE)])
        assert kinds(outcomes) == ["Moved", "Stale"]
        assert await one(ledger, move(record, Step.LEASE)) == Stale()
        assert ledger.depths()[Priority.NORMAL] == Depths(1, 1)
        assert ledger.depths() == await recount(ledger)

    async def test_result_of_an_earlier_attempt(self, ledger):
        """It is fenced off: the task has moved on to another attempt."""
        (record,) = await stored(ledger, accept(1))
        first = await moved(ledger, record, Step.LEASE)
        second = await moved(ledger, first, Step.LOSE, Step.LEASE)
        assert await one(ledger, move(first, Step.SUCCEED, output="first")) == Stale()
        done = await moved(ledger, second, Step.SUCCEED, output="second")
        assert (await read(ledger, record)).result == done.result

    @pytest.mark.parametrize("end", [Step.SUCCEED, Step.GIVE_UP, Step.CANCEL, Step.EXPIRE, Step.DENY])
    async def test_finished_task(self, ledger, end):
        """It never changes again, whatever a command believes of it."""
        (record,) = await stored(ledger, accept(1))
        done = await moved(ledger, await moved(ledger, record, Step.LEASE), end, output=1)
        for believed in (done.progress, Progress(State.LEASED, 1), Progress(State.QUEUED, 1)):
            forged = Transition(replace(done, progress=believed), Progress(), draft("forged"), done.result)
            assert await one(ledger, forged) == Stale()
        assert await read(ledger, record) == done
        assert len(await trail(ledger)) == 3

    async def test_move_of_an_unknown_task(self, ledger):
        """Nothing moves, and the rest of the batch is applied."""
        (record,) = await stored(ledger, accept(1))
        ghost = replace(record, task=a_task(99))
        assert kinds(await ledger.commit([move(ghost, Step.LEASE), move(record, Step.LEASE)])) == ["Stale", "Moved"]

    async def test_accepted_and_moved_in_one_batch(self, ledger):
        """The commands take place in their order."""
        command = accept(1)
        record = replace((await stored(ledger, accept(2)))[0], task=command.task)
        early = move(replace(record, seq=record.seq + 1), Step.LEASE)
        assert kinds(await ledger.commit([early, command, early])) == ["Stale", "Accepted", "Moved"]
        assert ledger.depths() == await recount(ledger)


class Trail(Contract):
    async def test_latest(self, ledger):
        """The latest time that any entry names, in whatever order they were written; without one it is 0."""
        assert await ledger.latest() == 0.0
        await ledger.commit([Note(draft("noted", at=NOW + late)) for late in (1.0, 5.25, 2.0)])
        assert await ledger.latest() == NOW + 5.25

    async def test_entries(self, ledger):
        """Each field of a draft is in its entry, as it was given."""
        draft = replace(
            move((await stored(ledger, accept(1)))[0], Step.LEASE).audit, event=UNICODE, created_at=NOW + 0.5
        )
        draft = replace(
            draft, router_decision='{"a":"é"}', agent_id="a", model_version="m", consent_id="c", reason=UNICODE
        )
        await ledger.commit([Note(draft)])
        entry = (await trail(ledger))[-1]
        assert {name: getattr(entry, name) for name in draft.__struct_fields__ if name != "created_at"} == {
            name: getattr(draft, name) for name in draft.__struct_fields__ if name != "created_at"
        }
        assert entry.created_at == rfc3339(NOW + 0.5)
        assert entry.seq == 2

    async def test_one_for_each_applied_command(self, ledger):
        """In the order of the batch; a command that did not apply has none."""
        (record,) = await stored(ledger, accept(1, key=a_key()))
        agent = Agent(agent_id="agent-1", endpoint="http://a", capabilities=("embed",))
        batch = [
            SaveAgent(agent, draft("agent_registered")),
            accept(2, key=a_key()),
            move(record, Step.LEASE),
            accept(3, key=a_key(fingerprint="body-2")),
            move(record, Step.CANCEL),
            accept(4, limit=1),
            Note(draft("refused")),
            ExpireKeys(NOW),
            accept(5),
            ForgetAgent("agent-1", draft("agent_removed")),
        ]
        outcomes = kinds(await ledger.commit(batch))
        refused = ["Noted", "Duplicate", "Moved", "Reused", "Stale", "Full"]
        assert outcomes == [*refused, "Noted", "Noted", "Accepted", "Noted"]
        events = ["accepted", "agent_registered", "leased", "refused", "accepted", "agent_removed"]
        assert [entry.event for entry in await trail(ledger)] == events

    async def test_chain_goes_on(self, ledger, store):
        """Over batches, and after the ledger was opened again."""
        await stored(ledger, accept(1), accept(2))
        await ledger.commit([Note(draft("note"))])
        await ledger.close()
        again = await store.open()
        await stored(again, accept(3))
        assert [entry.seq for entry in await trail(again)] == [1, 2, 3, 4]
        await again.close()

    async def test_nothing_written_yet(self, ledger):
        """There is no chain."""
        assert await ledger.audit_heads() == []
        assert [entry async for entry in ledger.audit_chain("main")] == []

    async def test_long_chain(self, ledger):
        """It is read to its end, in order."""
        await ledger.commit([Note(draft("note")) for _ in range(2_500)])
        assert [entry.seq for entry in await trail(ledger)] == list(range(1, 2_501))

    async def test_pages(self, ledger):
        """By task, case, event, or several of them, since a time; each goes on where the last one ended, to the end."""
        for number in range(1, 5):
            await stored(ledger, accept(number, case_id=f"case-{number % 2}", at=NOW + number))
            await ledger.commit([Note(draft("note", a_task(number, case_id=f"case-{number % 2}"), at=NOW + number))])
        for query, expected in [
            (AuditQuery(), [1, 2, 3, 4, 5, 6, 7, 8]),
            (AuditQuery(task_id=task_id(2)), [3, 4]),
            (AuditQuery(case_id="case-1"), [1, 2, 5, 6]),
            (AuditQuery(case_id="case-1", task_id=task_id(3)), [5, 6]),
            (AuditQuery(case_id="case-1", task_id=task_id(2)), []),
            (AuditQuery(event="accepted"), [1, 3, 5, 7]),
            (AuditQuery(event="note", task_id=task_id(2)), [4]),
            (AuditQuery(event="note", case_id="case-1"), [2, 6]),
            (AuditQuery(event="note", case_id="case-1", task_id=task_id(3)), [6]),
            (AuditQuery(event="note", since=rfc3339(NOW + 3)), [6, 8]),
            (AuditQuery(event="not"), []),
            (AuditQuery(since=rfc3339(NOW + 2)), [3, 4, 5, 6, 7, 8]),
            (AuditQuery(since=rfc3339(NOW + 2), case_id="case-1"), [5, 6]),
            (AuditQuery(since=rfc3339(NOW + 3), task_id=task_id(2)), []),
            (AuditQuery(since=rfc3339(NOW + 1.5), task_id=task_id(4), case_id="case-0"), [7, 8]),
        ]:
            for limit in (1, 2, 3, 100):
                assert await pages(ledger, replace(query, limit=limit)) == expected

    async def test_page_without_room(self, ledger):
        """No entries, and no cursor."""
        await stored(ledger, accept(1))
        page = await ledger.audit(AuditQuery(limit=0))
        assert (page.entries, page.next) == ([], None)


async def pages(ledger: Ledger, query: AuditQuery) -> list[int]:
    """The `seq` of every entry, page by page."""
    found: list[int] = []
    while True:
        page = await ledger.audit(query)
        assert len(page.entries) <= query.limit
        found += [entry.seq for entry in page.entries]
        if page.next is None:
            return found
        query = replace(query, after=page.next)


CYCLE: dict[str, Any] = {}
CYCLE["self"] = CYCLE

BAD: dict[str, dict[str, Any]] = {
    "no JSON": {"payload": {"x": object()}},
    "lone surrogate": {"payload": {"x": "\ud800"}},
    "lone surrogate in a column": {"case_id": "\udcff"},
    "endless": {"payload": CYCLE},
    "beyond 64 bits": {"progress": Progress(attempt=2**63)},
    "beyond all calendars": {"at": 1e300},
    "beyond the calendar": {"at": 1e18},
}


class Failing(Contract):
    @pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
    async def test_command_that_cannot_be_stored(self, ledger, bad):
        """It fails alone and without a trace; the others of its batch are applied, and its key and place stay free."""
        outcomes = await ledger.commit([accept(1), accept(2, key=a_key(), limit=2, **bad), accept(3, limit=2)])
        assert kinds(outcomes) == ["Accepted", "Failed", "Accepted"]
        assert await ledger.task(task_id(2)) is None
        assert [entry.task_id for entry in await trail(ledger)] == [task_id(1), task_id(3)]
        assert ledger.depths() == await recount(ledger)
        await stored(ledger, accept(2, key=a_key(fingerprint="body-2")))

    async def test_step_that_cannot_be_stored(self, ledger):
        """The task stays where it was, and can take another step."""
        (record,) = await stored(ledger, accept(1))
        leased = await moved(ledger, record, Step.LEASE)
        batch = [move(leased, Step.SUCCEED, output=object()), Note(draft("note")), move(leased, Step.SUCCEED, output=1)]
        assert kinds(await ledger.commit(batch)) == ["Failed", "Noted", "Moved"]
        assert [entry.event for entry in await trail(ledger)] == ["accepted", "leased", "note", "succeeded"]

    async def test_nothing_but_bad_commands(self, ledger):
        """Each fails, and the ledger goes on."""
        outcomes = await ledger.commit([accept(1, payload={"x": object()}), Note(draft("\ud800"))])
        assert all(isinstance(outcome, Failed) for outcome in outcomes)
        await stored(ledger, accept(1))

    async def test_probe(self, ledger):
        """No commands come to no outcomes, and change nothing that can be read."""
        (record,) = await stored(ledger, accept(1))
        assert await ledger.commit([]) == []
        assert await read(ledger, record) == record
        assert len(await trail(ledger)) == 1

    @pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
    async def test_caller_cancelled_while_it_commits(self, ledger, steps):
        """When it has gone, the batch is stored or it never will be; the ledger goes on either way."""
        batch = [accept(number, payload={"text": "x" * 10_000}) for number in range(1, 40)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ledger.commit, batch)
            for _ in range(steps):
                await checkpoint()
            tasks.cancel_scope.cancel()
        count = len(await ledger.tasks(State.QUEUED))
        assert count in (0, len(batch))
        await stored(ledger, accept(99))
        assert len(await ledger.tasks(State.QUEUED)) == count + 1 == len(await trail(ledger))
        assert ledger.depths() == await recount(ledger)

    async def test_closed_twice(self, ledger):
        """The second time does nothing."""
        await ledger.close()
        await ledger.close()


class Reading(Contract):
    async def test_ready_tasks(self, ledger):
        """By class and lane, in the order of acceptance, with since when they are ready; nothing that waits or runs."""
        records = await stored(
            ledger,
            accept(1),
            accept(2, lane="other|--|"),
            accept(3, priority=Priority.URGENT),
            accept(4),
            accept(5, progress=Progress(due_at=NOW + 5.0)),
            accept(6),
        )
        await moved(ledger, records[3], Step.LEASE, Step.GIVE_BACK, at=NOW + 7.0)
        await moved(ledger, records[5], Step.LEASE)
        assert sorted(await ledger.lanes()) == sorted(
            [(Priority.NORMAL, LANE), (Priority.NORMAL, "other|--|"), (Priority.URGENT, LANE)]
        )
        first = Ticket(task_id(1), Priority.NORMAL, LANE, records[0].seq, NOW)
        fourth = Ticket(task_id(4), Priority.NORMAL, LANE, records[3].seq, NOW + 7.0)
        assert await ledger.ready(Priority.NORMAL, LANE, after=0, limit=9) == [first, fourth]
        assert await ledger.ready(Priority.NORMAL, LANE, after=0, limit=1) == [first]
        assert await ledger.ready(Priority.NORMAL, LANE, after=first.seq, limit=9) == [fourth]
        assert await ledger.ready(Priority.HIGH, LANE, after=0, limit=9) == []

    async def test_waiting_tasks(self, ledger):
        """Those whose time has come, the longest due first; and when the next one comes due."""
        assert await ledger.next_due() is None
        late, early = Progress(due_at=NOW + 9.0), Progress(due_at=NOW + 5.0)
        first, second, third = await stored(ledger, accept(1, progress=late), accept(2, progress=early), accept(3))
        assert await ledger.next_due() == NOW + 5.0
        assert await ledger.due(NOW + 4.999, 9) == []
        assert await ledger.due(NOW + 5.0, 9) == [second]
        assert await ledger.due(NOW + 9.0, 9) == [second, first]
        assert await ledger.due(NOW + 9.0, 1) == [second]
        await moved(ledger, second, Step.COME_DUE)
        retried = await moved(ledger, third, Step.LEASE, Step.RETRY, at=NOW - 3.0)
        assert await ledger.due(NOW + 9.0, 9) == [retried, first]
        assert await ledger.next_due() == NOW + 7.0

    async def test_leases(self, ledger):
        """Those that are over, the longest over first; and those of an owner."""
        first, second, _ = await stored(ledger, accept(1), accept(2), accept(3))
        first = await moved(ledger, first, Step.LEASE, at=NOW + 2.0)
        second = await moved(ledger, second, Step.LEASE, at=NOW)
        assert await ledger.lapsed(NOW + 9.0, 9) == []
        assert await ledger.lapsed(NOW + 10.0, 9) == [second]
        assert await ledger.lapsed(NOW + 12.0, 9) == [second, first]
        assert await ledger.lapsed(NOW + 12.0, 1) == [second]
        assert await ledger.leased("boot-1", 9) == [second, first] == await ledger.leased("", 9)
        assert await ledger.leased("boot-", 1) == [second]
        assert await ledger.leased("boot-2", 9) == []
        await moved(ledger, second, Step.SUCCEED)
        assert await ledger.leased("", 9) == [first]

    async def test_deadlines(self, ledger):
        """Those that wait beyond it, the longest overdue first; not what is leased, which has its attempt."""
        numbered = [accept(number, deadline_at=NOW + 10.0 - number) for number in range(1, 5)]
        first, second, third, fourth = await stored(ledger, *numbered)
        retried = await moved(ledger, second, Step.LEASE, Step.RETRY)
        await moved(ledger, third, Step.LEASE)
        await moved(ledger, fourth, Step.CANCEL)
        assert await ledger.overdue(NOW + 7.999, 9) == []
        assert await ledger.overdue(NOW + 8.0, 9) == [retried]
        assert await ledger.overdue(NOW + 9.0, 9) == [retried, first]
        assert await ledger.overdue(NOW + 9.0, 1) == [retried]

    async def test_tasks_in_a_state(self, ledger):
        """Page by page in the order of acceptance."""
        records = await stored(ledger, *[accept(number) for number in range(1, 6)])
        dead = [await moved(ledger, record, Step.LEASE, Step.GIVE_UP) for record in records[::2]]
        assert await ledger.tasks(State.DEAD) == dead
        assert await ledger.tasks(State.DEAD, limit=2) == dead[:2]
        assert await ledger.tasks(State.DEAD, after=dead[1].seq) == dead[2:]
        assert await ledger.tasks(State.QUEUED) == records[1::2]
        assert await ledger.tasks(State.DENIED) == []

    async def test_tasks_of_a_principal(self, ledger):
        """Only its own, page by page, in any state; nobody is a part of somebody else's name."""
        records = await stored(ledger, *[accept(n, principal=("ann", "anna")[n % 2]) for n in range(1, 8)])
        dead = [await moved(ledger, record, Step.LEASE, Step.GIVE_UP) for record in records[:5]]
        assert await ledger.tasks(State.DEAD, principal="anna") == dead[::2]
        assert await ledger.tasks(State.DEAD, principal="ann") == dead[1::2]
        assert await ledger.tasks(State.DEAD, principal="anna", after=dead[0].seq, limit=1) == [dead[2]]
        assert await ledger.tasks(State.QUEUED, principal="anna") == [records[6]]
        assert await ledger.tasks(State.DEAD, principal="an") == await ledger.tasks(State.DEAD, principal="") == []

    async def test_api_keys(self, ledger, store):
        """Stored, replaced, removed, in the order of the commands, and there again when the ledger is opened anew."""
        key = ApiKey("key-1", UNICODE, (Scope.AUDIT_READ, Scope.OPERATE), "5a" * 32, NOW + 0.25)
        other, audit = replace(key, key_id="key-0", scopes=()), draft("key")
        assert await ledger.api_key("key-1") is None
        await ledger.commit([SaveApiKey(key, audit), SaveApiKey(other, audit)])
        assert await ledger.api_keys() == [other, key]
        assert await ledger.api_key("key-1") == key
        newer = replace(key, subject="newer")
        await ledger.commit([ForgetApiKey("key-1", audit), SaveApiKey(newer, audit), ForgetApiKey("unknown", audit)])
        assert await ledger.api_keys() == [other, newer]
        await ledger.commit([SaveApiKey(key, audit), ForgetApiKey("key-1", audit)])
        assert await ledger.api_key("key-1") is None
        assert len(await trail(ledger)) == 7
        await ledger.close()
        again = await store.open()
        assert await again.api_keys() == [other]
        await again.close()

    async def test_agents(self, ledger, store):
        """Stored, replaced, removed, in the order of the commands, and there again when the ledger is opened anew."""
        agent = Agent(
            agent_id="agent-1", endpoint="http://a", capabilities=("embed", "audit"), cost=0.1, site=UNICODE[:9]
        )
        other = replace(agent, agent_id="agent-0", max_concurrency=1)
        audit = draft("agent")
        await ledger.commit([SaveAgent(agent, audit), SaveAgent(other, audit)])
        assert await ledger.agents() == [other, agent]
        newer = replace(agent, cost=0.2)
        await ledger.commit([ForgetAgent("agent-1", audit), SaveAgent(newer, audit), ForgetAgent("unknown", audit)])
        assert await ledger.agents() == [other, newer]
        await ledger.commit([SaveAgent(agent, audit), ForgetAgent("agent-1", audit)])
        assert await ledger.agents() == [other]
        assert len(await trail(ledger)) == 7
        await ledger.close()
        again = await store.open()
        assert await again.agents() == [other]
        await again.close()


class Seeing(Contract):
    async def test_sightings(self, ledger, store):
        """The latest counts, what it says nothing of stays as it was; of agents that are not stored nothing is kept."""
        audit = draft("agent")
        agents = [Agent(agent_id=name, endpoint="http://a", capabilities=("embed",)) for name in ("agent-1", "agent-2")]
        await ledger.commit([*(SaveAgent(agent, audit) for agent in agents)])
        assert await ledger.sightings() == []
        told = TellSightings((Sighting("agent-1", NOW + 5.0, 0.5), Sighting("unknown", NOW), Sighting("agent-2", NOW)))
        drained = TellSightings((Sighting("agent-1", NOW + 2.0, None, True), Sighting("agent-1", NOW + 3.0, 0.75)))
        await ledger.commit([told, drained])
        assert await sighted(ledger) == [("agent-1", NOW + 5.0, 0.75, True), ("agent-2", NOW, None, None)]
        back = TellSightings((Sighting("agent-1", NOW + 6.0, None, False),))
        await ledger.commit([back, ForgetAgent("agent-2", audit), SaveAgent(replace(agents[0], cost=1.0), audit)])
        await ledger.close()
        again = await store.open()
        assert await sighted(again) == [("agent-1", NOW + 6.0, 0.75, False)]
        await again.close()


async def sighted(ledger: Ledger) -> list[tuple[Any, ...]]:
    """To the millisecond, since clocks differ."""
    return [(one.agent_id, round(one.seen_at, 3), one.load, one.draining) for one in await ledger.sightings()]


class Living(Contract):
    @given(batches=lives)
    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
            HealthCheck.too_slow,
        ],
    )
    async def test_any_batches(self, store, batches):
        """Whatever is committed, outcomes, reads, chain and depths are those of the ledger in memory."""
        ledger = await store.another().open(outbox=True)
        try:
            await live([MemoryLedger(outbox=True), ledger], batches)
        finally:
            await ledger.close()


class LedgerContract(
    Accepting,
    Keys,
    Bounds,
    Moving,
    Trail,
    Failing,
    InCrowds,
    Reading,
    Looking,
    Seeing,
    Telling,
    CallingBack,
    Consents,
    Erasing,
    Removing,
    Anchoring,
    Living,
):
    """All of it."""


_NAMES = [name for part in LedgerContract.__bases__ for name in vars(part) if name.startswith("test_")]
assert len(_NAMES) == len(set(_NAMES)), "a test of one part hides that of another"
