"""What every ledger promises of what is removed from it: whole, and with its audit entry. A part of the contract."""

import pytest
from ledger_builders import NOW, a_key, accept, draft, kinds, moved, one, read, stored, task_id, trail
from msgspec.structs import replace

from orchestrator.domain.idempotency import CALLERS, REPLAYS
from orchestrator.domain.lifecycle import Step
from orchestrator.domain.retention import FIRST, Ended
from orchestrator.storage.commands import Accepted, Duplicate, EndWebhook, Noted, Remove, Stale
from orchestrator.storage.ports import Ledger

pytestmark = pytest.mark.anyio

LATER = NOW + 100.0


def remove(**what) -> Remove:
    return Remove(draft("removed"), **what)


async def ended(ledger: Ledger, *, now: float = NOW, after: tuple[float, int] = FIRST, limit: int = 9) -> list[Ended]:
    return await ledger.ended(now, LATER, after, limit)


async def done(ledger: Ledger, *accepts, at: float = NOW):
    """The tasks, finished at `at` with a result."""
    records = await stored(ledger, *accepts)
    return [await moved(ledger, r, Step.LEASE, Step.SUCCEED, at=at, output={"x": 1}) for r in records]


async def dead(ledger: Ledger, number: int = 1, **fields):
    (record,) = await stored(ledger, accept(number, **fields))
    return await moved(ledger, record, Step.LEASE, Step.GIVE_UP)


