"""Copies of a database in use, and databases made of copies: with real processes, and with failures in the middle."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator import backups
from orchestrator.domain.task import TaskRequest
from orchestrator.embedding import Orchestrator, load_settings
from orchestrator.storage.ports import LedgerCorrupt
from orchestrator.storage.sqlite import copying
from orchestrator.testing import ScriptedAgent

pytestmark = pytest.mark.anyio

NOTE: dict[str, Any] = {"case_id": "c", "task_type": "audit_log", "payload": {"note": "x" * 2_000}}


async def accept(server: Any) -> str:
    status, _, body = await server.ask("POST", "/route_task", json=NOTE)
    assert status == 202, body
    return body["task_id"]


async def test_a_backup_of_a_database_in_use(served, tmp_path):
    """It holds all that was acknowledged before it began, in a chain that holds; work goes on meanwhile."""
    server = served()
    await server.start()
    before = [await accept(server) for _ in range(50)]
    during: list[str] = []
    async with anyio.create_task_group() as group:

        async def go_on() -> None:
            while True:
                during.append(await accept(server))

        group.start_soon(go_on)
        code, said = await server.run("backup", str(tmp_path / "copy.db"))
        group.cancel_scope.cancel()
    assert (code, len(during) > 0) == (0, True), said
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        held = {task_id for (task_id,) in copy.execute("SELECT task_id FROM tasks")}
    assert held >= set(before)
    assert sorted(file.name for file in tmp_path.glob("copy.db*")) == ["copy.db"]
    assert os.stat(tmp_path / "copy.db").st_mode & 0o077 == 0
    assert await accept(server)
    assert (await server.stop())[0] == 0


async def test_a_backup_from_the_middle_of_the_work(served, tmp_path):
    """Restored, its trail holds, and each of its tasks is done once for all: those in hand at that moment, too."""
    server, copy = served(), tmp_path / "copy.db"
    async with ScriptedAgent("agent-1", capabilities=["audit"]) as agent:
        await server.start()
        assert (await server.ask("POST", "/register_agent", json=agent.registration))[0] == 200
        async with anyio.create_task_group() as group:

            async def go_on() -> None:
                while True:
                    await accept(server)

            for _ in range(4):
                group.start_soon(go_on)
            await agent.until_called(20)
            code, said = await server.run("backup", str(copy))
            group.cancel_scope.cancel()
        assert code == 0, said
        assert (await server.stop())[0] == 0
        assert (await server.run("restore", str(copy)))[0] == 0
        assert (await server.run("audit", "verify"))[0] == 0
        with closing(sqlite3.connect(copy)) as held:
            states = dict(held.execute("SELECT task_id, state FROM tasks"))
        assert {"succeeded"} < set(states.values())
        await server.start()
        for task_id in states:
            task = (await server.ask("GET", f"/task/{task_id}?wait=30"))[2]
            assert (task["status"], task["result"]) == ("succeeded", {"done": True})
    assert (await server.stop())[0] == 0
    code, said = await server.run("audit", "show", "--event", "succeeded", "--limit", "1000", "--json")
    assert code == 0
    assert sorted(entry["task"] for entry in json.loads(said)) == sorted(states)


async def test_restoring(served, tmp_path):
    """Never under a process that owns the database; then everything is as in the backup, and its tasks finish."""
    server, copy = served(), str(tmp_path / "copy.db")
    await server.start()
    kept = await accept(server)
    assert (await server.run("backup", copy))[0] == 0
    lost = await accept(server)
    code, said = await server.run("restore", copy)
    assert (code, len(said.splitlines())) == (75, 1), said
    assert (await server.ask("GET", f"/task/{lost}"))[2]["status"] == "queued"
    assert (await server.stop())[0] == 0

    assert (await server.run("restore", copy))[0] == 0
    assert (await server.run("audit", "verify"))[0] == 0
    await server.start()
    async with ScriptedAgent("agent-1", capabilities=["audit"]) as agent:
        await server.ask("POST", "/register_agent", json=agent.registration)
        assert (await server.ask("GET", f"/task/{kept}?wait=20"))[2]["status"] == "succeeded"
    assert await server.status("GET", f"/task/{lost}") == 404
    _, _, body = await server.ask("GET", "/audit?limit=1000")
    assert [entry["event"] for entry in body["entries"]].count("restored") == 1
    assert (await server.stop())[0] == 0
    assert (tmp_path / f"ledger.db{copying.BEFORE}").exists()


async def test_one_line_for_what_cannot_be(served, tmp_path):
    """A backup replaces nothing; what is no backup, or not there, replaces nothing either."""
    server, taken = served(), tmp_path / "taken"
    assert (await server.run("tables"))[0] == 0
    taken.write_text("mine")
    for arguments, expected in (
        (("backup", str(taken)), 69),
        (("restore", str(taken)), 65),
        (("restore", str(tmp_path / "nowhere")), 69),
        (("backup", str(tmp_path / "no" / "folder")), 69),
    ):
        code, said = await server.run(*arguments)
        assert (code, len(said.splitlines())) == (expected, 1), said
    assert taken.read_text() == "mine"
    server.environ["DATABASE_URL"] = "postgresql://localhost/x"
    code, said = await server.run("backup", str(tmp_path / "copy.db"))
    assert (code, len(said.splitlines())) == (2, 1), said


@pytest.fixture
async def ledger(tmp_path: Path) -> str:
    """The URL of a ledger with a task in it, which nobody owns."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    async with Orchestrator(load_settings(environ={"DATABASE_URL": url})) as running:
        await running.route(TaskRequest(**NOTE))
    return url


