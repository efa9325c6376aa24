"""The parts of the trail: whatever is looked for is found in each of them, and behind the last one."""

import random
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from itertools import count

import pytest
from conformance_anchors import entries, removal
from ledger_builders import NOW, a_task, accept, draft, one, stored, task_id

from orchestrator.domain.audit import head_of, rfc3339
from orchestrator.storage.browsing import NEWEST, AuditSearch, Found, Selection, TaskQuery
from orchestrator.storage.commands import Accept, EntriesRemoved, Erase, Erased, Note
from orchestrator.storage.ports import AuditPage, AuditQuery
from orchestrator.storage.rows import AUDIT_COLUMNS
from orchestrator.storage.sqlite import parts
from orchestrator.storage.sqlite.ledger import SqliteLedger

pytestmark = pytest.mark.anyio

_numbers = count(1)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
async def ledger(file, monkeypatch):
    """With a part for each four entries."""
    monkeypatch.setattr(parts, "ENTRIES", 4)
    ledger = await SqliteLedger.opened(str(file))
    yield ledger
    await ledger.close()


def rows(file, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(file)) as connection, connection:
        return connection.execute(statement).fetchall()


def go_to(file, position: int) -> None:
    """An entry of another writer stands there: what comes after it stands behind."""
    columns = AUDIT_COLUMNS.split(", ")
    entry = dict.fromkeys(columns, "") | {"writer": "other", "seq": next(_numbers), "attempt": None, "case_id": "other"}
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            f"INSERT INTO audit_entries (position, {AUDIT_COLUMNS}) VALUES (?{', ?' * len(columns)})",
            (position, *entry.values()),
        )


async def page_by_page(page: Callable[[int, int], Awaitable[AuditPage | Found]], begin: int) -> list[int]:
    """The `seq` of all entries; whatever the size of the pages is."""
    found = []
    for limit in (1, 2, 3, 1000):
        seqs, cursor = list[int](), begin
        while cursor is not None:
            some = await page(cursor, limit)
            seqs += [entry.seq for entry in some.entries]
            cursor = some.next
        found.append(seqs)
    assert found == [found[0]] * 4
    return found[0]


async def forwards(ledger, **selection) -> list[int]:
    return await page_by_page(lambda after, limit: ledger.audit(AuditQuery(after=after, limit=limit, **selection)), 0)


async def backwards(ledger, **selection) -> list[int]:
    return await page_by_page(
        lambda before, limit: ledger.newest(AuditSearch(before=before, limit=limit, **selection)), NEWEST
    )


@pytest.mark.parametrize("positions", [(4, 8), (5, 400), (50_000, 1_000_000)])
async def test_a_case_whose_entries_are_far_apart(ledger, file, positions):
    """All of it is found, in its order, forwards and backwards, page by page; and all of it is erased."""
    await one(ledger, accept(1, case_id="case-1"))
    for number, position in enumerate(positions, 2):
        go_to(file, position + number)
        await one(ledger, accept(number, case_id="case-1"))
        await ledger.commit([Note(draft("note")) for _ in range(3)])
    tasks = [task_id(number) for number in (1, 2, 3)]
    first = await ledger.audit(AuditQuery(case_id="case-1", limit=2))
    rest = await ledger.audit(AuditQuery(case_id="case-1", after=first.next or 0))
    assert [entry.task_id for entry in [*first.entries, *rest.entries]] == tasks
    newest = await ledger.newest(AuditSearch(case_id="case-1", limit=2))
    older = await ledger.newest(AuditSearch(case_id="case-1", before=newest.next or 0))
    assert [entry.task_id for entry in [*newest.entries, *older.entries]] == tasks[::-1]
    assert [brief.task_id for brief in (await ledger.briefs(TaskQuery(case_id="case-1"))).briefs] == tasks[::-1]
    erased = await one(ledger, Erase(draft("erased", at=NOW), case_id="case-1"))
    assert isinstance(erased, Erased)
    assert [record.task.task_id for record in erased.records] == tasks


