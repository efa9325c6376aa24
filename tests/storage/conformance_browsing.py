"""What people look through: the part of the contract of ledgers about lists, newest first."""

import pytest
from ledger_builders import NOW, a_task, accept, draft, moved, read, stored, task_id
from msgspec.structs import replace

from orchestrator.domain.audit import rfc3339
from orchestrator.domain.lifecycle import State, Step
from orchestrator.storage import browsing
from orchestrator.storage.browsing import AuditSearch, TaskQuery, brief_of
from orchestrator.storage.commands import Note

pytestmark = pytest.mark.anyio


class Looking:
    async def test_the_newest_tasks_first(self, ledger):
        """Page by page, each task once, as the task itself would tell it."""
        records = await stored(ledger, *[accept(number) for number in range(1, 8)])
        pages, before = [], browsing.NEWEST
        while before is not None:
            page = await ledger.briefs(TaskQuery(before=before, limit=3))
            pages.append(page.briefs)
            before = page.next
        assert [len(page) for page in pages] == [3, 3, 1]
        briefs = [brief for page in pages for brief in page]
        assert [brief.task_id for brief in briefs] == [task_id(number) for number in range(7, 0, -1)]
        assert briefs[0] == brief_of(await read(ledger, records[-1]))

    async def test_tasks_that_fit(self, ledger):
        """By state, by case, by principal, and all of it together."""
        sent = [accept(n, case_id=f"case-{n % 2}", principal=f"clinic-{n % 3}") for n in range(1, 7)]
        await moved(ledger, (await stored(ledger, *sent))[3], Step.CANCEL)

        async def found(**query):
            return [int(b.task_id[-2:]) for b in (await ledger.briefs(TaskQuery(**query))).briefs]

        assert await found(state=State.CANCELLED) == [4]
        assert await found(case_id="case-0") == [6, 4, 2]
        assert await found(principal="clinic-1") == [4, 1]
        assert await found(case_id="case-0", principal="clinic-1", state=State.CANCELLED) == [4]
        assert await found(case_id="case-0", principal="clinic-1", state=State.QUEUED) == []
        assert await found(case_id="case-0", before=6) == [4, 2]

    async def test_what_is_rare(self, ledger, monkeypatch):
        """Is not searched for through all tasks: a page without any says where to go on."""
        monkeypatch.setattr(browsing, "WINDOW", 4)
        records = await stored(ledger, *[accept(number) for number in range(1, 11)])
        await moved(ledger, records[1], Step.CANCEL)
        query = TaskQuery(state=State.CANCELLED)
        first = await ledger.briefs(query)
        assert (first.briefs, first.next) == ([], 7)
        second = await ledger.briefs(replace(query, before=first.next))
        assert (second.briefs, second.next) == ([], 3)
        third = await ledger.briefs(replace(query, before=second.next))
        assert ([brief.task_id for brief in third.briefs], third.next) == ([task_id(2)], None)

    async def test_the_newest_entries_first(self, ledger):
        """All of them page by page; those of a task, of a case, and from an instant on."""
        await stored(ledger, *[accept(n, case_id=f"case-{n % 2}") for n in range(1, 6)])
        await ledger.commit([Note(draft("noted", at=NOW + 100))])
        entries, before = [], browsing.NEWEST
        while before is not None:
            page = await ledger.newest(AuditSearch(before=before, limit=4))
            entries += page.entries
            before = page.next
        assert [entry.seq for entry in entries] == [6, 5, 4, 3, 2, 1]
        of_case = (await ledger.newest(AuditSearch(case_id="case-1"))).entries
        assert [entry.task_id for entry in of_case] == [task_id(5), task_id(3), task_id(1)]
        assert [e.seq for e in (await ledger.newest(AuditSearch(task_id=task_id(2)))).entries] == [2]
        assert (await ledger.newest(AuditSearch(task_id=task_id(2), case_id="case-1"))).entries == []
        late = await ledger.newest(AuditSearch(since=rfc3339(NOW + 50)))
        assert [entry.event for entry in late.entries] == ["noted"]

    async def test_entries_of_an_event(self, ledger):
        """The newest first, page by page; of a task or a case, from an instant on; and which events there are."""
        assert await ledger.events() == []
        for n in range(1, 6):
            await stored(ledger, accept(n, case_id=f"case-{n % 2}", at=NOW + n))
            await ledger.commit([Note(draft("noted", a_task(n, case_id=f"case-{n % 2}"), at=NOW + n))])
        for search, expected in [
            (AuditSearch(event="noted"), [10, 8, 6, 4, 2]),
            (AuditSearch(event="noted", task_id=task_id(2)), [4]),
            (AuditSearch(event="noted", case_id="case-1"), [10, 6, 2]),
            (AuditSearch(event="noted", case_id="case-1", task_id=task_id(2)), []),
            (AuditSearch(event="accepted", since=rfc3339(NOW + 3)), [9, 7, 5]),
            (AuditSearch(event="Noted"), []),
        ]:
            for limit in (1, 2, 50):
                found, before = [], browsing.NEWEST
                while before is not None:
                    page = await ledger.newest(replace(search, before=before, limit=limit))
                    found += [entry.seq for entry in page.entries]
                    before = page.next
                assert found == expected
        assert await ledger.events() == ["accepted", "noted"]

    async def test_the_last_checkpoint(self, ledger):
        """Is found behind what was written since."""
        assert await ledger.last_checkpoint() is None
        for event in ("checkpoint", "noted", "checkpoint", "noted"):
            await ledger.commit([Note(draft(event))])
        assert (await ledger.last_checkpoint()).seq == 3