class Removing:
    """`ledger` is one without an outbox, as most tests have it."""

    async def test_payload_and_result_that_were_removed(self, ledger, store):
        """The task says so, now and after the ledger was opened again; all else of it stays, with an entry for it."""
        (record, other) = await done(ledger, accept(1, meta={"site": "a"}), accept(2))
        before = len(await trail(ledger))
        outcome = await one(ledger, remove(payloads=(task_id(1),)))
        assert isinstance(outcome, Noted)
        assert outcome.receipt is not None
        emptied = replace(record, task=replace(record.task, payload={}, meta={}), payload_removed=True)
        assert await read(ledger, record) == emptied
        assert isinstance(await one(ledger, remove(results=(task_id(1),))), Noted)
        bare = replace(emptied, result=None, result_removed=True)
        assert (await read(ledger, record), await read(ledger, other)) == (bare, other)
        assert len(await trail(ledger)) == before + 2
        await ledger.close()
        again = await store.open()
        assert (await read(again, record), await read(again, other)) == (bare, other)
        await again.close()

    async def test_task_that_was_removed(self, ledger):
        """It is gone, with result, key and replay's key, but not from the audit; its key may be used anew."""
        key = replace(a_key(), scope=f"{CALLERS}anonymous")
        await done(ledger, accept(1, key=key))
        kept = [entry for entry in await trail(ledger) if entry.task_id == task_id(1)]
        assert isinstance(await one(ledger, remove(tasks=(task_id(1),))), Noted)
        assert await ledger.task(task_id(1)) is None
        assert await ended(ledger) == []
        assert [entry for entry in await trail(ledger) if entry.task_id == task_id(1)] == kept
        assert isinstance(await one(ledger, accept(2, key=key)), Accepted)

    async def test_what_is_not_there(self, ledger):
        """Nothing at all is removed, and nothing is said, where a part of it is gone already or has not ended."""
        await done(ledger, accept(1), accept(2))
        await stored(ledger, accept(3))
        await one(ledger, remove(payloads=(task_id(1),), results=(task_id(1),)))
        before, length = await read_all(ledger), len(await trail(ledger))
        both = (task_id(1), task_id(2))
        for command in (
            remove(payloads=both),
            remove(results=both),
            remove(tasks=(task_id(2), task_id(3))),
            remove(payloads=(task_id(2), task_id(3))),
            remove(tasks=(task_id(2), "task-unknown")),
        ):
            assert isinstance(await one(ledger, command), Stale), command
        assert (await read_all(ledger), len(await trail(ledger))) == (before, length)

    async def test_in_a_batch_with_others(self, ledger):
        """Each command is for itself, whichever of them fails."""
        await done(ledger, accept(1))
        outcomes = await ledger.commit([accept(2), remove(tasks=(task_id(1),)), accept(3)])
        assert kinds(outcomes) == ["Accepted", "Noted", "Accepted"]
        outcomes = await ledger.commit([accept(4), remove(tasks=(task_id(1),)), accept(5)])
        assert kinds(outcomes) == ["Accepted", "Stale", "Accepted"]
        assert isinstance(await one(ledger, accept(6)), Accepted)
        assert {r.seq for r in await read_all(ledger, 2, 3, 4, 5, 6)} == {2, 3, 4, 5, 6}

    async def test_pages_of_what_has_ended(self, ledger):
        """In the order of the ends, from after the last one on; what goes on, or ended later, is not there."""
        await done(ledger, accept(1), accept(2), at=NOW + 2.0)
        await done(ledger, accept(3), at=NOW + 1.0)
        await done(ledger, accept(4), at=LATER)
        await stored(ledger, accept(5))
        first = await ended(ledger, limit=2)
        assert [it.task_id for it in first] == [task_id(3), task_id(1)]
        rest = await ended(ledger, after=(first[-1].ended_at, first[-1].seq))
        size = len('{"text":"hello"}' + "{}" + '{"x":1}')
        assert rest == [Ended(task_id(2), 2, NOW + 2.0, True, True, False, False, False, size)]

    async def test_size_of_a_task(self, ledger):
        """It is what its payload, meta and result take, as long as they are there."""
        await done(ledger, accept(1, payload={"text": "x" * 100_000}), accept(2, payload={"text": "x" * 1_000}))
        await dead(ledger, 3)
        sizes = [it.size for it in await ended(ledger)]
        assert [size // 1_000 for size in sizes] == [100, 1, 0]
        await one(ledger, remove(payloads=(task_id(1),), results=(task_id(1),)))
        assert (await ended(ledger))[0].size < 10

    async def test_dead_letter_before_and_after_its_replay(self, ledger):
        """It is one until it is replayed; then its replay is kept for it, and not after it is gone itself."""
        record = await dead(ledger)
        assert [it.dead_letter for it in await ended(ledger)] == [True]
        key = a_key(record.task.task_id, record.task.task_id, REPLAYS)
        again = accept(2, key=key, replay_of=record.task.task_id)
        await done(ledger, again)
        assert [(it.dead_letter, it.keyed) for it in await ended(ledger)] == [(False, False), (False, True)]
        assert isinstance(await one(ledger, again), Duplicate)
        await one(ledger, remove(tasks=(record.task.task_id,)))
        assert [(it.dead_letter, it.keyed) for it in await ended(ledger)] == [(False, False)]

    async def test_key_of_a_task(self, ledger):
        """It stands for the task until its expiry is over; that of another caller does not."""
        key = a_key(scope=f"{CALLERS}anonymous", expires_at=NOW + 10.0)
        await done(ledger, accept(1, key=key), accept(2))
        assert [it.keyed for it in await ended(ledger, now=NOW + 9.0)] == [True, False]
        assert [it.keyed for it in await ended(ledger, now=NOW + 10.0)] == [False, False]

    async def test_sender_that_is_still_to_be_told(self, ledger):
        """The task is awaited until it was."""
        await done(ledger, replace(accept(1), callback_url="https://sender.example/told"))
        assert [it.awaited for it in await ended(ledger)] == [True]
        await one(ledger, EndWebhook(task_id(1), draft("callback_ended")))
        assert [it.awaited for it in await ended(ledger)] == [False]

    async def test_stream_that_has_no_room(self, store):
        """Nothing is kept for a stream that is never told: not the payload of a dead letter, and not the task."""
        ledger = await store.another().open(outbox=True)
        await dead(ledger)
        assert [it.awaited for it in await ended(ledger)] == [False]
        assert isinstance(await one(ledger, remove(payloads=(task_id(1),))), Noted)
        assert [entry.task_id for entry in await ledger.outbox(None, 9)] == [task_id(1)]
        assert isinstance(await one(ledger, remove(tasks=(task_id(1),))), Noted)
        assert await ledger.outbox(None, 9) == []
        await ledger.close()


async def read_all(ledger: Ledger, *numbers: int):
    found = [await ledger.task(task_id(number)) for number in numbers or (1, 2, 3)]
    return [record for record in found if record is not None]
