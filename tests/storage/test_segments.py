"""The trail's index by case has a part for every 4,096 entries: who looks for a case looks into each of them."""

import sqlite3
from contextlib import closing
from itertools import count

import pytest
from ledger_builders import NOW, accept, draft, one, task_id

from orchestrator.storage.browsing import AuditSearch, TaskQuery
from orchestrator.storage.commands import Erase, Erased
from orchestrator.storage.ports import AuditQuery
from orchestrator.storage.rows import AUDIT_COLUMNS
from orchestrator.storage.sqlite.ledger import SqliteLedger

pytestmark = pytest.mark.anyio

_numbers = count(1)


@pytest.fixture
async def ledger(tmp_path):
    ledger = await SqliteLedger.opened(str(tmp_path / "ledger.db"))
    yield ledger
    await ledger.close()


def go_to(folder, position: int) -> None:
    """An entry of another writer stands there: what comes after it stands behind."""
    columns = AUDIT_COLUMNS.split(", ")
    entry = dict.fromkeys(columns, "") | {"writer": "other", "seq": next(_numbers), "attempt": None, "case_id": "other"}
    with closing(sqlite3.connect(folder / "ledger.db")) as connection, connection:
        connection.execute(
            f"INSERT INTO audit_entries (position, {AUDIT_COLUMNS}) VALUES (?{', ?' * len(columns)})",
            (position, *entry.values()),
        )


@pytest.mark.parametrize("positions", [(4_094, 8_190), (4_095, 8_191), (50_000, 1_000_000)])
async def test_a_case_whose_entries_are_far_apart(ledger, tmp_path, positions):
    """All of it is found, in its order, forwards and backwards, page by page; and all of it is erased."""
    await one(ledger, accept(1, case_id="case-1"))
    for number, position in enumerate(positions, 2):
        go_to(tmp_path, position)
        await one(ledger, accept(number, case_id="case-1"))
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