async def test_a_backup_whose_trail_was_changed(ledger, tmp_path):
    """It is not restored, and a database like it gives no backup."""
    await backups.back_up(ledger, tmp_path / "good.db")
    shutil.copy(tmp_path / "good.db", tmp_path / "bad.db")
    with closing(sqlite3.connect(tmp_path / "bad.db", isolation_level=None)) as bad:
        for (trigger,) in bad.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            bad.execute(f"DROP TRIGGER {trigger}")
        bad.execute("UPDATE audit_entries SET case_id = 'other'")
    with pytest.raises(LedgerCorrupt, match="audit-main-1"):
        await backups.restore(ledger, tmp_path / "bad.db")
    with pytest.raises(LedgerCorrupt, match="audit-main-1"):
        await backups.back_up(f"sqlite:///{tmp_path}/bad.db", tmp_path / "worse.db")
    assert not (tmp_path / "worse.db").exists()
    assert not (await backups.verify(ledger)).flaws


@pytest.mark.parametrize("place", ["migrate", "_set_aside", "os.replace", "own"])
async def test_a_restore_that_is_broken_off(ledger, tmp_path, monkeypatch, place: str):
    """Wherever it ends, the old ledger is whole; done again, it succeeds."""
    await backups.back_up(ledger, tmp_path / "copy.db")

    def broken(*_: Any) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(f"orchestrator.storage.sqlite.copying.{place}", broken)
        with pytest.raises(OSError, match="power cut"):
            await backups.restore(ledger, tmp_path / "copy.db")
    assert len((await backups.verify(ledger)).heads) == 1
    report = await backups.restore(ledger, tmp_path / "copy.db")
    assert report.heads[0].seq == 1
    assert (await backups.verify(ledger)).heads[0].seq == 2


async def test_a_damaged_database_is_replaced(ledger, tmp_path):
    """Its log does not get into the new one, and nothing of it is lost."""
    await backups.back_up(ledger, tmp_path / "copy.db")
    (tmp_path / "ledger.db").write_bytes(b"this is no database" * 1_000)
    (tmp_path / "ledger.db-wal").write_bytes(b"nor a log")
    await backups.restore(ledger, tmp_path / "copy.db")
    assert (await backups.verify(ledger)).heads[0].seq == 2
    assert (tmp_path / f"ledger.db{copying.BEFORE}").read_bytes().startswith(b"this is no")
