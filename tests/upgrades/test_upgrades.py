"""A database of an older schema is taken over, and its tasks finish: those that are kept here, and this version's own.

For the latter the newer schema has a migration more, which is only here.
"""

import importlib.util
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import stores

from orchestrator import auditing, backups
from orchestrator.embedding import Orchestrator
from orchestrator.settings import load
from orchestrator.storage.browsing import AuditSearch
from orchestrator.storage.opening import open_reader
from orchestrator.storage.ports import AuditQuery, SchemaTooNew
from orchestrator.storage.postgres import schema as postgres_schema
from orchestrator.storage.rows import instant
from orchestrator.storage.sqlite import schema as sqlite_schema
from orchestrator.testing import ScriptedAgent, Service

pytestmark = pytest.mark.anyio

HERE = Path(__file__).resolve().parent
KEPT = {store: sorted(HERE.glob(f"*.{store}.sql")) for store in ("sqlite", "postgresql")}
NEXT = """
ALTER TABLE tasks ADD COLUMN remark TEXT;
-- A change that touches every row, as a real one may.
UPDATE tasks SET remark = task_type || ': ' || state;
CREATE INDEX tasks_remark ON tasks (remark);
"""
OPEN = {"queued", "retry_wait", "leased"}
STATES = OPEN | {"succeeded", "dead", "cancelled", "expired", "denied"}


