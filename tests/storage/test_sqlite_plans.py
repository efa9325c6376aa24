"""How SQLite carries out each statement: none walks through all tasks or all entries, unless it is meant to."""

import contextlib
import re
import sqlite3
from typing import Any

import pytest

from orchestrator.storage.sqlite import schema, sql

STATEMENTS = {
    name: value
    for name, value in vars(sql).items()
    if not name.startswith("_") and isinstance(value, str) and re.search(r"\b(tasks|audit_entries)\b", value)
}
STATEMENTS.update(
    {f"{name}, {n} at once": many for name, it in [*STATEMENTS.items()] for n, many in sql.AT_ONCE.get(it, ())}
)

MAY_SCAN = {
    "COUNT_READY": ("tasks_ready", "once, at the start; the index holds only what is ready"),
    "COUNT_OPEN": ("tasks_open", "once, at the start; the index holds only what is open"),
    "READ_CHAINS": ("audit_entries_chain", "for who verifies, and then reads every entry anyway"),
    "READ_LEASED": ("tasks_leased", "at the start and at the end; the index holds only what is leased"),
}
"""The index that is read through, and why that is well."""

READS_ROWS = {"READ_LEASED"}

WALKS_BY_POSITION = {
    "READ_AUDIT": "a page of the whole trail",
    "READ_DATA_KEYS": "each key, for who wraps them anew",
    "READ_BRIEFS": "a page of all tasks, through a bounded window of them",
    "READ_NEWEST": "a page of the whole trail, backwards",
    "READ_STATE": "only dead letters are listed, by an index of their own",
    "READ_STATE_OF": "only dead letters are listed, by an index of their own",
}
"""Found by the primary key from a cursor on: what does not fit is passed over, row by row."""


OF_AN_EVENT = {"READ_AUDIT_OF_EVENT", "READ_NEWEST_OF_EVENT"}
"""Found run by run: what stands between the runs of an event is not walked through."""

OF_A_CASE = {"READ_AUDIT_OF_CASE", "READ_NEWEST_OF_CASE", "READ_BRIEFS_OF_CASE", "READ_CASE_TO_ERASE"}
"""Sorted are the entries of one case, which are found part by part."""

BEHIND_PARTS = {"COUNT_BEHIND_PARTS", "READ_NEXT_RUNS", "READ_EVENTS", "LATEST", *OF_AN_EVENT, *OF_A_CASE}
"""They look through the few entries that are in no part yet, too."""

WITHIN_A_PART = {"ADD_CASES", "REMOVE_RUNS"}

SORTS_LITTLE = {"READ_CHAINS", "READ_NEXT_RUNS", "ADD_CASES", "READ_EVENTS", *OF_A_CASE}
"""The names of writers or events, a part, a case."""


@pytest.fixture
def explained():
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.migrate(connection)

        def explained(how: str, statement: str) -> list[tuple[Any, ...]]:
            values = len(set(re.findall(r"\?\d+", statement))) or statement.count("?")
            return connection.execute(f"{how} {statement}", [None] * values).fetchall()

        yield explained


@pytest.fixture
def plan(explained):
    return lambda statement: [row[3] for row in explained("EXPLAIN QUERY PLAN", statement)]


@pytest.fixture
def opcodes(explained):
    return lambda statement: [row[1] for row in explained("EXPLAIN", statement)]


def test_statements_are_found():
    """The reads and the one update of tasks are among those that are looked at."""
    assert {"READ_TASK", "MOVE_TASK", "READ_READY", "READ_DEAD", "READ_CHAIN", "READ_AUDIT_OF_CASE"} <= set(STATEMENTS)
    assert set(STATEMENTS) >= BEHIND_PARTS
    assert {f"MOVE_TASK, {rows} at once" for rows in sql.ROWS} <= set(STATEMENTS)


