"""How the process ends, and the exit code that tells why."""

import resource
import signal
import sqlite3
from socket import create_server
from typing import Any

import anyio
import pytest
from aiohttp import web

from orchestrator.testing import ScriptedAgent

pytestmark = pytest.mark.anyio


class Held:
    """An agent's work that is released from outside."""

    def __init__(self) -> None:
        self.release = anyio.Event()

    async def __call__(self, _request: Any) -> Any:
        await self.release.wait()
        return web.json_response({"success": True, "output": {"done": True}})


async def send(server: Any, agent: ScriptedAgent) -> str:
    assert (await server.ask("POST", "/register_agent", json=agent.registration))[0] == 200
    status, _, body = await server.ask(
        "POST", "/route_task", json={"case_id": "c", "task_type": "embed", "payload": {}}
    )
    assert status == 202
    await agent.until_called()
    return body["task_id"]


async def test_sigterm_with_a_call_in_flight(served):
    """The call is finished and stored, then the process ends with 0 and in silence."""
    server, held = served(), Held()
    async with ScriptedAgent("agent-1", held) as agent:
        await server.start()
        task_id = await send(server, agent)
        server.process.send_signal(signal.SIGTERM)
        await server.until_ready(False)
        held.release.set()
        code, said = await server.end()
        assert code == 0, said
    await server.start()
    _, _, task = await server.ask("GET", f"/task/{task_id}")
    assert (task["status"], task["attempts"]) == ("succeeded", 1), task
    assert (await server.stop())[0] == 0


async def test_a_crash_leaves_no_image_of_the_memory(served):
    """Whoever starts it: payloads and keys are in it."""
    server, before = served(), resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        await server.start()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    limits = await anyio.Path(f"/proc/{server.process.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert line.split()[4] == "0", line
    server.process.send_signal(signal.SIGABRT)
    assert (await server.end())[0] == -signal.SIGABRT


async def test_the_terminal_is_closed(served):
    """Service ends in order, unless it was started to outlive its terminal, as by nohup."""
    server, before = served(), signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        await server.start()
        server.process.send_signal(signal.SIGHUP)
        assert (await server.end())[0] == 0
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        await server.start()
        server.process.send_signal(signal.SIGHUP)
        assert await server.status("GET", "/ready") == 200
        assert (await server.stop())[0] == 0
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_second_sigterm(served):
    """It ends the process at once, whatever is in flight; the task is done by the next process."""
    server, held = served(), Held()
    async with ScriptedAgent("agent-1", held) as agent:
        await server.start()
        task_id = await send(server, agent)
        server.process.send_signal(signal.SIGTERM)
        await server.until_ready(False)
        server.process.send_signal(signal.SIGTERM)
        with anyio.fail_after(2):
            code, _ = await server.end()
        assert code == 128 + signal.SIGTERM
        held.release.set()
        await server.start()
        assert (await server.ask("GET", f"/task/{task_id}?wait=20"))[2]["status"] == "succeeded"
        assert (await server.stop())[0] == 0


async def test_a_second_process_on_the_same_database(served):
    """It is refused with one line and 75; the first one goes on."""
    server, other = served(), served()
    await server.start()
    code, said = await other.run("serve")
    assert (code, len(said.splitlines())) == (75, 1), said
    assert await server.status("GET", "/ready") == 200


async def test_a_damaged_database(served, tmp_path):
    """It is refused with one line and 65, and left as it is."""
    file = tmp_path / "ledger.db"
    file.write_bytes(b"this is no database" * 1_000)
    code, said = await served().run("serve")
    assert (code, len(said.splitlines())) == (65, 1), said
    assert file.read_bytes() == b"this is no database" * 1_000


async def test_a_database_of_a_newer_version(served, tmp_path):
    """It is refused with one line and 65."""
    server = served()
    assert (await server.run("tables"))[0] == 0
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("UPDATE schema_version SET version = 999")
    connection.close()
    code, said = await server.run("serve")
    assert (code, len(said.splitlines())) == (65, 1), said


async def test_settings_that_are_wrong(served):
    """They are refused with one line, which names the setting, and 2."""
    code, said = await served(ORCHESTRATOR_RETRY_BASE="soon").run("serve")
    assert (code, len(said.splitlines())) == (2, 1), said
    assert "retry.base_s" in said


async def test_a_database_that_nothing_here_can_open(served):
    """One line, and 2."""
    code, said = await served(DATABASE_URL="oracle://db/1").run("serve")
    assert (code, len(said.splitlines())) == (2, 1), said


async def test_a_port_in_use(served):
    """One line, which names it, and 69."""
    server = served()
    with create_server(("127.0.0.1", server.port)):
        code, said = await server.run("serve")
    assert (code, len(said.splitlines())) == (69, 1), said
    assert str(server.port) in said


async def test_a_folder_that_cannot_be(served, tmp_path):
    """Where a file stands in its place: one line, and 69. Not even root can write there."""
    (tmp_path / "taken").touch()
    code, said = await served(DATABASE_URL=f"sqlite:///{tmp_path}/taken/ledger.db").run("serve")
    assert (code, len(said.splitlines())) == (69, 1), said


EMBEDDED = """
import sys
from orchestrator import cli, embedding, serving
from orchestrator.actors.registry import Registry
from orchestrator.storage.ports import CommitUnknown
from orchestrator.storage.sqlite.ledger import SqliteLedger

async def fails(*_):
    raise {error}

{target} = fails
cli.main(["serve"])
"""


@pytest.mark.parametrize(
    ("target", "error", "code"),
    [("Registry.run", "ZeroDivisionError", 70), ("SqliteLedger.commit", "CommitUnknown", 74)],
)
async def test_actors_that_cannot_go_on(served, target: str, error: str, code: int):
    """When restarts do not help, the process ends with one line and 70; when a commit's end is unknown, with 74."""
    server = served(LOG_LEVEL="ERROR")
    server.process = await server.spawn("-c", EMBEDDED.format(target=target, error=error), program=())
    if code == 74:
        with anyio.fail_after(20):
            while await server.status("POST", "/register_agent", json=_REGISTRATION) is None:
                if server.process.returncode is not None:
                    break
                await anyio.sleep(0.02)
    ended, said = await server.end()
    assert ended == code, said
    assert said.splitlines()[-1].startswith("orchestrator: "), said
    assert "Traceback" not in said


_REGISTRATION = {"agent_id": "agent-1", "endpoint": "http://127.0.0.1:9009", "capabilities": ["embed"]}
