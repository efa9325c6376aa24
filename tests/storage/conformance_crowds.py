"""What holds of one command holds of it among many: a store may write many rows at once. A part of the contract."""

from typing import Any

import pytest
from ledger_builders import NOW, a_key, accept, kinds, move, read, recount, stored, task_id, trail
from msgspec.structs import replace

from orchestrator.domain.lifecycle import Progress, State, Step
from orchestrator.domain.task import Priority
from orchestrator.storage.commands import Moved, Result, TaskRecord
from orchestrator.storage.ports import Ledger

pytestmark = pytest.mark.anyio

MANY = 39
"""Twice as many as any store writes at once, and a rest."""
ODD = 17
"""Stands in the middle of them."""
UNLIKE = (
    Progress(due_at=NOW + 0.5),
    Progress(State.LEASED, 3, 2, 1, None, "agent-é", "boot-1", NOW + 0.25, ("a", "ü"), "timeout"),
    Progress(),
)


async def crowd(ledger: Ledger) -> list[TaskRecord]:
    return await stored(ledger, *(accept(number) for number in range(MANY)))


async def apply(ledger: Ledger, records: list[TaskRecord], step: Step, at: float = NOW) -> list[TaskRecord]:
    """All of them take the step, in one batch, each with a result of its own."""
    outcomes = await ledger.commit([move(record, step, at=at, output={"of": record.seq}) for record in records])
    return [outcome.record for outcome in outcomes if isinstance(outcome, Moved)]


class InCrowds:
    async def test_every_column_of_many_tasks(self, ledger):
        """Each is read back as it was accepted, and no two are mixed up."""
        accepts = [
            accept(number, progress=UNLIKE[number % 3], case_id=f"case-{number}", payload={"n": number, "at": 0.1})
            for number in range(MANY)
        ]
        records = await stored(ledger, *accepts)
        assert [await read(ledger, record) for record in records] == records
        assert [record.task for record in records] == [command.task for command in accepts]
        assert [entry.case_id for entry in await trail(ledger)] == [f"case-{number}" for number in range(MANY)]
        assert ledger.depths() == await recount(ledger)

    async def test_many_tasks_take_their_steps_together(self, ledger):
        """Each has its own progress and its own result, and one entry for each step."""
        records = await apply(ledger, await crowd(ledger), Step.LEASE, NOW + 1.0)
        records = await apply(ledger, records, Step.RETRY, NOW + 2.0)
        records = await apply(ledger, records, Step.COME_DUE, NOW + 3.0)
        records = await apply(ledger, records, Step.LEASE, NOW + 4.0)
        done = await apply(ledger, records, Step.SUCCEED, NOW + 5.0)
        assert [record.result for record in done] == [
            Result(2, "agent-1", {"of": record.seq}, "model-1", NOW + 5.0) for record in records
        ]
        assert [await read(ledger, record) for record in done] == done
        assert len(await trail(ledger)) == 6 * MANY
        assert ledger.depths() == await recount(ledger)

    @pytest.mark.parametrize("steps", [(Step.LEASE, Step.LEASE), (Step.LEASE, Step.CANCEL), (Step.CANCEL, Step.LEASE)])
    async def test_two_steps_of_one_record(self, ledger, steps):
        """The first of them takes place, and all the others of the batch."""
        records = await crowd(ledger)
        commands = [move(record, steps[0]) for record in records]
        commands.insert(ODD + 1, move(records[ODD], steps[1]))
        outcomes = await ledger.commit(commands)
        assert [index for index, kind in enumerate(kinds(outcomes)) if kind == "Stale"] == [ODD + 1]
        found = [await read(ledger, record) for record in records]
        assert [record.progress for record in found] == [
            command.progress for command in commands if command is not commands[ODD + 1]
        ]
        assert len(await trail(ledger)) == 2 * MANY
        assert ledger.depths() == await recount(ledger)

    async def test_one_step_after_another_of_one_task(self, ledger):
        """Both take place, in their order."""
        records = await crowd(ledger)
        commands = [move(record, Step.LEASE) for record in records]
        leased = replace(records[ODD], progress=commands[ODD].progress)
        commands.insert(ODD + 1, move(leased, Step.SUCCEED, output="done"))
        assert kinds(await ledger.commit(commands)) == ["Moved"] * (MANY + 1)
        found = await read(ledger, records[ODD])
        assert (found.progress.state, found.result and found.result.output) == (State.SUCCEEDED, "done")
        assert [entry.event for entry in await trail(ledger)][MANY + ODD : MANY + ODD + 2] == ["leased", "succeeded"]

    async def test_one_is_elsewhere(self, ledger):
        """It stays there, and the others move."""
        records = await crowd(ledger)
        (cancelled,) = await apply(ledger, [records[ODD]], Step.CANCEL)
        outcomes = await ledger.commit([move(record, Step.LEASE) for record in records])
        assert [index for index, kind in enumerate(kinds(outcomes)) if kind != "Moved"] == [ODD]
        assert await read(ledger, cancelled) == cancelled
        assert len(await ledger.tasks(State.LEASED, limit=MANY)) == MANY - 1

    async def test_one_is_a_duplicate(self, ledger):
        """It is told so; the others, each under its own key, are accepted, and are duplicates the next time."""
        await stored(ledger, accept(MANY, key=a_key(f"key-{ODD}")))
        commands = [accept(number, key=a_key(f"key-{number}")) for number in range(MANY)]
        outcomes = await ledger.commit(commands)
        assert [index for index, kind in enumerate(kinds(outcomes)) if kind == "Duplicate"] == [ODD]
        assert kinds(outcomes).count("Accepted") == MANY - 1
        again = [
            replace(command, task=replace(command.task, task_id=task_id(100 + n))) for n, command in enumerate(commands)
        ]
        assert kinds(await ledger.commit(again)) == ["Duplicate"] * MANY
        assert len(await trail(ledger)) == MANY

    @pytest.mark.parametrize("bad", [{"payload": {"x": object()}}, {"task_id": task_id(1)}, {"case_id": "\ud800"}])
    async def test_one_cannot_be_stored(self, ledger, bad: dict[str, Any]):
        """It fails alone."""
        outcomes = await ledger.commit([accept(number, **(bad if number == ODD else {})) for number in range(MANY)])
        assert [index for index, kind in enumerate(kinds(outcomes)) if kind == "Failed"] == [ODD]
        assert len(await trail(ledger)) == MANY - 1
        assert ledger.depths()[Priority.NORMAL].open == MANY - 1