@pytest.mark.parametrize("together", [1, 2, 3, 7, 30])
async def test_entries_of_an_event(ledger, file, together):
    """Of one that is frequent, rare, or not there: each entry once, in order, from a time on."""
    events = ["often" if n % 3 else "rare" if n % 2 else "other" for n in range(1, 31)]
    notes = [Note(draft(event, at=NOW + n)) for n, event in enumerate(events, 1)]
    for start in range(0, len(notes), together):
        await ledger.commit(notes[start : start + together])
    noted = rows(file, "SELECT count(*) FROM audit_parts")[0][0]
    assert 1 <= noted <= 30 // 4
    for event in ("often", "rare", "other", "never", "Often"):
        for since in (None, 1, 5, 17, 29, 31):
            fits = [n for n, it in enumerate(events, 1) if it == event and n >= (since or 0)]
            text = None if since is None else rfc3339(NOW + since)
            assert await forwards(ledger, event=event, since=text) == fits
            assert await backwards(ledger, event=event, since=text) == fits[::-1]
    assert await ledger.events() == ["often", "other", "rare"]
    assert await ledger.latest() == NOW + 30


async def test_a_clock_that_was_set_back(ledger):
    """What was written since an instant is found wherever it stands, and the latest time is that of all entries."""
    times = [10, 90, 11, 12, 13, 14, 15, 16, 17, 80, 18, 19]
    for at in times:
        await ledger.commit([Note(draft("note", at=NOW + at))])
    for since in (5, 12, 18, 80, 85, 90, 91):
        fits = [seq for seq, at in enumerate(times, 1) if at >= since]
        assert await forwards(ledger, since=rfc3339(NOW + since)) == fits
        assert await backwards(ledger, since=rfc3339(NOW + since), event="note") == fits[::-1]
    assert await ledger.latest() == NOW + 90


async def test_a_trail_without_parts(file, monkeypatch):
    """That of an older ledger: its parts are noted when it is opened, and are not too many."""
    ledger = await SqliteLedger.opened(str(file))
    for n in range(1, 30):
        await ledger.commit([Note(draft("note" if n % 2 else "other", a_task(n, case_id=f"case-{n % 5}"), at=NOW + n))])
    await ledger.close()
    assert rows(file, "SELECT * FROM audit_parts") == []
    monkeypatch.setattr(parts, "ENTRIES", 4)
    ledger = await SqliteLedger.opened(str(file))
    assert rows(file, "SELECT first, last FROM audit_parts") == [(1, 8), (9, 16), (17, 24), (25, 29)]
    assert await forwards(ledger, event="other") == list(range(2, 30, 2))
    assert await backwards(ledger, case_id="case-3") == [28, 23, 18, 13, 8, 3]
    assert await forwards(ledger, since=rfc3339(NOW + 20.5)) == list(range(21, 30))
    await ledger.commit([Note(draft("note")) for _ in range(3)])
    assert len(rows(file, "SELECT * FROM audit_parts")) == 4
    await ledger.commit([Note(draft("note"))])
    assert rows(file, "SELECT max(first), max(last) FROM audit_parts") == [(30, 33)]
    await ledger.close()


async def test_a_commit_that_fails(ledger, file, monkeypatch):
    """No part of it is left, and the next one has it."""
    await ledger.commit([Note(draft("note")) for _ in range(3)])
    with monkeypatch.context() as patch:
        patch.setattr(parts.sql, "ADD_PART", "INSERT INTO nowhere VALUES (?, ?, ?)")
        with pytest.raises(Exception, match="SQLITE_ERROR"):
            await ledger.commit([Note(draft("note"))])
    assert rows(file, "SELECT * FROM audit_runs UNION ALL SELECT * FROM audit_cases") == []
    await ledger.commit([Note(draft("last"))])
    assert rows(file, "SELECT last, first FROM audit_parts") == [(4, 1)]
    assert await ledger.events() == ["last", "note"]


