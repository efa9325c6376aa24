import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession

from orchestrator.workers.testing import PATIENCE, StubOrchestrator

pytestmark = pytest.mark.anyio

WAITING = """
import asyncio, sys
from orchestrator.workers import Agent

agent = Agent("waiting-1", location="edge-test")

@agent.handles("embed")
async def embed(task):
    print("began", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    return {"done": True}

@agent.handles("indexing")
def indexing(task):
    print("began", flush=True)
    while True:
        pass

agent.run()
"""


@asynccontextmanager
async def process(*args: str, stub: StubOrchestrator) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A Python process with `args`, told of the stub by its environment; killed at the end of the block if need be."""
    environment = os.environ | {"ORCHESTRATOR_URL": stub.url}
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-W", "error", *args)
    running = await asyncio.create_subprocess_exec(*command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def began(agent: asyncio.subprocess.Process) -> None:
    """Waits until the handler in `agent` says that it began."""
    assert agent.stdout is not None
    assert await asyncio.wait_for(agent.stdout.readline(), PATIENCE) == b"began\n"


async def call(endpoint: str, task_type: str, payload: dict[str, str]) -> object:
    body = {"request_id": "task-1", "case_id": "case-1", "task_type": task_type, "payload": payload, "meta": {}}
    async with ClientSession() as client, client.post(f"{endpoint}/call", json=body) as response:
        return await response.json()


async def test_sigterm_with_a_call_in_flight(stub: StubOrchestrator) -> None:
    """The call is finished and answered, the agent signs off, the process ends with 0; no payload is logged."""
    async with process("-c", WAITING, stub=stub) as agent:
        card = await stub.until("POST /register_agent")
        answer = asyncio.create_task(call(card["endpoint"], "embed", {"name": "Jane Roe"}))
        await began(agent)
        agent.send_signal(signal.SIGTERM)
        await stub.until("POST /agents/waiting-1/drain")
        assert not stub.bodies("DELETE /agents/waiting-1")
        _, log = await asyncio.wait_for(agent.communicate(b"go on\n"), PATIENCE)
        assert await answer == {"success": True, "output": {"done": True}}
        await stub.until("DELETE /agents/waiting-1")
        assert agent.returncode == 0
    assert "listens on http://127.0.0.1:" in log.decode()
    assert "Jane" not in log.decode()


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal(stub: StubOrchestrator, first: signal.Signals) -> None:
    """It ends the process at once, whatever is in flight."""
    async with process("-c", WAITING, stub=stub) as agent:
        card = await stub.until("POST /register_agent")
        answer = asyncio.create_task(call(card["endpoint"], "embed", {}))
        await began(agent)
        agent.send_signal(first)
        await stub.until("POST /agents/waiting-1/drain")
        agent.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(agent.wait(), PATIENCE) == 128 + signal.SIGTERM
        await asyncio.gather(answer, return_exceptions=True)


async def test_a_thread_that_never_ends(stub: StubOrchestrator) -> None:
    """A plain handler that hangs does not keep the process from ending after the drain deadline."""
    async with process("-c", WAITING, "--drain-deadline", "0.2", stub=stub) as agent:
        card = await stub.until("POST /register_agent")
        answer = asyncio.create_task(call(card["endpoint"], "indexing", {}))
        await began(agent)
        agent.send_signal(signal.SIGTERM)
        stopped = {"message": "the agent stopped", "retryable": True}
        assert await answer == {"success": False, "error": stopped}
        assert await asyncio.wait_for(agent.wait(), PATIENCE) == 0


async def test_the_reference_agents_and_the_flaky_one(stub: StubOrchestrator, tmp_path: Path, examples: Path) -> None:
    """Each starts as the README of the examples says, registers under its name, does a task and ends with 0."""
    embedder = ["-m", "orchestrator.workers.embedder_worker", "--image-root", str(examples)]
    reasoner = ["-m", "orchestrator.workers.modelreasoner_worker", "--journal", str(tmp_path / "notes.jsonl")]
    for command, name, task_type, payload, success in [
        (embedder, "embedder-1", "embed", {"image_ref": "images/leaf.jpg"}, True),
        (reasoner, "modelreasoner-1", "audit_log", {"note": "hello"}, True),
        ([str(examples / "flaky_agent.py")], "flaky-1", "analyze_refer", {}, False),
    ]:
        async with process(*command, "--location", "edge-test", stub=stub) as agent:
            registered = len(stub.bodies("POST /register_agent"))
            card = await stub.until("POST /register_agent", registered + 1)
            assert (card["agent_id"], card["location"]) == (name, "edge-test")
            answer = await call(card["endpoint"], task_type, payload)
            assert isinstance(answer, dict)
            assert answer["success"] is success
            agent.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(agent.wait(), PATIENCE) == 0
