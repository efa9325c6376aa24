"""What the doctor finds: each thing that can be wrong is provoked by itself, and named with what to do about it."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator import doctor
from orchestrator.doctor import Finding, Level, examine
from orchestrator.domain.agent import Agent
from orchestrator.domain.identity import Scope
from orchestrator.settings import load
from orchestrator.testing import ScriptedAgent, Service, a_task

pytestmark = pytest.mark.anyio

ROWS = ["settings", "disk space", "disk writes", "database", "clock", "agents", "audit", "redis", "tls"]


async def findings(url: str, **environ: str) -> dict[str, Finding]:
    settings = load(environ={"DATABASE_URL": url, **environ})
    return {finding.name: finding async for finding in examine(settings)}


@pytest.fixture
async def box(anyio_backend: str, tmp_path: Path) -> Path:
    """The file of a ledger that a process has left in order: one agent, some entries."""
    file = tmp_path / "ledger.db"
    async with known(file, "embedder-1") as service:
        await service.route(a_task())
    return file


@asynccontextmanager
async def known(file: Path, *names: str) -> AsyncGenerator[Service]:
    """A running orchestrator that knows agents which were called once, and are there no more."""
    async with Service(file) as service:
        for name in names:
            async with ScriptedAgent(name) as agent:
                await agent.register(service)
        yield service


def url_of(file: Path) -> str:
    return f"sqlite:///{file}"


def tampered(file: Path, statement: str) -> None:
    """Only outside of the program can what is written be changed."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute(statement)


async def test_a_box_that_is_well(tmp_path: Path) -> None:
    """Every line is ok while the orchestrator runs: it looks past it."""
    file = tmp_path / "ledger.db"
    async with Service(file) as service, ScriptedAgent("a") as agent:
        await agent.register(service)
        await service.route(a_task())
        found = await findings(url_of(file))
    assert list(found) == ROWS
    assert {name: it.level for name, it in found.items() if it.level is not Level.OK and name != "disk writes"} == {}
    assert all(it.advice == "" for it in found.values() if it.level is Level.OK)
    assert "1 called and reached" in found["agents"].found


@pytest.mark.parametrize(("insecure", "level"), [("false", Level.FAILURE), ("true", Level.WARNING)])
async def test_settings_that_are_not_safe(box: Path, insecure: str, level: Level) -> None:
    """Are a failure, since with them it does not start; where they were asked for, a warning."""
    open_to_all = {"ORCHESTRATOR_WEB_HOST": "0.0.0.0", "ORCHESTRATOR_WEB_INSECURE": insecure}
    row = (await findings(url_of(box), **open_to_all))["settings"]
    assert row.level is level
    assert "no authentication beyond this machine" in row.found
    assert "web.insecure" in row.advice


async def disk_of(box: Path, least: int) -> Finding:
    return (await findings(url_of(box), ORCHESTRATOR_STORAGE_MIN_FREE_BYTES=str(least)))["disk space"]


async def test_a_disk_that_fills(box: Path) -> None:
    """Is a warning while there is ten times as much as acceptance needs, and a failure below that: make room."""
    least = 2**20
    sizes = {Level.FAILURE: least - 1, Level.WARNING: 9 * least, Level.OK: 11 * least}
    for level, free in sizes.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(doctor.shutil, "disk_usage", lambda _folder, free=free: SimpleNamespace(free=free))
            row = await disk_of(box, least)
        assert (row.level, "make room" in row.advice) == (level, level is not Level.OK)


async def test_a_disk_that_is_really_too_full(box: Path) -> None:
    """By its own account of itself."""
    assert (await disk_of(box, 2**46)).level is Level.FAILURE


@pytest.mark.parametrize(("seconds", "level"), [(0.004, Level.OK), (0.08, Level.WARNING), (0.9, Level.FAILURE)])
async def test_a_slow_disk(box: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, level: Level) -> None:
    """What an fsync takes is what every acceptance waits for; the clock is the test's own."""
    clock = count()
    monkeypatch.setattr(doctor, "perf_counter", lambda: next(clock) * seconds)
    row = (await findings(url_of(box)))["disk writes"]
    assert (row.level, row.found) == (level, f"{1000 * seconds:.2f} ms for an fsync")
    assert ("faster disk" in row.advice) == (level is not Level.OK)


async def test_a_folder_that_nobody_may_write_to() -> None:
    """Is a failure, with the reason that the system gives."""
    row = (await findings("sqlite:////proc/ledger.db"))["disk writes"]
    assert row.level is Level.FAILURE
    assert "right to write" in row.advice


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
    row = (await findings(url_of(file)))["database"]
    assert (row.level, "restore a backup" in row.advice) == (Level.FAILURE, True)


async def test_a_clock_that_is_behind(box: Path) -> None:
    """An entry of tomorrow is a failure: consent and deadlines are judged by the clock."""
    tampered(box, "UPDATE audit_entries SET created_at = '2999-01-01T00:00:00.000000Z' WHERE seq = 2")
    row = (await findings(url_of(box)))["clock"]
    assert row.level is Level.FAILURE
    assert "2999" in row.found
    assert row.advice.startswith("set the clock")


@pytest.mark.parametrize(("synchronised", "level"), [(False, Level.WARNING), (True, Level.OK)])
async def test_a_clock_that_nobody_sets(
    box: Path, monkeypatch: pytest.MonkeyPatch, synchronised: bool, level: Level
) -> None:
    """Where systemd keeps the time, and has reached no server yet, is a warning."""
    folder = box.parent / "timesync"
    folder.mkdir()
    if synchronised:
        (folder / "synchronized").touch()
    monkeypatch.setattr(doctor, "TIMESYNC", str(folder))
    row = (await findings(url_of(box)))["clock"]
    assert (row.level, "time server" in row.advice) == (level, not synchronised)


