"""What every ledger promises where the beginning of its trail is removed: by an anchor only. A part of the contract."""

from collections.abc import Collection

import pytest
from ledger_builders import NOW, a_key, accept, draft, kinds, move, moved, one, stored, task_id
from msgspec.structs import replace

from orchestrator.actors.verifying import Report, verifying
from orchestrator.crypto.signing import Signer, verifies
from orchestrator.domain.audit import AuditEntry, Head, head_of, rfc3339
from orchestrator.domain.evidence import Evidence
from orchestrator.domain.lifecycle import Step
from orchestrator.domain.retention import Begin, complete_since, due_entries
from orchestrator.domain.signatory import Signatory
from orchestrator.storage.browsing import AuditSearch, TaskQuery
from orchestrator.storage.commands import Duplicate, EntriesRemoved, Erase, Erased, Note, Noted, RemoveEntries, Stale
from orchestrator.storage.ports import AuditQuery, Ledger, LedgerReader

pytestmark = pytest.mark.anyio

_SIGNER = Signer("""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
""")
SIGNATORY = Signatory(_SIGNER.public_key, _SIGNER.sign)
KEPT_S = 100
SOON = rfc3339(NOW + 10.0)


def removal(*begins: Head, at: float = NOW + KEPT_S) -> RemoveEntries:
    """Removes all up to these places, with the anchor that says so."""
    return RemoveEntries(SIGNATORY.anchor(begins, KEPT_S, at))


async def entries(reader: LedgerReader) -> list[AuditEntry]:
    """All that are there."""
    heads = await reader.audit_heads()
    return [entry for head in heads async for entry in reader.audit_chain(head.writer)]


async def report(reader: LedgerReader, public_keys: Collection[str] = (_SIGNER.public_key,)) -> Report:
    """What is found when the trail is verified."""
    steps = verifying(await reader.audit_heads(), reader.audit_chain, Evidence(verifies, public_keys), growing=False)
    *_, last = [step async for step in steps]
    assert isinstance(last, Report)
    return last


async def due(ledger: Ledger, most: int = 99, limit: int = 99) -> tuple[int, list[int]]:
    """How many entries of the chain would be removed that were written before SOON, and up to where."""
    removed, begins = due_entries(await ledger.oldest(SOON, limit), SOON, most)
    return removed, [begin.seq for begin in begins]


