"""What every ledger promises of consents that are revoked: a part of the contract. Its transaction decides."""

import itertools

import pytest
from ledger_builders import NOW, a_key, a_task, accept, draft, kinds, move, moved, one, read, recount, stored, trail
from msgspec.structs import replace

from orchestrator.domain.lifecycle import Progress, State, Step
from orchestrator.domain.task import Consent
from orchestrator.storage.commands import Accept, Denied, Duplicate, RevokeConsent, Revoked, Stale

pytestmark = pytest.mark.anyio

GIVEN = Consent(True, "consent-1")


def revoke(consent_id: str = "consent-1", at: float = NOW) -> RevokeConsent:
    return RevokeConsent(consent_id, replace(draft("consent_revoked", at=at), consent_id=consent_id))


def under(number: int, consent: Consent = GIVEN, **fields) -> Accept:
    """A task that names a consent; so does its audit entry."""
    command = accept(number, consent=consent, **fields)
    return replace(command, audit=replace(command.audit, consent_id=consent.consent_id))


class Consents:
    """`ledger` is an empty one, and `store` is where it lives."""

    async def test_revoked(self, ledger):
        """Each unfinished task that names it is denied, wherever it is in its life; no other task, nothing finished."""
        records = await stored(ledger, *[under(number) for number in range(1, 6)])
        other, *_ = await stored(ledger, under(6, Consent(True, "consent-2")), accept(7))
        await moved(ledger, records[1], Step.LEASE)
        await moved(ledger, records[2], Step.LEASE, Step.RETRY)
        done = await moved(ledger, records[3], Step.LEASE, Step.SUCCEED, output=1)
        outcome = await one(ledger, revoke())
        assert isinstance(outcome, Revoked)
        assert [r.task.task_id for r in outcome.records] == [records[i].task.task_id for i in (0, 1, 2, 4)]
        for record in outcome.records:
            assert (record.progress.state, record.progress.reason) == (State.DENIED, "consent_revoked")
            found = await read(ledger, record)
            assert record.task == replace(found.task, payload={}, meta={})
            assert found == replace(record, task=found.task, revoked=True)
        assert (await read(ledger, done)) == replace(done, revoked=True)
        assert (await read(ledger, other)) == other
        assert ledger.depths() == await recount(ledger)

    async def test_its_trail(self, ledger):
        """One entry for each task that was denied, and one for the revocation, after them."""
        first, second = await stored(ledger, under(1), under(2))
        await one(ledger, revoke())
        entries = (await trail(ledger))[2:]
        assert [(e.event, e.task_id, e.consent_id) for e in entries] == [
            ("denied", first.task.task_id, "consent-1"),
            ("denied", second.task.task_id, "consent-1"),
            ("consent_revoked", None, "consent-1"),
        ]

    async def test_revoked_twice(self, ledger):
        """The second time changes nothing and writes nothing."""
        assert isinstance(await one(ledger, revoke()), Revoked)
        before = await trail(ledger)
        assert await one(ledger, revoke()) == Revoked()
        assert await trail(ledger) == before

    async def test_new_task_under_it(self, ledger, store):
        """It is refused with its own entry, and leaves nothing else; so it is after a restart."""
        await one(ledger, revoke())
        outcome = await one(ledger, under(1, key=a_key()))
        assert isinstance(outcome, Denied)
        entry = (await trail(ledger))[-1]
        assert (entry.event, entry.status, entry.reason) == ("refused", "denied", "consent_revoked")
        assert (entry.consent_id, entry.task_id, entry.seq) == ("consent-1", None, outcome.receipt.seq)
        assert await ledger.task(a_task(1).task_id) is None
        await ledger.close()
        again = await store.open()
        assert isinstance(await one(again, under(1, key=a_key())), Denied)
        await stored(again, under(2, Consent(True, "consent-2"), key=a_key()), accept(3))
        await again.close()

    @pytest.mark.parametrize("order", list(itertools.permutations(["accept", "revoke", "other"])))
    async def test_revoked_within_a_batch(self, ledger, order):
        """What comes first counts: accepted and then denied, or refused at once. Neighbours are not touched."""
        commands = {"accept": under(1), "revoke": revoke(), "other": accept(2)}
        outcomes = dict(zip(order, await ledger.commit([commands[name] for name in order]), strict=True))
        accepted_first = order.index("accept") < order.index("revoke")
        assert kinds([outcomes["accept"], outcomes["other"]]) == [
            "Accepted" if accepted_first else "Denied",
            "Accepted",
        ]
        assert isinstance(outcomes["revoke"], Revoked)
        assert len(outcomes["revoke"].records) == accepted_first
        found = await ledger.task(a_task(1).task_id)
        assert (found.progress.state if found else None) == (State.DENIED if accepted_first else None)
        assert ledger.depths() == await recount(ledger)

    @pytest.mark.parametrize("step", [Step.SUCCEED, Step.RETRY, Step.MOVE, Step.GIVE_BACK, Step.LOSE])
    async def test_running_task(self, ledger, step):
        """It is fenced: whatever its attempt comes to, in the same batch or later, changes nothing."""
        leased = await moved(ledger, (await stored(ledger, under(1)))[0], Step.LEASE)
        late = move(leased, step, output={"found": "too late"})
        assert kinds(await ledger.commit([revoke(), late])) == ["Revoked", "Stale"]
        assert await one(ledger, late) == Stale()
        found = await read(ledger, leased)
        assert (found.progress.state, found.result) == (State.DENIED, None)

    @pytest.mark.parametrize("step", [Step.LEASE, Step.CANCEL])
    async def test_waiting_task(self, ledger, step):
        """It is not dispatched any more; a transition that is faster takes place, and then it is denied or finished."""
        (record,) = await stored(ledger, under(1))
        assert kinds(await ledger.commit([move(record, step), revoke()])) == ["Moved", "Revoked"]
        assert (await read(ledger, record)).progress.state is (State.CANCELLED if step is Step.CANCEL else State.DENIED)
        assert await one(ledger, move(record, Step.LEASE)) == Stale()

    async def test_result_that_is_faster(self, ledger):
        """It is stored, and whoever reads the task is told that its consent is gone."""
        leased = await moved(ledger, (await stored(ledger, under(1, key=a_key())))[0], Step.LEASE)
        assert kinds(await ledger.commit([move(leased, Step.SUCCEED, output=1), revoke()])) == ["Moved", "Revoked"]
        assert (await read(ledger, leased)).revoked
        again = await one(ledger, under(2, key=a_key()))
        assert isinstance(again, Duplicate)
        assert again.record.revoked

    async def test_override(self, ledger):
        """Whoever breaks the glass leaves an entry of its own, before that of the task."""
        command = replace(accept(1), override=draft("consent_overridden"))
        await stored(ledger, command)
        assert [entry.event for entry in await trail(ledger)] == ["consent_overridden", "accepted"]

    async def test_delayed_task(self, ledger):
        """One that is not due yet is denied as well."""
        (record,) = await stored(ledger, under(1, progress=Progress(due_at=NOW + 9.0)))
        await one(ledger, revoke())
        assert await ledger.next_due() is None
        assert (await read(ledger, record)).progress.state is State.DENIED
