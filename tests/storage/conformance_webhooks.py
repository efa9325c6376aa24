"""What every ledger promises of its webhooks: who is to be told that a task has ended. A part of the contract."""

import pytest
from ledger_builders import NOW, accept, draft, kinds, move, moved, one, stored, task_id
from msgspec.structs import replace

from orchestrator.domain.lifecycle import Step
from orchestrator.storage.commands import EndWebhook, Noted, Stale, TryWebhook, Webhook
from orchestrator.storage.ports import Ledger

pytestmark = pytest.mark.anyio

URL = "https://sender.example/told"


def hook(number: int = 1, attempts: int = 0) -> Webhook:
    return Webhook(task_id(number), URL, attempts)


def wanting(number: int = 1):
    return replace(accept(number), callback_url=URL)


async def due(ledger: Ledger, at: float = NOW + 1.0, limit: int = 9) -> list[Webhook]:
    return await ledger.webhooks(at, limit)


class CallingBack:
    """`ledger` is one without an outbox, as most tests have it."""

    async def test_webhook_of_a_task_that_goes_on(self, ledger):
        """Is not due: only an end is told."""
        (record,) = await stored(ledger, wanting())
        await moved(ledger, record, Step.LEASE)
        assert await due(ledger, NOW + 1e6) == []

    @pytest.mark.parametrize("end", [Step.CANCEL, Step.EXPIRE, Step.DENY])
    async def test_webhook_of_a_task_that_has_ended(self, ledger, end):
        """Is due from that moment on; a task whose sender wants no call has none."""
        (record, other) = await stored(ledger, wanting(1), accept(2))
        await moved(ledger, record, end)
        await moved(ledger, other, end)
        assert await due(ledger, NOW - 1.0) == []
        assert await due(ledger) == [hook()]

    async def test_acceptance_and_end_in_one_batch(self, ledger):
        """The webhook is there and due."""
        (record,) = await stored(ledger, accept(1))
        outcomes = await ledger.commit([wanting(2), move(record, Step.CANCEL)])
        assert kinds(outcomes) == ["Accepted", "Moved"]
        assert await due(ledger) == []
        await moved(ledger, outcomes[0].record, Step.CANCEL)
        assert await due(ledger) == [hook(2)]

    async def test_longest_due_first(self, ledger):
        """And no more than were asked for."""
        records = await stored(ledger, wanting(1), wanting(2), wanting(3))
        for at, record in zip((3.0, 1.0, 2.0), records, strict=True):
            await moved(ledger, record, Step.CANCEL, at=NOW + at)
        assert await due(ledger, NOW + 9.0, limit=2) == [hook(2), hook(3)]

    async def test_attempt_is_one_party_s(self, ledger):
        """Of two that read the same webhook one gets it; it is due again at the time that was set."""
        (record,) = await stored(ledger, wanting())
        await moved(ledger, record, Step.CANCEL)
        (found,) = await due(ledger)
        assert await one(ledger, TryWebhook(found, NOW + 60.0)) == Noted()
        assert await one(ledger, TryWebhook(found, NOW + 70.0)) == Stale()
        assert await due(ledger, NOW + 59.0) == []
        assert await due(ledger, NOW + 61.0) == [hook(attempts=1)]

    async def test_webhook_that_is_done_with(self, ledger):
        """Is gone, with one audit entry, however many say so."""
        (record,) = await stored(ledger, wanting())
        await moved(ledger, record, Step.CANCEL)
        end = EndWebhook(task_id(1), draft("called_back", record.task))
        outcomes = await ledger.commit([end, end])
        assert kinds(outcomes) == ["Noted", "Stale"]
        assert await due(ledger, NOW + 1e6) == []
        events = [entry.event async for entry in ledger.audit_chain("main")]
        assert events.count("called_back") == 1

    async def test_webhooks_survive_the_process(self, store):
        """As everything else in the ledger does."""
        ledger = await store.open()
        (record,) = await stored(ledger, wanting())
        await moved(ledger, record, Step.CANCEL)
        await one(ledger, TryWebhook(hook(), NOW + 2.0))
        await ledger.close()
        ledger = await store.open()
        assert await due(ledger, NOW + 3.0) == [hook(attempts=1)]
        await ledger.close()

    async def test_a_task_that_ends_after_a_restart(self, store):
        """Its sender is told, whether or not anybody else has asked for that since."""
        ledger = await store.open()
        (record,) = await stored(ledger, wanting())
        await ledger.close()
        ledger = await store.open()
        await moved(ledger, record, Step.CANCEL)
        assert await due(ledger) == [hook()]
        await ledger.close()
