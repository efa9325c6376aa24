"""What every ledger promises of its outbox, which holds what streams are still to be told. A part of the contract."""

from typing import Any

import pytest
from ledger_builders import LANE, NOW, accept, draft, kinds, move, moved, one, stored, task_id
from msgspec.structs import replace

from orchestrator.domain.lifecycle import Progress, Step
from orchestrator.domain.task import Consent, Priority
from orchestrator.storage.commands import (
    Erase,
    Noted,
    RelayAgain,
    Relayed,
    Requeued,
    RevokeConsent,
    TaskRecord,
    Transition,
)
from orchestrator.storage.ports import Ledger, Ticket

pytestmark = pytest.mark.anyio

URGENT, NORMAL, LOW = Priority.URGENT, Priority.NORMAL, Priority.LOW


async def told(ledger: Ledger, priority: Priority | None) -> list[int]:
    """The numbers of the tasks that the stream is to be told of, in their order."""
    return [int(entry.task_id.removeprefix("task-"), 16) for entry in await ledger.outbox(priority, 100)]


class Telling:
    """`telling` is a ledger with an outbox."""

    @pytest.fixture
    async def telling(self, store):
        ledger = await store.open(outbox=True)
        yield ledger
        await ledger.close()

    async def test_ready_tasks_are_told(self, telling):
        """Each in the stream of its class, in the order of acceptance; what waits, or is leased, is not."""
        later: dict[str, Any] = {"progress": Progress(due_at=NOW + 9.0)}
        at_once: dict[str, Any] = {"progress": Progress().lease("agent-1", "boot-1", NOW + 9.0)}
        await stored(
            telling, accept(1), accept(2, priority=URGENT), accept(3), accept(4, **later), accept(5, **at_once)
        )
        assert [await told(telling, priority) for priority in (URGENT, NORMAL, LOW, None)] == [[2], [1, 3], [], []]
        (entry,) = await telling.outbox(URGENT, 9)
        assert (entry.task_id, entry.priority, entry.task_type, entry.reason) == (task_id(2), URGENT, "embed", None)
        assert [entry.task_id for entry in await telling.outbox(NORMAL, 1)] == [task_id(1)]

    async def test_due_task_is_told(self, telling):
        """When its time has come."""
        (record,) = await stored(telling, accept(1, progress=Progress(due_at=NOW + 9.0)))
        await moved(telling, record, Step.COME_DUE)
        assert await told(telling, NORMAL) == [1]

    @pytest.mark.parametrize("end", [Step.LEASE, Step.CANCEL, Step.EXPIRE, Step.DENY])
    async def test_task_that_is_not_ready_any_more(self, telling, end):
        """Nobody need be told, so that the outbox holds no more than there is to do."""
        (record, _) = await stored(telling, accept(1), accept(2))
        await moved(telling, record, end)
        assert await told(telling, NORMAL) == [2]

    async def test_task_given_back(self, telling):
        """It is told again, last in the line."""
        (record, _) = await stored(telling, accept(1), accept(2))
        await moved(telling, record, Step.LEASE, Step.GIVE_BACK)
        assert await told(telling, NORMAL) == [2, 1]

    async def test_everything_in_one_batch(self, telling):
        """What holds at the end of the batch counts."""
        (record,) = await stored(telling, accept(1))
        leased = move(record, Step.LEASE)
        back = move(leased_record := _as_moved(record, leased), Step.GIVE_BACK)
        again = move(_as_moved(leased_record, back), Step.LEASE)
        assert kinds(await telling.commit([leased, accept(2), back])) == ["Moved", "Accepted", "Moved"]
        assert await told(telling, NORMAL) == [2, 1]
        assert kinds(await telling.commit([again, accept(3)])) == ["Moved", "Accepted"]
        assert await told(telling, NORMAL) == [2, 3]

    async def test_dead_letter(self, telling):
        """The stream of the dead letters is told of it, with the reason."""
        (record,) = await stored(telling, accept(1, priority=LOW))
        dead = await moved(telling, record, Step.LEASE, Step.GIVE_UP)
        assert (await told(telling, LOW), await told(telling, None)) == ([], [1])
        (letter,) = await telling.outbox(None, 9)
        assert (letter.priority, letter.reason) == (None, dead.progress.reason)

    @pytest.mark.parametrize("steps", [[], [Step.LEASE], [Step.LEASE, Step.RETRY]])
    @pytest.mark.parametrize("end", [Step.CANCEL, Step.EXPIRE, Step.DENY])
    async def test_task_that_is_withdrawn(self, telling, steps, end):
        """It ended, and no agent said so: no stream may hold it any more, until they have been told."""
        first, _ = await stored(telling, accept(1), accept(2))
        await moved(telling, first, *steps, end)
        assert [entry.task_id for entry in await telling.withdrawn(9)] == [task_id(1)]
        await one(telling, Relayed(tuple(entry.position for entry in await telling.withdrawn(9))))
        assert await telling.withdrawn(9) == []

    async def test_task_that_is_erased(self, telling):
        """It is withdrawn as well, also where it had ended before; of the others nothing is."""
        first, *_ = await stored(telling, accept(1), accept(2), accept(3, case_id="other"))
        await moved(telling, first, Step.LEASE, Step.SUCCEED, output=1)
        assert await telling.withdrawn(9) == []
        await one(telling, Erase(draft("erased"), case_id="case-1"))
        assert {entry.task_id for entry in await telling.withdrawn(9)} == {task_id(1), task_id(2)}
        assert len(await telling.withdrawn(1)) == 1

    async def test_consent_that_is_revoked(self, telling):
        """What was given under it is withdrawn with it."""
        await stored(telling, accept(1, consent=Consent(True, "c-1")), accept(2))
        await one(telling, RevokeConsent("c-1", draft("consent_revoked")))
        assert [entry.task_id for entry in await telling.withdrawn(9)] == [task_id(1)]

    async def test_what_was_relayed(self, telling):
        """It goes; twice, or of a position that nobody knows, changes nothing."""
        await stored(telling, accept(1), accept(2), accept(3))
        positions = tuple(entry.position for entry in await telling.outbox(NORMAL, 2))
        for _ in range(2):
            assert await one(telling, Relayed((*positions, 10**9))) == Noted()
            assert await told(telling, NORMAL) == [3]

    async def test_told_anew_while_it_is_relayed(self, telling):
        """A relay that is late does not take away what it has not relayed."""
        (record,) = await stored(telling, accept(1))
        (entry,) = await telling.outbox(NORMAL, 9)
        await moved(telling, record, Step.LEASE, Step.GIVE_BACK)
        await one(telling, Relayed((entry.position,)))
        assert await told(telling, NORMAL) == [1]

    async def test_refused_command_beside_it(self, telling):
        """One bad command fails alone, and the outbox is right all the same."""
        (record,) = await stored(telling, accept(1))
        outcomes = await telling.commit([move(record, Step.LEASE), accept(2), move(record, Step.LEASE), accept(3)])
        assert kinds(outcomes) == ["Moved", "Accepted", "Stale", "Accepted"]
        assert await told(telling, NORMAL) == [2, 3]

    async def test_streams_that_were_lost(self, telling):
        """Everything that is ready is told again, page by page; what stands in the outbox keeps its place."""
        records = await stored(telling, *[accept(n) for n in range(1, 6)], accept(6, priority=URGENT))
        await moved(telling, records[1], Step.LEASE)
        await moved(telling, records[2], Step.LEASE, Step.GIVE_UP)
        for priority in (URGENT, NORMAL, None):
            entries = await telling.outbox(priority, 9)
            await one(telling, Relayed(tuple(entry.position for entry in entries if entry.task_id != task_id(5))))
        command, pages = RelayAgain(2), 0
        while True:
            outcome = await one(telling, command)
            assert isinstance(outcome, Requeued)
            pages += 1
            if outcome.last is None:
                break
            command = RelayAgain(2, outcome.last)
        assert pages == 3
        assert [await told(telling, priority) for priority in (URGENT, NORMAL, LOW, None)] == [[6], [5, 1, 4], [], []]

    async def test_outbox_survives(self, store):
        """It is on stable storage with what it tells of, and not kept where there are no streams."""
        ledger = await store.open(outbox=True)
        await stored(ledger, accept(1))
        await ledger.close()
        again = await store.open(outbox=True)
        assert await told(again, NORMAL) == [1]
        await again.close()
        without = await store.another().open()
        await stored(without, accept(1))
        assert await told(without, NORMAL) == []
        await without.close()

    async def test_tickets(self, telling):
        """Of those that are ready, as the queue knows them."""
        records = await stored(telling, accept(1), accept(2, priority=LOW, lane="other|--|"), accept(3))
        await moved(telling, records[2], Step.LEASE)
        found = await telling.tickets([task_id(3), task_id(2), task_id(1), task_id(9), task_id(1)])
        first, second = records[0].seq, records[1].seq
        expected = [Ticket(task_id(1), NORMAL, LANE, first, NOW), Ticket(task_id(2), LOW, "other|--|", second, NOW)]
        assert sorted(found, key=lambda ticket: ticket.seq) == expected

    async def test_records(self, telling):
        """Of those that exist."""
        records = await stored(telling, accept(1), accept(2))
        found = await telling.records([task_id(2), task_id(9), task_id(1)])
        assert sorted(found, key=lambda record: record.seq) == records


def _as_moved(record: TaskRecord, transition: Transition) -> TaskRecord:
    return replace(record, progress=transition.progress)
