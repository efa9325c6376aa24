"""How SQLite carries out each statement: none walks through all tasks or all entries, unless it is meant to."""

import contextlib
import re
import sqlite3

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


OF_AN_EVENT = {"READ_AUDIT_OF_EVENT", "READ_NEWEST_OF_EVENT", "READ_LAST_CHECKPOINT", "READ_EVENTS"}
"""Found by the index of events: what else was written is not walked through."""

OF_A_CASE = {"READ_AUDIT_OF_CASE", "READ_NEWEST_OF_CASE", "READ_BRIEFS_OF_CASE", "READ_CASE_TO_ERASE"}
"""Sorted are the entries of one case, which are found segment by segment."""


@pytest.fixture
def plan():
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.migrate(connection)

        def plan(statement: str) -> list[str]:
            values = len(set(re.findall(r"\?\d+", statement))) or statement.count("?")
            rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", [None] * values)
            return [row[3] for row in rows]

        yield plan


def test_statements_are_found():
    """The reads and the one update of tasks are among those that are looked at."""
    assert {"READ_TASK", "MOVE_TASK", "READ_READY", "READ_DEAD", "READ_CHAIN", "READ_AUDIT_OF_CASE"} <= set(STATEMENTS)
    assert {f"MOVE_TASK, {rows} at once" for rows in sql.ROWS} <= set(STATEMENTS)


@pytest.mark.parametrize("name", STATEMENTS)
def test_plan(plan, name):
    """It searches by an index; what may scan scans the index that is named, and no row unless it is to return it."""
    steps = plan(STATEMENTS[name])
    scans = [step for step in steps if re.match(r"SCAN (tasks|audit_entries)", step)]
    index, _ = MAY_SCAN.get(name, ("", ""))
    allowed = f"USING INDEX {index}" if name in READS_ROWS else f"USING COVERING INDEX {index}"
    assert [step for step in scans if not (index and step.endswith(allowed))] == [], steps
    walks = any(re.search(r"INTEGER PRIMARY KEY \(rowid[<>]", step) for step in steps)
    assert walks == (name in WALKS_BY_POSITION), steps


@pytest.mark.parametrize("name", [name for name in STATEMENTS if "ORDER BY" in STATEMENTS[name]])
def test_order(plan, name):
    """Pages come out of the index in their order: nothing but ties is sorted, so nothing is read to its end first."""
    sorts = [step for step in plan(STATEMENTS[name]) if "TEMP B-TREE FOR" in step and "RIGHT PART" not in step]
    assert name in {"READ_CHAINS", *OF_A_CASE} or sorts == []


@pytest.mark.parametrize("name", sorted(OF_AN_EVENT))
def test_entries_of_an_event(plan, name):
    """Only that event's are read, from the cursor on; and of which events there are any, not one entry is."""
    steps = [step for step in plan(STATEMENTS[name]) if "audit_entries" in step]
    covering, found = ("COVERING ", r"( \(event>\?\))?") if name == "READ_EVENTS" else ("", r" \(event=\?.*\)")
    wanted = re.compile(rf"SEARCH audit_entries USING {covering}INDEX audit_entries_event{found}")
    assert steps, name
    assert [step for step in steps if not wanted.fullmatch(step)] == []


OF_A_TASK = [name for name, text in STATEMENTS.items() if re.search(r"FROM audit_entries WHERE.*\btask_id = \?", text)]


@pytest.mark.parametrize("name", OF_A_TASK)
def test_entries_of_a_task(plan, name):
    """They are found by the task, which has few, and not by what else they are to be."""
    assert any("USING INDEX audit_entries_task (task_id=?" in step for step in plan(STATEMENTS[name]))


@pytest.mark.parametrize("name", sorted(OF_A_CASE))
def test_entries_of_a_case(plan, name):
    """Of each segment only those are read that the case has in it."""
    assert any("USING INDEX audit_entries_case (<expr>=? AND case_id=?" in step for step in plan(STATEMENTS[name]))
