"""Tasks that were just accepted are dispatched without being read; where the ledger knows better, it is believed."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from orchestrator.actors.at_hand import OLD_S, PER_TASK, AtHand
from orchestrator.actors.verdicts import draft
from orchestrator.domain.lifecycle import Progress, State, Step
from orchestrator.domain.task import Consent, Priority, Task
from orchestrator.storage.commands import Moved, TaskRecord, Transition
from orchestrator.storage.memory import MemoryLedger
from orchestrator.testing import ScriptedAgents, a_request, an_agent, check_history, embedded

pytestmark = pytest.mark.anyio


class Read(MemoryLedger):
    """Counts the tasks that are read for dispatch."""

    reads = 0

    async def records(self, task_ids: Sequence[str]) -> list[TaskRecord]:
        self.reads += len(task_ids)
        return await super().records(task_ids)


async def test_what_was_just_accepted():
    """It is not read."""
    agents, ledger = ScriptedAgents(), Read()
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent())
        routed = await system.route(a_request())
        done = await system.gateway.task(routed.record.task.task_id, 1_000)
        assert done.progress.state is State.SUCCEEDED
    assert ledger.reads == 0


async def test_what_an_earlier_process_accepted():
    """It is read."""
    agents, ledger = ScriptedAgents(), Read()
    async with embedded(agents, ledger) as system:
        routed = await system.route(a_request())
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent())
        done = await system.gateway.task(routed.record.task.task_id, 1_000)
        assert done.progress.state is State.SUCCEEDED
    assert ledger.reads == 1


async def test_a_task_that_another_replica_ended():
    """The copy is out of date: the ledger refuses its lease, and no agent sees the task."""
    agents, ledger = ScriptedAgents(), Read(exclusive=False)
    async with embedded(agents, ledger) as system:
        record = (await system.route(a_request())).record
        gone = record.progress.end(Step.CANCEL, "cancelled")
        audit = draft(Step.CANCEL.value, record, gone, system.environment.now())
        (outcome,) = await ledger.commit([Transition(record, gone, audit)])
        assert isinstance(outcome, Moved)
        await system.gateway.register(an_agent())
        other = await system.route(a_request())
        done = await system.gateway.task(other.record.task.task_id, 1_000)
        assert done.progress.state is State.SUCCEEDED
    assert [call.task_id for call in agents.calls] == [other.record.task.task_id]
    assert ledger.reads == 1
    await check_history(ledger)


def a_record(number: int, *, at: float = 0.0, size: int = 0) -> TaskRecord:
    task = Task(
        task_id=f"task-{number}", case_id="case-1", task_type="embed", payload={"": "x" * size}, priority=Priority.LOW,
        consent=Consent(), meta={}, raw_media=False, created_at=at, deadline_at=at + 1.0,
    )  # fmt: skip
    return TaskRecord(number, task, Progress(), at)


async def test_more_than_there_is_room_for():
    """Who came first stays, since it is dispatched first; nothing of what is turned away or dropped is counted."""
    at_hand = AtHand(most_bytes=3 * (PER_TASK + 100))
    for number in range(5):
        at_hand.keep(a_record(number))
    assert [at_hand.find(f"task-{number}") is not None for number in range(5)] == [True, True, True, False, False]
    at_hand.keep(a_record(5, size=4 * PER_TASK))
    at_hand.drop("task-5")
    at_hand.drop("task-0")
    at_hand.keep(a_record(6))
    at_hand.keep(a_record(7))
    assert at_hand.find("task-6") == a_record(6)
    assert at_hand.find("task-5") is at_hand.find("task-7") is None


async def test_a_task_that_changed():
    """The later copy counts, and takes the room of the earlier one."""
    at_hand = AtHand(most_bytes=PER_TASK + 100)
    at_hand.keep(a_record(1))
    later = replace(a_record(1), progress=Progress(attempt=1))
    at_hand.keep(later)
    assert at_hand.find("task-1") == later


async def test_copies_that_nobody_came_for():
    """They make room after a while: another replica may have had their tasks."""
    at_hand = AtHand(most_bytes=2 * (PER_TASK + 100))
    at_hand.keep(a_record(1, at=0.0))
    at_hand.keep(a_record(2, at=OLD_S))
    at_hand.keep(a_record(3, at=OLD_S))
    assert at_hand.find("task-1") is None
    assert at_hand.find("task-2") == a_record(2, at=OLD_S)
    assert at_hand.find("task-3") == a_record(3, at=OLD_S)
