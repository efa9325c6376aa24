"""What every ledger promises of tasks whose data is destroyed: a part of the contract. Its transaction decides."""

from typing import Any

import pytest
from ledger_builders import NOW, a_key, accept, draft, kinds, move, moved, one, read, recount, stored, task_id, trail
from msgspec.structs import replace

from orchestrator.domain.audit import head_of
from orchestrator.domain.lifecycle import Progress, State, Step
from orchestrator.storage.commands import Duplicate, Erase, Erased, Stale, TaskRecord
from orchestrator.storage.ports import Ledger

pytestmark = pytest.mark.anyio

ASKED = replace(draft("erased", at=NOW + 5.0), principal="root")
HELD: dict[str, Any] = {"payload": {"text": "held"}, "meta": {"more": "held"}}


def erase(number: int | None = None, case_id: str | None = None, limit: int = 200) -> Erase:
    return Erase(ASKED, None if number is None else task_id(number), case_id, limit)


async def erased(ledger: Ledger, command: Erase) -> Erased:
    """What comes of the command, which is its own outcome."""
    outcome = await one(ledger, command)
    assert isinstance(outcome, Erased)
    return outcome


def is_empty(record: TaskRecord) -> bool:
    """Nothing of what the task held is left."""
    task = record.task
    return record.erased and (task.payload, task.meta, record.result) == ({}, {}, None)


class Erasing:
    """`ledger` is an empty one, and `store` is where it lives."""

    async def test_erased_after_its_end(self, ledger):
        """Payload, meta and result are gone wherever the task is read; how it ended stays."""
        record, other = await stored(ledger, accept(1, **HELD), accept(2, **HELD))
        done = await moved(ledger, record, Step.LEASE, Step.SUCCEED, output={"found": "held"})
        outcome = await erased(ledger, erase(1))
        assert outcome.records == (await read(ledger, done),)
        assert is_empty(outcome.records[0])
        assert outcome.records[0].progress == done.progress
        assert (await ledger.tasks(State.SUCCEEDED))[0] == outcome.records[0]
        assert (await ledger.records([task_id(1)])) == [outcome.records[0]]
        assert await read(ledger, other) == other

    @pytest.mark.parametrize("steps", [[], [Step.LEASE], [Step.LEASE, Step.RETRY]])
    async def test_erased_before_its_end(self, ledger, steps):
        """It is cancelled: whatever its attempt comes to, in the same batch or later, changes nothing."""
        record = await moved(ledger, (await stored(ledger, accept(1, **HELD)))[0], *steps)
        late = move(record, Step.SUCCEED, output={"found": "held"}) if steps == [Step.LEASE] else None
        outcomes = await ledger.commit([erase(1), *([late] if late else [])])
        assert kinds(outcomes) == ["Erased"] + ["Stale"] * bool(late)
        found = await read(ledger, record)
        assert (found.progress.state, found.progress.reason) == (State.CANCELLED, "erased")
        assert is_empty(found)
        assert ledger.depths() == await recount(ledger)
        assert await one(ledger, move(record, Step.CANCEL)) == Stale()

    async def test_trail_of_erased_tasks(self, ledger):
        """An entry says that a task ended by it, where it did, and one who had it erased; the chain holds."""
        record, _ = await stored(ledger, accept(1), accept(2))
        await moved(ledger, record, Step.LEASE, Step.SUCCEED, output=1)
        receipt = (await erased(ledger, erase(case_id="case-1"))).receipt
        entries = (await trail(ledger))[4:]
        assert [(e.event, e.task_id, e.status, e.principal) for e in entries] == [
            ("erased", task_id(1), "succeeded", "root"),
            ("cancelled", task_id(2), "cancelled", "root"),
            ("erased", task_id(2), "cancelled", "root"),
        ]
        assert receipt == head_of(entries[-1])

    async def test_erased_twice(self, ledger):
        """The second time changes nothing and writes nothing; so it is where there is no such task."""
        await stored(ledger, accept(1))
        await one(ledger, erase(1))
        before = await trail(ledger)
        assert await one(ledger, erase(1)) == Erased()
        assert await one(ledger, erase(9)) == Erased()
        assert await one(ledger, erase(case_id="case-1")) == Erased()
        assert await trail(ledger) == before

    async def test_erased_case(self, ledger):
        """All its tasks, a page at a time in the order of acceptance, and no task of another."""
        await stored(ledger, *[accept(number) for number in (1, 2, 3)], accept(4, case_id="case-2"))
        pages = [await erased(ledger, erase(case_id="case-1", limit=2)) for _ in range(3)]
        assert [[r.task.task_id for r in page.records] for page in pages] == [
            [task_id(1), task_id(2)],
            [task_id(3)],
            [],
        ]
        assert not (await ledger.task(task_id(4))).erased

    async def test_neighbours_of_an_erasure(self, ledger):
        """Are not touched; a task that comes before it in the batch is erased, one that comes after is not."""
        outcomes = await ledger.commit([accept(1), erase(case_id="case-1"), accept(2)])
        assert kinds(outcomes) == ["Accepted", "Erased", "Accepted"]
        assert [(await ledger.task(task_id(number))).erased for number in (1, 2)] == [True, False]

    async def test_same_request_as_the_erased_one(self, ledger):
        """Is the same task still, and is not done a second time."""
        await stored(ledger, accept(1, key=a_key()))
        await one(ledger, erase(1))
        again = await one(ledger, accept(2, key=a_key()))
        assert isinstance(again, Duplicate)
        assert is_empty(again.record)

    async def test_webhook_of_an_erased_task(self, ledger):
        """Who wanted to be told of the end is told of this one."""
        await stored(ledger, replace(accept(1), callback_url="https://sender.example/told"))
        await one(ledger, erase(1))
        assert [webhook.task_id for webhook in await ledger.webhooks(NOW + 9.0, 9)] == [task_id(1)]

    async def test_erased_before_it_is_due(self, ledger):
        """Comes due no more."""
        await stored(ledger, accept(1, progress=Progress(due_at=NOW + 9.0)))
        await one(ledger, erase(1))
        assert await ledger.next_due() is None

    async def test_erased_and_restarted(self, ledger, store):
        """It stays erased."""
        await stored(ledger, accept(1, **HELD))
        await one(ledger, erase(1))
        await ledger.close()
        again = await store.open()
        assert is_empty(await again.task(task_id(1)))
        assert await one(again, erase(1)) == Erased()
        await again.close()
