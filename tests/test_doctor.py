"""What the doctor finds: each thing that can be wrong is named, with what to do, and nothing breaks the round."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.doctor import Finding, Level, examine
from orchestrator.settings import load
from orchestrator.testing import ScriptedAgent, Service, a_task

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def findings(url: str, **environ: str) -> dict[str, Finding]:
    settings = load(environ={"DATABASE_URL": url, **environ})
    return {finding.name: finding async for finding in examine(settings)}


async def test_a_box_that_is_well(tmp_path: Path) -> None:
    """Every line is ok while the orchestrator runs: it looks past it."""
    file = tmp_path / "ledger.db"
    async with Service(file) as service, ScriptedAgent("a") as agent:
        await agent.register(service)
        await service.route(a_task())
        found = await findings(f"sqlite:///{file}")
    assert list(found) == ["disk space", "disk writes", "database", "clock", "agents", "audit", "redis", "tls"]
    assert {name: it.level for name, it in found.items() if it.level is not Level.OK and name != "disk writes"} == {}
    assert all(it.advice == "" for it in found.values() if it.level is Level.OK)
    assert "1 called and reached" in found["agents"].found


async def test_a_box_where_much_is_wrong(tmp_path: Path) -> None:
    """An agent that is gone, an entry of tomorrow, a changed entry, a full disk, no Redis: each is named."""
    file = tmp_path / "ledger.db"
    async with Service(file) as service:
        async with ScriptedAgent("gone") as agent:
            await agent.register(service)
        await service.route(a_task())
    with sqlite3.connect(file) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute("UPDATE audit_entries SET created_at = '2999-01-01T00:00:00.000000Z' WHERE seq = 2")
    connection.close()
    wrong = {"ORCHESTRATOR_STORAGE_MIN_FREE_BYTES": str(2**46), "REDIS_URL": "redis://127.0.0.1:1"}
    found = await findings(f"sqlite:///{file}", **wrong)
    failed = {name: it for name, it in found.items() if it.level is Level.FAILURE}
    assert set(failed) == {"disk space", "clock", "agents", "audit", "redis"}
    assert all(it.advice for it in failed.values())
    assert "gone" in failed["agents"].found
    assert failed["audit"].found.startswith("audit-main-2")


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("sqlite:////nowhere/at/all.db", Level.WARNING),
        ("mysql://host/db", Level.FAILURE),
        ("postgresql://127.0.0.1:1/db", Level.FAILURE),
    ],
)
async def test_a_database_that_is_not_there(url: str, level: Level) -> None:
    """Is one line, and the round goes on."""
    found = await findings(url)
    assert (found["database"].level, found["redis"].level) == (level, Level.OK)
    assert found["database"].advice


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Is a failure that says so."""
    file = tmp_path / "ledger.db"
    file.write_bytes(b"not a database at all, but long enough to look at" * 100)
    assert (await findings(f"sqlite:///{file}"))["database"].level is Level.FAILURE


def test_the_command(tmp_path: Path) -> None:
    """Exit code 0 with warnings only, 1 with a failure; a line each, as text and as JSON."""

    def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "orchestrator", "doctor", *words]
        own = {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/l.db", **environ}
        return subprocess.run(command, env=own, capture_output=True, text=True, timeout=60, check=False)

    well = run()
    assert (well.returncode, well.stderr) == (0, "")
    assert "warning database" in well.stdout
    ill = run("--json", DATABASE_URL="mysql://host/db")
    assert (ill.returncode, ill.stderr) == (1, "")
    assert [json.loads(line)["name"] for line in ill.stdout.splitlines()] == ["settings", "database", "redis", "tls"]