@pytest.mark.parametrize("name", STATEMENTS)
def test_plan(plan, name):
    """It searches by an index; what may scan scans the index that is named, and no row unless it is to return it."""
    steps = plan(STATEMENTS[name])
    scans = [step for step in steps if re.match(r"SCAN (tasks|audit_(entries|runs|cases))", step)]
    index, _ = MAY_SCAN.get(name, ("", ""))
    allowed = f"USING INDEX {index}" if name in READS_ROWS else f"USING COVERING INDEX {index}"
    assert [step for step in scans if not (index and step.endswith(allowed))] == [], steps
    assert bool(walks_in(steps)) == (name in {*WALKS_BY_POSITION, *BEHIND_PARTS, *WITHIN_A_PART}), steps


def walks_in(steps: list[str]) -> list[str]:
    """The steps that go from row to row by the primary key."""
    return [step for step in steps if re.search(r"(tasks|entries) USING INTEGER PRIMARY KEY \(rowid[<>]", step)]


@pytest.mark.parametrize("name", sorted(BEHIND_PARTS))
def test_entries_in_no_part(plan, name):
    """They are looked through from the end of the last part on; of an event its runs are, too, and no more."""
    assert re.search(
        r"position > (max\(\?[0-9], )?\(SELECT coalesce\(max\(last\), 0\) FROM audit_parts\)", STATEMENTS[name]
    )
    walks = walks_in(plan(STATEMENTS[name]))
    assert len(walks) == (2 if name in OF_AN_EVENT else 1)


@pytest.mark.parametrize("name", [name for name in STATEMENTS if "ORDER BY" in STATEMENTS[name]])
def test_order(plan, name):
    """Pages come out of the index in their order: nothing but ties is sorted, so nothing is read to its end first."""
    sorts = [step for step in plan(STATEMENTS[name]) if "TEMP B-TREE FOR" in step and "RIGHT PART" not in step]
    assert name in SORTS_LITTLE or sorts == []


@pytest.mark.parametrize("name", sorted(OF_AN_EVENT))
def test_entries_of_an_event(plan, name):
    """They are found by the runs of the event, from the cursor on, each from its first entry to its last."""
    steps = [step for step in plan(STATEMENTS[name]) if re.match("SEARCH audit_(runs|entries) USING I", step)]
    until = "" if name == "READ_AUDIT_OF_EVENT" else " AND rowid<?"
    assert steps[:2] == [
        f"SEARCH audit_runs USING INDEX audit_runs_event (event=? AND rowid>?{until})",
        "SEARCH audit_entries USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    ]


def test_events(plan):
    """Which there are is said by the index of their runs, from one event to the next."""
    steps = [step for step in plan(sql.READ_EVENTS) if "audit_runs" in step]
    found = "SEARCH audit_runs USING COVERING INDEX audit_runs_event"
    assert steps == [found, f"{found} (event>?)"]


@pytest.mark.parametrize("name", ["ADD_TASK", f"ADD_TASK, {sql.ROWS[0]} at once", "ADD_BEGUN_TASK", "MOVE_TASK"])
def test_indexes_that_hold_some_tasks(opcodes, name):
    """Whether they hold one that is written is told by comparing its values: nothing is made for that, row by row."""
    assert "OpenEphemeral" not in opcodes(STATEMENTS[name])


OF_A_TASK = [name for name, text in STATEMENTS.items() if re.search(r"FROM audit_entries WHERE.*\btask_id = \?", text)]


@pytest.mark.parametrize("name", OF_A_TASK)
def test_entries_of_a_task(plan, name):
    """They are found by the task, which has few, and not by what else they are to be."""
    assert any("USING INDEX audit_entries_task (task_id=?" in step for step in plan(STATEMENTS[name]))


@pytest.mark.parametrize("name", sorted(OF_A_CASE))
def test_entries_of_a_case(plan, name):
    """Of each part only those are read that the case has in it."""
    assert any("audit_cases USING PRIMARY KEY (part=? AND case_id=?" in step for step in plan(STATEMENTS[name]))