async def test_entries_that_were_removed(ledger, file):
    """Nothing is found of them any more, nor kept of their cases; what stands behind them is found as before."""
    await ledger.commit([Note(draft("early", a_task(1, case_id="case-1")))])
    for n in range(2, 15):
        await stored(ledger, accept(n, case_id=f"case-{n}", at=NOW + n))
    assert len(rows(file, "SELECT * FROM audit_parts")) == 3
    outcome = await one(ledger, removal(head_of((await entries(ledger))[5])))
    assert isinstance(outcome, EntriesRemoved)
    assert await forwards(ledger, event="accepted") == list(range(7, 15))
    assert await ledger.events() == ["accepted", "anchor"]
    assert rows(file, "SELECT min(case_id), count(*) FROM audit_cases") == [("case-10", 6)]
    assert rows(file, "SELECT min(first), min(last) FROM audit_parts") == [(5, 8)]
    assert await backwards(ledger, case_id="case-6") == []
    assert await backwards(ledger, case_id="case-7") == [7]
    assert [brief.case_id for brief in (await ledger.briefs(TaskQuery(case_id="case-6"))).briefs] == ["case-6"]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_parts",
        "DELETE FROM audit_runs WHERE event = 'note'",
        "DELETE FROM audit_cases",
        "UPDATE audit_parts SET latest = ''",
        "UPDATE audit_runs SET first = last",
        "UPDATE audit_cases SET case_id = ''",
        "REPLACE INTO audit_runs SELECT last, last, '' FROM audit_runs",
        "REPLACE INTO audit_parts SELECT last, last, '' FROM audit_parts",
        "INSERT INTO audit_parts VALUES (1000, 9, '')",
    ],
)
async def test_parts_stay(ledger, file, statement):
    """By no statement an entry is hidden from who looks for it: whoever tries is refused."""
    await ledger.commit([Note(draft("note", a_task(n, case_id="case-1"))) for n in range(5)])
    await ledger.close()
    with pytest.raises(sqlite3.IntegrityError, match="parts of the audit"):
        rows(file, statement)


async def any_step(ledger: SqliteLedger, chance: random.Random, now: float) -> None:
    """A commit of some entries and tasks, an erasure, or a removal of the trail's beginning."""
    kind = chance.random()
    if kind < 0.1:
        there = await entries(ledger)
        await one(ledger, removal(head_of(chance.choice(there)), at=now) if there else Note(draft("first")))
    elif kind < 0.15:
        await one(ledger, Erase(draft("erased", at=now), case_id=f"case-{chance.randrange(5)}"))
    else:
        commands: list[Accept | Note] = []
        for _ in range(chance.choice((1, 1, 2, 9, 20))):
            case = f"case-{chance.randrange(5)}"
            commands.append(
                accept(next(_numbers), case_id=case, at=now)
                if chance.random() < 0.5
                else Note(
                    draft(chance.choice("abc"), a_task(1, case_id=case) if chance.random() < 0.7 else None, at=now)
                )
            )
        await ledger.commit(commands)


@pytest.mark.parametrize("seed", range(6))
async def test_anything_in_any_order(ledger, file, seed: int):
    """Whatever is written, erased and removed, by however many processes: what is found is what fits, page by page."""
    chance, now = random.Random(seed), NOW
    for _ in range(40):
        now += chance.choice((1, 1, 1, -5))
        await any_step(ledger, chance, now)
        if chance.random() < 0.1:
            await ledger.close()
            ledger = await SqliteLedger.opened(str(file))
        if chance.random() < 0.3:
            there = await entries(ledger)
            choices = {
                "case_id": f"case-{chance.randrange(5)}", "event": chance.choice(("a", "accepted", "anchor", "none")),
                "since": rfc3339(NOW + chance.randrange(40)),
            }  # fmt: skip
            selection = {name: value for name, value in choices.items() if chance.random() < 0.5}
            fitting = [entry.seq for entry in there if Selection(**selection).fits(entry)]
            assert await forwards(ledger, **selection) == fitting, (seed, selection)
            assert await backwards(ledger, **selection) == fitting[::-1], (seed, selection)
            assert await ledger.events() == sorted({entry.event for entry in there}), seed
    await ledger.close()