async def this_version() -> str:
    """A database as this version writes it."""
    spec = importlib.util.spec_from_file_location("keep_database", HERE / "keep_database.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return await module.sqlite_text()


THIS = "this version"


def made_of(text: str, file: Path) -> Path:
    """A SQLite database of those statements."""
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(text)
    return file


@pytest.fixture(params=KEPT["sqlite"], ids=lambda file: file.name)
def older(request, tmp_path: Path) -> Path:
    """A SQLite database of an older version."""
    return made_of(request.param.read_text("utf-8"), tmp_path / "older.db")


@pytest.fixture(params=[THIS, *(file.name for kept in KEPT.values() for file in kept)])
async def older_url(request, tmp_path: Path) -> str:
    """Where a database of an older version is, of either kind."""
    text = await this_version() if request.param == THIS else (HERE / request.param).read_text("utf-8")
    if not request.param.endswith(".postgresql.sql"):
        return f"sqlite:///{made_of(text, tmp_path / 'older.db')}"
    server = request.getfixturevalue("postgres")
    name = await server.new_database()
    await server.run(text, name)
    return server.url(name)


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """From here on the program knows schemas that are one further; the numbers of those."""
    numbers: dict[str, int] = {}
    for store, module in (("sqlite", sqlite_schema), ("postgresql", postgres_schema)):
        steps = module.migrations()
        numbers[store] = steps[-1][0] + 1
        newer_steps = [*steps, (numbers[store], NEXT)]
        monkeypatch.setattr(module, "migrations", lambda newer_steps=newer_steps: newer_steps)
    return numbers


def states(url: str) -> dict[str, str]:
    return dict(stores.rows(url, "SELECT task_id, state FROM tasks"))


def version(url: str) -> int:
    return stores.rows(url, "SELECT version FROM schema_version")[0][0]


async def test_tasks_of_an_older_version_finish(older_url: str, newer: dict[str, int]):
    """What waited is done, what had ended stays as it was with its result, keys still stand, the chain holds."""
    before = states(older_url)
    assert set(before.values()) == STATES
    store = {"DATABASE_URL": older_url, "ORCHESTRATOR_RETRY_BASE": "0.01"}
    everything = ["audit", "analyze_light", "analyze_heavy"]
    async with Service(store) as service, ScriptedAgent("agent-3", capabilities=everything) as agent:
        await service.ask("POST", "/register_agent", json=agent.registration)
        for task_id, state in before.items():
            task = (await service.ask("GET", f"/task/{task_id}?wait=30")).json
            assert task["status"] == ("succeeded" if state in OPEN else state), task
            assert ("result" in task) == (task["status"] == "succeeded"), task
        again = {"case_id": "case-1", "task_type": "embed", "payload": {"note": "kept"}, "idempotency_key": "key-0"}
        assert (await service.ask("POST", "/route_task", json=again)).json["status"] == "duplicate"
    report = await auditing.verify(older_url)
    assert (report.flaws, version(older_url)) == ([], newer[older_url.partition(":")[0]])
    assert stores.rows(older_url, "SELECT count(*) FROM tasks WHERE remark IS NULL") == [(0,)]


def test_a_kept_database_has_a_task_in_every_state():
    """What is kept at a release tries the whole lifecycle; and each schema is kept in both stores."""
    for file in [file for kept in KEPT.values() for file in kept]:
        text = file.read_text("utf-8")
        tasks = [line for line in text.splitlines() if "INSERT INTO" in line and "'case-1'" in line]
        assert {state for state in STATES if any(f"'{state}'" in line for line in tasks)} == STATES, file.name
    assert KEPT["sqlite"]
    assert KEPT["postgresql"]


async def test_a_backup_of_an_older_version(older: Path, newer: dict[str, int], tmp_path: Path):
    """It is brought up to date as it is restored; the backup itself stays as it is."""
    url, backup = f"sqlite:///{tmp_path}/ledger.db", f"sqlite:///{older}"
    held, was = states(backup), version(backup)
    await backups.restore(url, older)
    assert (states(backup), version(backup)) == (held, was)
    assert version(url) == newer["sqlite"]
    assert not (await auditing.verify(url)).flaws


async def test_looking_into_an_older_version(older: Path):
    """Before it is taken over what is asked of its trail is found, and the file stays of its version."""
    url = f"sqlite:///{older}"
    was = version(url)
    reader = await open_reader(url)
    try:
        entries = (await reader.audit(AuditQuery(limit=1000))).entries
        ways: list[dict[str, Any]] = [{"event": "accepted"}, {"case_id": "case-1"}, {"since": entries[9].created_at}]
        for asked in ways:
            query = AuditQuery(limit=1000, **asked)
            expected = [entry for entry in entries if query.fits(entry)]
            assert 0 < len(expected) < len(entries)
            assert (await reader.audit(query)).entries == expected
            assert (await reader.newest(AuditSearch(limit=1000, **asked))).entries == expected[::-1]
        assert await reader.events() == sorted({entry.event for entry in entries})
        assert await reader.latest() == instant(max(entry.created_at for entry in entries))
    finally:
        await reader.close()
    assert version(url) == was


def test_results_of_an_older_version(older: Path):
    """Each is found by its task's number, as it was; of a task that is not there any more nothing is kept."""
    url, columns = f"sqlite:///{older}", "results.agent_id, CAST(output AS TEXT), model_version, finished_at"
    held = stores.rows(url, f"SELECT task_id, {columns} FROM results ORDER BY task_id")
    assert held
    with closing(sqlite3.connect(older, isolation_level=None)) as connection:
        orphan = "SELECT 'task-gone', attempt, agent_id, output, '1', 0 FROM results LIMIT 1"
        connection.execute(f"INSERT INTO results {orphan}")
        sqlite_schema.migrate(connection)
    assert stores.rows(url, f"SELECT task_id, {columns} FROM results JOIN tasks USING (seq) ORDER BY task_id") == held
    assert stores.rows(url, "SELECT count(*) FROM results") == [(len(held),)]


async def test_going_back(older: Path, tmp_path: Path):
    """A version older than the database leaves it alone, and says so; a backup from before the upgrade serves."""
    url = f"sqlite:///{older}"
    shutil.copy(older, tmp_path / "before.db")
    with closing(sqlite3.connect(older, isolation_level=None)) as connection:
        connection.execute("UPDATE schema_version SET version = version + 1000")
    held = states(url)
    with pytest.raises(SchemaTooNew):
        async with Orchestrator(load(environ={"DATABASE_URL": url})):
            pass
    assert states(url) == held
    async with Service(tmp_path / "before.db") as service:
        assert (await service.ask("GET", "/ready")).status == 200