class Anchoring:
    """`ledger` is one without an outbox, as most tests have it."""

    async def test_entries_that_are_removed(self, ledger, store):
        """They are gone, the anchor stands at the end, and the trail holds from there on, also when opened again."""
        await ledger.commit([Note(draft("note", at=NOW + number)) for number in range(6)])
        before = await entries(ledger)
        outcome = await one(ledger, removal(head_of(before[3])))
        after = await entries(ledger)
        assert outcome == EntriesRemoved(head_of(after[-1]), 4)
        assert after[:-1] == before[4:]
        assert (after[-1].event, after[-1].seq) == ("anchor", 7)
        begin = Begin(head_of(before[3]), before[4].created_at)
        assert await ledger.begins() == [begin]
        assert complete_since([begin]) == before[4].created_at
        found = await report(ledger)
        assert (found.flaws, found.signed, found.entries(found.heads[0])) == ([], {"main": 4}, 3)
        removed = found.removed["main"]
        assert (removed.place, removed.anchor, removed.kept_s) == (begin.place, "audit-main-7", KEPT_S)
        await ledger.close()
        again = await store.open()
        assert isinstance(await one(again, Note(draft("note"))), Noted)
        assert (await report(again)).flaws == []
        await again.close()

    async def test_removal_step_by_step(self, ledger):
        """Step by step, anchors before the last one among what goes; the trail holds after each step."""
        for number in range(40):
            await one(ledger, Note(draft("note", at=NOW + number)))
            removed, begins = due_entries(await ledger.oldest(rfc3339(NOW + 999), 6), rfc3339(NOW + 999), 99)
            if removed:
                assert await one(ledger, removal(*begins, at=NOW + number)) == EntriesRemoved(
                    (await ledger.audit_heads())[0], removed
                )
            found = await report(ledger)
            assert found.flaws == []
            assert found.entries(found.heads[0]) <= 3
        assert (await ledger.begins())[0].place.seq > 50

    async def test_place_that_is_not_there(self, ledger):
        """A wrong hash, an end, another's chain, what begins later by now: nothing is removed, and nothing is said."""
        await ledger.commit([Note(draft("note")) for _ in range(5)])
        first, second, *_, last = map(head_of, await entries(ledger))
        await one(ledger, removal(second))
        left = await entries(ledger)
        for begins in (
            [replace(second, entry_hash="ab" * 32)],
            [head_of(left[-1])],
            [replace(last, seq=99)],
            [first],
            [second],
            [second, Head("other", 1, first.entry_hash)],
        ):
            assert isinstance(await one(ledger, removal(*begins)), Stale), begins
        assert await entries(ledger) == left

    async def test_removal_in_a_batch_with_others(self, ledger):
        """Each command is for itself, whether it removes or fails to; and all of them are in the trail."""
        await ledger.commit([Note(draft("note")) for _ in range(5)])
        first, second, *_ = map(head_of, await entries(ledger))
        assert kinds(await ledger.commit([accept(1), removal(first), accept(2)])) == [
            "Accepted",
            "EntriesRemoved",
            "Accepted",
        ]
        none = removal(Head("x", 1, ""))
        outcomes = await ledger.commit([accept(3), removal(first), none, removal(second), accept(4)])
        assert kinds(outcomes) == ["Accepted", "Stale", "Stale", "EntriesRemoved", "Accepted"]
        assert (await report(ledger)).flaws == []

    async def test_which_are_due(self, ledger):
        """What is old enough, until one is younger; never the last one, and no more than is asked for."""
        for at in (1.0, 2.0, 3.0, 20.0, 4.0):
            await one(ledger, Note(draft("note", at=NOW + at)))
        assert await due(ledger) == (3, [3])
        assert await due(ledger, most=2) == (2, [2])
        assert await due(ledger, limit=2) == (1, [1])
        await one(ledger, removal(head_of((await entries(ledger))[0])))
        assert await due(ledger, most=1) == (1, [2])
        await one(ledger, removal(head_of((await entries(ledger))[1])))
        assert await due(ledger) == (0, [3])

    async def test_checkpoints_and_anchors_that_are_due(self, ledger):
        """They go with others, or where there are many of them; by themselves they would be made anew for ever."""
        await one(ledger, Note(draft("note")))
        first = head_of((await entries(ledger))[0])
        await one(ledger, Note(SIGNATORY.checkpoint([first], NOW)))
        await one(ledger, removal(first, at=NOW))
        await one(ledger, Note(draft("note", at=NOW + 20.0)))
        assert await due(ledger) == (0, [3])
        assert await due(ledger, most=2) == (2, [3])

    async def test_last_entry_of_a_chain(self, ledger):
        """It stays, however old it is: the chain has to go on."""
        await one(ledger, Note(draft("note")))
        assert await due(ledger) == (0, [])

    async def test_entries_of_a_task_that_is_open(self, ledger):
        """They stay, with all behind them, until it has ended and its last step is old enough too."""
        records = await stored(ledger, accept(1), accept(2))
        await one(ledger, Note(draft("note")))
        assert await due(ledger) == (0, [])
        first = await moved(ledger, records[0], Step.LEASE, at=NOW + 1.0)
        await moved(ledger, records[1], Step.CANCEL, at=NOW + 2.0)
        assert await due(ledger) == (0, [])
        await one(ledger, move(first, Step.SUCCEED, at=NOW + 3.0))
        assert await due(ledger) == (5, [5])

    async def test_entries_of_a_task_that_ended_late(self, ledger):
        """They stay together with those of its end; that it was erased holds up nothing."""
        for number, end in ((1, 1.0), (2, 50.0)):
            (record,) = await stored(ledger, accept(number))
            await moved(ledger, record, Step.CANCEL, at=NOW + end)
        await one(ledger, Erase(draft("erased", at=NOW + 60.0), task_id=task_id(1)))
        assert await due(ledger) == (2, [2])

    async def test_duplicate_of_a_task_without_its_entries(self, ledger):
        """It is still its duplicate, without the receipt that nothing could be proved with."""
        (record,) = await stored(ledger, accept(1, key=a_key()))
        ended = await moved(ledger, record, Step.CANCEL)
        await one(ledger, Note(draft("note")))
        await one(ledger, removal(head_of((await entries(ledger))[1])))
        assert await one(ledger, accept(2, key=a_key())) == Duplicate(ended, None)

    async def test_tasks_of_a_case_without_their_entries(self, ledger):
        """They are listed, and erased, with those whose entries are there, in the order of their acceptance."""
        for number, case in ((1, "case-1"), (2, "case-2"), (3, "case-1")):
            (record,) = await stored(ledger, accept(number, case_id=case))
            await moved(ledger, record, Step.CANCEL)
        await one(ledger, removal(head_of((await entries(ledger))[2])))
        await stored(ledger, accept(4, case_id="case-1"))
        left = (await ledger.audit(AuditQuery(case_id="case-1"))).entries
        assert [entry.task_id for entry in left] == [task_id(3), task_id(3), task_id(4)]
        query = TaskQuery(case_id="case-1", limit=2)
        newest = await ledger.briefs(query)
        older = await ledger.briefs(replace(query, before=newest.next or 0))
        assert [brief.task_id for brief in [*newest.briefs, *older.briefs]] == [task_id(4), task_id(3), task_id(1)]
        erased = await one(ledger, Erase(draft("erased"), case_id="case-1"))
        assert isinstance(erased, Erased)
        assert [record.task.task_id for record in erased.records] == [task_id(1), task_id(3), task_id(4)]

    async def test_pages_of_entries_that_are_left(self, ledger):
        """The cursors of before go on, over what is gone."""
        await ledger.commit([Note(draft("note", at=NOW + number)) for number in range(8)])
        page = await ledger.audit(AuditQuery(limit=2))
        newest = await ledger.newest(AuditSearch(limit=4))
        await one(ledger, removal(head_of((await entries(ledger))[4])))
        assert [e.seq for e in (await ledger.audit(AuditQuery(after=page.next or 0, limit=2))).entries] == [6, 7]
        assert (await ledger.newest(AuditSearch(before=newest.next or 0))).entries == []
        assert [e.seq for e in (await ledger.newest(AuditSearch(since=rfc3339(NOW), limit=2))).entries] == [9, 8]

    async def test_entry_that_is_no_anchor(self, ledger):
        """Nothing is removed behind it, and the commands beside it are done."""
        await ledger.commit([Note(draft("note")) for _ in range(5)])
        before = await entries(ledger)
        none, empty = RemoveEntries(draft("note")), RemoveEntries(draft("anchor"))
        outcomes = await ledger.commit([accept(1), none, empty, accept(2)])
        assert kinds(outcomes) == ["Accepted", "Failed", "Failed", "Accepted"]
        assert (await entries(ledger))[:-2] == before
