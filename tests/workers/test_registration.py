import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp import web

from orchestrator.workers import Agent, Options
from orchestrator.workers.testing import PATIENCE, Gate, StubOrchestrator, running, serving

pytestmark = pytest.mark.anyio


REFUSED = {"success": False, "error": {"message": "draining", "retryable": True}}
STOPPED = {"success": False, "error": {"message": "the agent stopped", "retryable": True}}


def gated(**settings: Any) -> tuple[Agent, Gate]:
    agent, gate = Agent("gate-1", location="edge-test", **settings), Gate()
    agent.handles("embed")(gate)
    return agent, gate


async def test_registration_says_what_the_agent_is(stub: StubOrchestrator) -> None:
    """The card has the real port; only raw_media handlers declare raw_image; options win over the code."""
    agent = Agent("agent-1", location="edge-test", model_version="m-1", max_concurrency=3)
    agent.handles("embed", raw_media=True)(Gate())
    agent.handles("indexing")(Gate())
    async with running(agent, stub, Options(agent_id="agent-2", location="edge-2")) as served:
        health = await served.health()
    port = served.endpoint.rpartition(":")[2]
    about: dict[str, Any] = {"agent_id": "agent-2", "location": "edge-2", "model_version": "m-1", "max_concurrency": 3}
    about["capabilities"] = ["embed", "raw_image", "indexing"]
    assert served.card == about | {"endpoint": f"http://127.0.0.1:{port}"}
    assert health == about | {"status": "ok", "in_flight": 0}


async def test_the_announced_endpoint() -> None:
    """Behind a proxy or in a container another address is announced; IPv6 hosts get their brackets."""
    assert Options(announce="https://agents.example/a/").endpoint(1) == "https://agents.example/a"
    assert Options(host="::1").endpoint(5) == "http://[::1]:5"


@contextmanager
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> Generator[list[float]]:
    """Backoff pauses take no time; yields the longest that each might have been."""
    most: list[float] = []

    def draw(low: float, high: float) -> float:
        most.append(high)
        return 0.0

    with monkeypatch.context() as patch:
        patch.setattr("random.uniform", draw)
        yield most


async def test_registering_is_tried_until_it_works(stub: StubOrchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals, overload and redirects are tried again, each after up to twice the pause, 30 seconds at most."""
    stub.answers["POST /register_agent"] = [503, 500, 429, 307, 403, 503, 503, 503, 200]
    with no_pauses(monkeypatch) as most:
        async with running(gated()[0], stub):
            await stub.until("POST /register_agent", 9)
    assert most == [0.5, 1, 2, 4, 8, 16, 30, 30]


async def test_an_orchestrator_that_comes_later(stub: StubOrchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that starts first waits for the orchestrator, and can be stopped while it waits."""
    attempts = asyncio.Semaphore(0)
    stop = asyncio.Event()

    def draw(low: float, high: float) -> float:
        attempts.release()
        return 0.0

    monkeypatch.setattr("random.uniform", draw)
    async with serving(stub.take) as gone:
        pass
    agent = asyncio.create_task(gated()[0].serve(Options(orchestrator=gone), stop))
    for _ in range(3):
        await asyncio.wait_for(attempts.acquire(), PATIENCE)
    stop.set()
    await asyncio.wait_for(agent, PATIENCE)


async def test_heartbeats(stub: StubOrchestrator) -> None:
    """They carry the load, and an agent that is not known any more registers again."""
    agent, gate = gated(max_concurrency=4)
    async with running(agent, stub, Options(heartbeat_every=0.01)) as served:
        beat = "POST /agents/gate-1/heartbeat"
        assert await stub.until(beat, 2) == {"load": 0.0}
        call = asyncio.create_task(served.call("embed"))
        await asyncio.wait_for(gate.began.acquire(), PATIENCE)
        assert await stub.until(beat, len(stub.bodies(beat)) + 2) == {"load": 0.25}
        stub.answers[beat] = [404, 200]
        await stub.until("POST /register_agent", 2)
        stub.answers[beat] = [500]
        await stub.until(beat, len(stub.bodies(beat)) + 2)
        gate.open.set()
        await call
    assert len(stub.bodies("POST /register_agent")) == 2


async def test_draining(stub: StubOrchestrator) -> None:
    """Told to stop, an agent says so, refuses calls, finishes the one in flight, and only then signs off."""
    agent, gate = gated()
    async with running(agent, stub) as served:
        call = asyncio.create_task(served.call("embed"))
        await asyncio.wait_for(gate.began.acquire(), PATIENCE)
        served.stop.set()
        await stub.until("POST /agents/gate-1/drain")
        assert (await served.health())["status"] == "draining"
        assert await served.call("embed", task_id="task-2") == (503, REFUSED)
        assert not stub.bodies("DELETE /agents/gate-1")
        gate.open.set()
        assert (await call)[1]["success"] is True
        await stub.until("DELETE /agents/gate-1")
    assert [name for name, _ in stub.calls] == [
        "POST /register_agent",
        "POST /agents/gate-1/drain",
        "DELETE /agents/gate-1",
    ]


async def test_draining_begins_before_it_is_said(stub: StubOrchestrator) -> None:
    """When the orchestrator hears of the drain the agent refuses calls already."""
    heard: list[str] = []

    async def take(request: web.Request) -> web.Response:
        if request.path.endswith("/drain"):
            heard.append((await served.health())["status"])
        return await stub.take(request)

    async with serving(take) as stub.url, running(gated()[0], stub) as served:
        served.stop.set()
        await stub.until("DELETE /agents/gate-1")
    assert heard == ["draining"]


async def test_the_drain_deadline(stub: StubOrchestrator) -> None:
    """A call still running at the drain deadline is stopped, and its caller told to try again."""
    agent, gate = gated()
    async with running(agent, stub, Options(drain_deadline=0.1)) as served:
        call = asyncio.create_task(served.call("embed"))
        await asyncio.wait_for(gate.began.acquire(), PATIENCE)
        served.stop.set()
        assert await call == (200, STOPPED)
        await stub.until("DELETE /agents/gate-1")


@pytest.mark.parametrize("agent_id", ["", "a b", "../x", "ü"])
async def test_an_agent_id_that_is_no_name(agent_id: str) -> None:
    """Ids that would need quoting in paths and logs are refused at the start."""
    agent = Agent(agent_id, location="edge-test")
    with pytest.raises(ValueError, match="agent id"):
        await agent.serve(Options(), asyncio.Event())
