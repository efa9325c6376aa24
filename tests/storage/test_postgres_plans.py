"""How PostgreSQL finds the entries of an event in a long trail: by their index."""

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import pytest

from orchestrator.storage.browsing import NEWEST
from orchestrator.storage.postgres import schema, sql

pytestmark = pytest.mark.anyio

FILLED = (
    "INSERT INTO audit_entries (position, writer, seq, audit_id, event, created_at, prev_hash, entry_hash)"
    " SELECT n, 'main', n, 'audit-main-' || n, CASE n % 5000 WHEN 0 THEN 'checkpoint' ELSE 'event-' || n % 3 END,"
    " '2026-11-23T00:00:00Z', '', '' FROM generate_series(1, 20000) AS n"
)


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def connection(postgres):
    connection = await asyncpg.connect(postgres.url(await postgres.new_database()))
    await schema.migrate(connection)
    await connection.execute(FILLED)
    await connection.execute("VACUUM ANALYZE audit_entries")
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("READ_AUDIT_OF_EVENT", (0, "", 50, "checkpoint")),
        ("READ_NEWEST_OF_EVENT", (NEWEST, "", 50, "checkpoint")),
        ("READ_LAST_CHECKPOINT", ()),
        ("READ_EVENTS", ()),
    ],
)
async def test_entries_of_an_event(connection, name, values):
    """A handful of a kind is not looked for through all of them."""
    rows = await connection.fetch("EXPLAIN (COSTS OFF) " + getattr(sql, name), *values)
    plan = "\n".join(row[0] for row in rows)
    assert "audit_entries_event" in plan, plan
    assert "Seq Scan" not in plan, plan
    assert "audit_entries_pkey" not in plan, plan


async def test_which_events_there_are(connection):
    """Each once, in order."""
    found = [row[0] for row in await connection.fetch(sql.READ_EVENTS)]
    assert found == ["checkpoint", "event-0", "event-1", "event-2"]


async def test_receipt_of_a_task(connection):
    """Its acceptance is looked for among its own entries, and not among all acceptances."""
    rows = await connection.fetch("EXPLAIN (COSTS OFF) " + sql.READ_RECEIPT, "task-1")
    plan = "\n".join(row[0] for row in rows)
    assert "audit_entries_task" in plan, plan
    assert "audit_entries_event" not in plan, plan
