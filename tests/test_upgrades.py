"""A database of an older version is taken over, and its tasks finish.

Databases of releases are in tests/upgrades; nothing is released yet, so there is none. Until then, and beside them,
this version's own schema is the older one, and the newer one has a migration more, which is only here.
"""

import importlib.util
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator import auditing, backups
from orchestrator.embedding import Orchestrator
from orchestrator.settings import load
from orchestrator.storage.ports import SchemaTooNew
from orchestrator.storage.sqlite import schema
from orchestrator.testing import ScriptedAgent, Service

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parent.parent
RELEASED = sorted((ROOT / "tests/upgrades").glob("*.db"))
NEXT = """
ALTER TABLE tasks ADD COLUMN note TEXT;
-- A change that touches every row, as a real one may.
UPDATE tasks SET note = task_type || ': ' || state;
CREATE INDEX tasks_note ON tasks (note);
"""
OPEN = ("queued", "retry_wait", "leased")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["this version", *(file.name for file in RELEASED)])
async def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A database of an older version."""
    file = tmp_path / "older.db"
    if request.param == "this version":
        await script("keep_database").write(file)
    else:
        shutil.copy(ROOT / "tests/upgrades" / request.param, file)
    return file


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> int:
    """From here on the program knows a schema that is one further; the number of that."""
    steps = schema.migrations()
    number = steps[-1][0] + 1
    monkeypatch.setattr(schema, "migrations", lambda: [*steps, (number, NEXT)])
    return number


def states(file: Path) -> dict[str, str]:
    with closing(sqlite3.connect(file)) as connection:
        return dict(connection.execute("SELECT task_id, state FROM tasks"))


def version(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT version FROM schema_version").fetchone()[0]


async def test_tasks_of_an_older_version_finish(older: Path, newer: int):
    """What waited is done, what had ended stays as it was with its result, keys still stand, the chain holds."""
    before = states(older)
    assert set(before.values()) >= {"succeeded", "dead", "cancelled", "queued"}
    async with Service(older) as service, ScriptedAgent("agent-3", capabilities=["audit"]) as agent:
        await service.ask("POST", "/register_agent", json=agent.registration)
        for task_id, state in before.items():
            task = (await service.ask("GET", f"/task/{task_id}?wait=30")).json
            assert task["status"] == ("succeeded" if state in OPEN else state), task
            assert ("result" in task) == (task["status"] == "succeeded"), task
        again = {"case_id": "case-1", "task_type": "embed", "payload": {"note": "kept"}, "idempotency_key": "key-0"}
        assert (await service.ask("POST", "/route_task", json=again)).json["status"] == "duplicate"
    report = await auditing.verify(f"sqlite:///{older}")
    assert (report.flaws, len(report.heads), version(older)) == ([], 1, newer)
    with closing(sqlite3.connect(older)) as connection:
        assert connection.execute("SELECT count(*) FROM tasks WHERE note IS NULL").fetchone() == (0,)


async def test_a_backup_of_an_older_version(older: Path, newer: int, tmp_path: Path):
    """It is brought up to date as it is restored; the backup itself stays as it is."""
    url, held, was = f"sqlite:///{tmp_path}/ledger.db", states(older), version(older)
    await backups.restore(url, older)
    assert (states(older), version(older)) == (held, was)
    assert version(tmp_path / "ledger.db") == newer
    assert not (await auditing.verify(url)).flaws


async def test_going_back(older: Path, tmp_path: Path):
    """A version older than the database leaves it alone, and says so; a backup from before the upgrade serves."""
    shutil.copy(older, tmp_path / "before.db")
    with closing(sqlite3.connect(older, isolation_level=None)) as connection:
        connection.execute("UPDATE schema_version SET version = version + 1")
    held = states(older)
    with pytest.raises(SchemaTooNew):
        async with Orchestrator(load(environ={"DATABASE_URL": f"sqlite:///{older}"})):
            pass
    assert states(older) == held
    async with Service(tmp_path / "before.db") as service:
        assert (await service.ask("GET", "/ready")).status == 200