async def test_nobody_is_registered(tmp_path: Path) -> None:
    """Is a warning: nothing is done without agents."""
    file = tmp_path / "ledger.db"
    async with Service(file):
        row = (await findings(url_of(file)))["agents"]
    assert (row.level, row.found) == (Level.WARNING, "none is registered")
    assert row.advice


async def test_agents_that_are_not_reached(tmp_path: Path) -> None:
    """One of several is a warning that names it; all of them a failure."""
    file = tmp_path / "ledger.db"
    async with known(file, "gone-1") as service, ScriptedAgent("here-1") as agent:
        await agent.register(service)
        row = (await findings(url_of(file)))["agents"]
        assert (row.level, row.found) == (Level.WARNING, "1 of 2 not reached: gone-1")
        assert row.advice
    row = (await findings(url_of(file)))["agents"]
    assert (row.level, row.found) == (Level.FAILURE, "2 of 2 not reached: gone-1, here-1")


async def test_an_agent_in_quarantine(tmp_path: Path) -> None:
    """Is a warning that names it and how to end that, though it is reached: it gets no work. So it is beside others."""
    file = tmp_path / "ledger.db"
    async with Service(file, {"ORCHESTRATOR_AUTH_API_KEYS": "true"}) as service, ScriptedAgent("here-1") as agent:
        _, key = await service.orchestrator.gateway.create_key("here-1", {Scope.AGENTS_REGISTER})
        own = {"Authorization": f"Bearer {key}"}
        reply = await service.ask("POST", "/register_agent", json=agent.registration, headers=own)
        assert reply.json["state"] == "quarantined"
        row = (await findings(url_of(file)))["agents"]
        assert (row.level, row.found) == (Level.WARNING, "1 of 1 in quarantine: here-1")
        assert row.advice == "orchestrator agents allow ID"
        async with ScriptedAgent("gone-1") as gone:
            await service.orchestrator.gateway.register(Agent(**gone.registration))
        row = (await findings(url_of(file)))["agents"]
        found = "1 of 2 not reached: gone-1; 1 of 2 in quarantine: here-1"
        assert (row.level, row.found) == (Level.WARNING, found)
        assert row.advice == "start or remove them; orchestrator agents allow ID"
        await service.orchestrator.gateway.remove("gone-1")
        await service.orchestrator.gateway.allow("here-1")
        assert (await findings(url_of(file)))["agents"].level is Level.OK


async def test_an_agent_that_takes_the_call_and_says_nothing(tmp_path: Path) -> None:
    """Is reached: what it does with a call, the page and `orchestrator agents` tell."""
    file = tmp_path / "ledger.db"
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        async with Service(file) as service:
            endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}"
            card = {"agent_id": "mute-1", "capabilities": ["embed"], "location": "edge", "endpoint": endpoint}
            assert (await service.ask("POST", "/register_agent", json=card)).status == 200
        assert (await findings(url_of(file)))["agents"].level is Level.OK


async def test_a_trail_that_was_changed(box: Path) -> None:
    """Is a failure that names the entry: keep the file as it is."""
    tampered(box, "UPDATE audit_entries SET agent_id = 'somebody' WHERE seq = 2")
    row = (await findings(url_of(box)))["audit"]
    assert row.level is Level.FAILURE
    assert row.found.startswith("audit-main-2")
    assert "keep the file" in row.advice


@pytest.mark.parametrize(
    ("policy", "level"),
    [("noeviction", Level.OK), ("allkeys-lru", Level.WARNING), ("volatile-ttl", Level.WARNING)],
)
async def test_a_redis_that_throws_away(box: Path, redis, policy: str, level: Level) -> None:
    """A real server, told to: its policy is named, with what to set."""
    with redis.client() as client:
        client.config_set("maxmemory-policy", policy)
        row = (await findings(url_of(box), REDIS_URL=redis.url()))["redis"]
        client.config_set("maxmemory-policy", "noeviction")
    assert (row.level, policy in row.found, "noeviction" in row.advice) == (
        level, level is Level.WARNING, level is Level.WARNING,
    )  # fmt: skip


async def test_a_redis_that_is_away(box: Path) -> None:
    """Is a failure."""
    row = (await findings(url_of(box), REDIS_URL="redis://127.0.0.1:1"))["redis"]
    assert (row.level, "start it" in row.advice) == (Level.FAILURE, True)


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        own = {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/l.db", **environ}
        command = [sys.executable, "-m", "orchestrator", *words]
        return subprocess.run(command, env=own, capture_output=True, text=True, timeout=60, check=False)

    return run


def test_the_command(run: Run) -> None:
    """Exit code 0 with warnings only, 1 with a failure; a line each, as text and as JSON."""
    well = run("doctor")
    assert (well.returncode, well.stderr) == (0, "")
    assert "warning database" in well.stdout
    for words in (("doctor", "--json"), ("--json", "doctor")):
        ill = run(*words, DATABASE_URL="mysql://host/db")
        assert (ill.returncode, ill.stderr) == (1, "")
        names = [json.loads(line)["name"] for line in ill.stdout.splitlines()]
        assert names == ["settings", "database", "redis", "tls"]


def test_settings_that_cannot_be_read(run: Run) -> None:
    """Are the first line, a failure with what to do, and the last: nothing else can be looked at."""
    found = run("doctor", "--json", ORCHESTRATOR_WEB_PORT="many")
    row = json.loads(found.stdout)
    assert (found.returncode, found.stderr) == (1, "")
    assert (row["name"], row["level"], "ORCHESTRATOR_WEB_PORT" in row["found"]) == ("settings", "failure", True)
    assert row["advice"]
