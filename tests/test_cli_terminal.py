"""The command line as somebody at a terminal has it: long work, what is watched, colours, and how it ends."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from orchestrator.testing import SUCCESS, ScriptedAgent, Service, a_task

pytestmark = pytest.mark.anyio

PATIENCE_S = 60
NO: Any = {"success": False, "error": {"message": "no", "retryable": False}}


@pytest.fixture
async def service(anyio_backend: str, tmp_path: Path) -> AsyncGenerator[Service]:
    async with Service(tmp_path / "ledger.db") as service:
        yield service


def environ(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | more


def of(service: Service) -> dict[str, str]:
    return environ(ORCHESTRATOR_URL=f"http://127.0.0.1:{service.port}")


async def run(service: Service, *words: str, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    with anyio.fail_after(PATIENCE_S):
        done = await anyio.run_process(
            [sys.executable, "-m", "orchestrator", *words], input=stdin.encode(), env=of(service), check=False
        )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def at_a_terminal(width: int, *words: str, **more: str) -> str:
    """What a command shows on a terminal that is so wide."""
    ours, theirs = pty.openpty()
    size = {"COLUMNS": str(width), "TERM": "xterm-256color"}
    with subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *words], env=environ(**size, **more), stdout=theirs, stderr=theirs
    ) as command:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65_536):
                shown += chunk
        except OSError:
            pass  # So Linux says that nobody has the other end any more.
        os.close(ours)
    assert command.returncode == 0, shown
    return shown.decode()


async def test_all_dead_letters_are_replayed(service: Service) -> None:
    """Each by one new task, however often it is asked for; a task is named, or --all, not both and not neither."""
    async with ScriptedAgent("a", NO, NO, SUCCESS, SUCCESS) as agent:
        await agent.register(service)
        dead = [(await service.route({})).json["task_id"] for _ in range(2)]
        assert [(await service.ended(task_id))["status"] for task_id in dead] == ["dead", "dead"]
        code, said, _ = await run(service, "--json", "dlq", "replay", "--all")
        rows = json.loads(said)
        assert (code, [row["task"] for row in rows]) == (0, dead)
        assert [(await service.ended(row["new task"]))["status"] for row in rows] == ["succeeded", "succeeded"]
    again = json.loads((await run(service, "--json", "dlq", "replay", "--all"))[1])
    assert [row["new task"] for row in again] == [row["new task"] for row in rows]
    assert {row["outcome"] for row in again} == {"duplicate"}
    for words in ((), ("task-1", "--all")):
        assert (await run(service, "dlq", "replay", *words))[0] == 2


async def test_a_task_that_is_followed(service: Service) -> None:
    """Is told line by line to its end, whose outcome is the exit code; as JSON, an object a line."""
    async with ScriptedAgent("a", SUCCESS, NO) as agent:
        await agent.register(service)
        for expected, code in (("succeeded", 0), ("dead", 1)):
            task_id = (await service.route({})).json["task_id"]
            await service.ended(task_id)
            found, said, _ = await run(service, "task", task_id, "--watch")
            assert (found, said.splitlines()[-1].split()[1:3]) == (code, ["end:", expected])
        lines = (await run(service, "--json", "task", task_id, "--watch"))[1].splitlines()
        assert [json.loads(line)["name"] for line in lines] == ["state", "end"]
    code, said, _ = await run(service, "task", "task-0", "--watch")
    assert (code, json.loads(said)["code"]) == (1, "E_NOT_FOUND")


async def test_why_a_task_would_go_there(service: Service) -> None:
    """In words: who is chosen and what speaks for it, and why each other is left out; or that nobody can take it."""
    code, said, _ = await run(service, "explain", stdin=json.dumps(a_task()))
    assert (code, said.splitlines()[-1].partition(":")[0]) == (0, "nobody can take it now")
    async with ScriptedAgent("a") as agent, ScriptedAgent("b", capabilities=["audit"]) as other:
        await agent.register(service)
        await other.register(service)
        rows = json.loads((await run(service, "--json", "explain", stdin=json.dumps(a_task())))[1])
    assert [(row["candidate"], row["verdict"]) for row in rows] == [("a", "chosen"), ("b", "left out")]
    assert rows[1]["why"] == "capability: it cannot do such tasks"


ESCAPES = "edge\x1b]0;owned\x07\x9b2J\u202e\r\nforged"


async def test_names_that_would_move_the_cursor(service: Service) -> None:
    """Whatever an agent says of itself, gives back, or notes of a task: a terminal is told nothing but text."""
    pulling = {"agent_id": "a", "capabilities": ["embed"], "location": ESCAPES}
    assert (await service.ask("POST", "/register_agent", json=pulling)).status == 200
    task_id = (await service.route({})).json["task_id"]
    (leased,) = (await service.ask("POST", "/agents/a/lease", json={})).json["tasks"]
    held = {"agent_id": "a", "attempt": 1, "lease": leased["lease"]}
    said = {**held, "progress": 0.5, "note": ESCAPES}
    assert (await service.ask("POST", f"/task/{task_id}/extend", json=said)).status == 200
    with anyio.move_on_after(PATIENCE_S):
        command = [sys.executable, "-m", "orchestrator", "task", task_id, "--watch"]
        async with await anyio.open_process(command, env=of(service), stderr=None) as watching:
            assert watching.stdout is not None
            lines = BufferedByteReceiveStream(watching.stdout)
            assert b"state: leased" in await lines.receive_until(b"\n", 1000)
            again = {**held, "progress": 0.6, "note": ESCAPES}
            assert (await service.ask("POST", f"/task/{task_id}/extend", json=again)).status == 200
            followed = await lines.receive_until(b"\n", 1000)
            assert b"60%" in followed
            watching.terminate()
    result = {**held, "success": True, "output": {ESCAPES: ESCAPES}}
    assert (await service.ask("POST", f"/task/{task_id}/result", json=result)).status == 200
    shown = [followed.decode(), (await run(service, "task", task_id))[1], (await run(service, "agents"))[1]]
    for text in shown:
        assert "forged" in text
        assert all(letter.isprintable() for letter in text.replace("\n", "")), text
    assert json.loads(shown[1])["result"] == {ESCAPES: ESCAPES}


async def test_ctrl_c_while_agents_are_watched(service: Service) -> None:
    """Ends it with 130 and not a word."""
    command = [sys.executable, "-m", "orchestrator", "agents", "--watch"]
    async with await anyio.open_process(command, env=of(service)) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        with anyio.fail_after(PATIENCE_S):
            assert b"\xe2" in await watching.stdout.receive()
            watching.send_signal(signal.SIGINT)
            assert await watching.wait() == 130
            with pytest.raises(anyio.EndOfStream):
                await watching.stderr.receive()


def test_a_terminal_has_colours_unless_told_otherwise() -> None:
    """NO_COLOR is heard; however narrow it is, the column that people copy is whole."""
    assert "\x1b[" in at_a_terminal(100, "settings")
    for width in (100, 40):
        shown = at_a_terminal(width, "settings", NO_COLOR="1")
        assert "\x1b[3" not in shown
        assert "storage.database_url" in shown


def test_nobody_reads_on() -> None:
    """`… | head -1` ends in silence."""
    command = f"{sys.executable} -m orchestrator settings | head -1"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    """By a script that asks the command itself, which then knows its commands."""
    command = [sys.executable, "-m", "orchestrator"]
    script = subprocess.run([*command, "completion", shell], capture_output=True, text=True, timeout=60, check=True)
    assert f"_ORCHESTRATOR_COMPLETE={shell}_complete" in script.stdout


async def test_the_queues(service: Service) -> None:
    """Length and oldest age of each class, what is in flight, and how fast it goes: as a table, and as JSON."""
    await service.route({"priority": "urgent", "task_type": "indexing"})
    await service.route({"priority": "low", "task_type": "indexing"})
    code, said, _ = await run(service, "queues")
    rows = [[cell.strip() for cell in line.split("│")] for line in said.splitlines() if "│" in line]
    waiting = {row[1]: row[2] for row in rows}
    assert (code, waiting) == (0, {"urgent": "1", "high": "0", "normal": "0", "low": "1"})
    assert [bool(row[3]) for row in rows] == [True, False, False, True]
    assert "in flight 0 · each minute 2 accepted, 0 done" in said
    assert "0 dead letters" in said
    for words in (("queues", "--json"), ("--json", "queues")):
        found = json.loads((await run(service, *words))[1])
        assert (found["ready"], found["in_flight"]) == (2, 0)
        assert [line["ready"] for line in found["queues"]] == [1, 0, 0, 1]


async def test_queues_that_are_watched(service: Service) -> None:
    """Always anew, until Ctrl-C; for programs a document a line."""
    command = [sys.executable, "-m", "orchestrator", "queues", "--watch", "--json"]
    async with await anyio.open_process(command, env=of(service)) as watching:
        assert watching.stdout is not None
        with anyio.fail_after(PATIENCE_S):
            told = BufferedByteReceiveStream(watching.stdout)
            before = json.loads(await told.receive_until(b"\n", 2**16))
            await service.route({"priority": "high", "task_type": "indexing"})
            after = json.loads(await told.receive_until(b"\n", 2**16))
            watching.send_signal(signal.SIGINT)
            assert await watching.wait() == 130
    assert [found["queues"][1]["ready"] for found in (before, after)] == [0, 1]


async def test_json_is_asked_for_where_one_thinks_of_it(service: Service) -> None:
    """After a command as before it."""
    async with ScriptedAgent("a") as agent:
        await agent.register(service)
        for words in (("agents", "--json"), ("--json", "agents")):
            assert [row["agent"] for row in json.loads((await run(service, *words))[1])] == ["a"]
    assert json.loads((await run(service, "dlq", "list", "--json"))[1]) == []
