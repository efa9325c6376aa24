"""The kit against a real orchestrator, called and asking: the same code, one argument."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from orchestrator.client import Orchestrator
from orchestrator.testing import Service
from orchestrator.workers import Agent, Options, Permanent, Retryable, Task, pulling
from orchestrator.workers.testing import PATIENCE, Gate

pytestmark = pytest.mark.anyio

QUICK = {"ORCHESTRATOR_RETRY_BASE": "0.01", "ORCHESTRATOR_RETRY_CAP_S": "0.05"}


@pytest.fixture
async def service(anyio_backend: str, tmp_path: Path) -> AsyncGenerator[Service]:
    async with Service(tmp_path / "ledger.db", QUICK) as service:
        yield service


def embedder(handler: Any, **settings: Any) -> Agent:
    agent = Agent("embedder-1", location="edge-test", **settings)
    agent.handles("embed")(handler)
    return agent


@asynccontextmanager
async def at_work(
    agent: Agent, service: Service, *, pull: bool = True, port: int | None = None
) -> AsyncGenerator[asyncio.Event]:
    """The agent, from its registration until the end of the block; gives what stops it. `port` is another way there."""
    stop = asyncio.Event()
    options = Options(orchestrator=f"http://127.0.0.1:{port or service.port}", pull=pull, drain_deadline=5.0)
    serving = asyncio.create_task(agent.serve(options, stop))
    async with asyncio.timeout(PATIENCE):
        while agent.agent_id not in service.orchestrator.gateway.agents():
            await service.orchestrator.gateway.agents_changed()
    try:
        yield stop
    finally:
        stop.set()
        await serving


async def sent(service: Service, **fields: Any) -> str:
    return (await service.route(fields)).json["task_id"]


@pytest.mark.parametrize("pull", [False, True])
async def test_ten_lines(service: Service, pull: bool) -> None:
    """The agent does its work and tells how far it is, whichever way the work comes; who follows the task is told."""
    go_on = asyncio.Event()
    told: list[Any] = []

    async def follow(task_id: str) -> None:
        async with Orchestrator(f"http://127.0.0.1:{service.port}") as orchestrator:
            told.extend([event async for event in orchestrator.stream(task_id)])

    async def embed(task: Task) -> dict[str, Any]:
        await task.progress(0.4, "reading")
        await go_on.wait()
        return {"text": task.payload["text"]}

    async with at_work(embedder(embed, model_version="m-1"), service, pull=pull):
        assert (await service.ask("GET", "/agents")).json["agents"][0]["mode"] == ("pull" if pull else "push")
        task_id = await sent(service)
        following = asyncio.create_task(follow(task_id))
        seen = await service.reached(task_id, lambda status: "progress" in status)
        assert (seen["status"], seen["progress"], seen["progress_note"]) == ("leased", 0.4, "reading")
        go_on.set()
        ended = await service.ended(task_id)
        assert (ended["result"], ended["agent_id"], ended["model_version"]) == ({"text": "hello"}, "embedder-1", "m-1")
        assert ended["attempts"] == 1
        await asyncio.wait_for(following, PATIENCE)
    # Who comes late is told in the state.
    word = next(event for event in told if "progress" in event.data)
    assert (word.data["progress"], word.data["progress_note"], told[-1].name) == (0.4, "reading", "end")
    assert (await service.ask("GET", "/agents")).json == {"agents": []}


async def test_a_plain_function_that_tells_how_far_it_is(service: Service) -> None:
    """From its thread, without await."""
    go_on = threading.Event()

    def embed(task: Task) -> dict[str, Any]:
        task.progress(0.5)
        assert go_on.wait(PATIENCE)
        return {}

    async with at_work(embedder(embed), service):
        task_id = await sent(service)
        await service.reached(task_id, lambda status: status.get("progress") == 0.5)
        go_on.set()
        assert (await service.ended(task_id))["status"] == "succeeded"


@pytest.mark.parametrize("pull", [False, True])
async def test_typed_errors(service: Service, pull: bool) -> None:
    """What is worth another attempt gets one, what is not is a dead letter at once."""
    errors: list[Exception] = [Retryable("busy disk"), ValueError("Jane Roe"), Permanent("image_ref: missing")]

    async def embed(task: Task) -> dict[str, Any]:
        raise errors[task.attempt - 1]

    async with at_work(embedder(embed), service, pull=pull):
        ended = await service.ended(await sent(service))
    assert (ended["status"], ended["attempts"], ended["reason"]) == ("dead", 3, "agent_error_permanent")
    assert "Jane" not in json.dumps([ended, await service.audit()])


async def test_as_many_as_there_are_places(service: Service) -> None:
    """Never more than the agent said, all of them in the end; its metrics count them."""
    gate = Gate()
    async with at_work(embedder(gate, max_concurrency=3), service):
        tasks = [await sent(service, priority="urgent") for _ in range(9)]
        async with asyncio.timeout(PATIENCE):
            for _ in range(3):
                await gate.began.acquire()
        assert gate.runs == 3
        gate.open.set()
        assert {(await service.ended(task_id))["attempts"] for task_id in tasks} == {1}
    assert gate.runs == 9


async def test_stopped_with_work_in_hand(service: Service) -> None:
    """The agent takes no more, finishes and hands in what it has, and only then signs off."""
    gate = Gate()
    async with at_work(embedder(gate, max_concurrency=1), service) as stop:
        first, second = await sent(service), await sent(service)
        await asyncio.wait_for(gate.began.acquire(), PATIENCE)
        stop.set()
        async with asyncio.timeout(PATIENCE):
            while service.orchestrator.gateway.agents()["embedder-1"].health.draining is False:
                await service.orchestrator.gateway.agents_changed()
        gate.open.set()
        assert (await service.ended(first))["status"] == "succeeded"
    assert (await service.ask("GET", f"/task/{second}")).json["status"] == "queued"


async def test_work_that_takes_longer_than_a_lease(anyio_backend: str, tmp_path: Path) -> None:
    """The lease is kept while it goes on: one attempt, and the audit tells of the renewals."""
    gate = Gate()
    async with Service(tmp_path / "ledger.db", {**QUICK, "ORCHESTRATOR_TASKS_EMBED_TIMEOUT_S": "4.5"}) as service:
        async with at_work(embedder(gate), service):
            task_id = await sent(service)
            await service.reached(task_id, _renewed(service, 3))
            gate.open.set()
            ended = await service.ended(task_id)
        assert (ended["status"], ended["attempts"]) == ("succeeded", 1)


def _renewed(service: Service, times: int) -> Callable[[Any], bool]:
    """True once the task has changed that often after it was leased."""
    seen = {"updated_at": set[str]()}

    def holds(status: Any) -> bool:
        if status["status"] == "leased":
            seen["updated_at"].add(status["updated_at"])
        return len(seen["updated_at"]) > times

    return holds


async def test_a_task_that_is_taken_away(service: Service) -> None:
    """When it is cancelled the agent hears of it with its next word, and stops working on it."""
    gate, said = Gate(), asyncio.Event()

    async def embed(task: Task) -> dict[str, Any]:
        said.set()
        while not gate.open.is_set():
            await task.progress(0.1)
            try:
                await asyncio.wait_for(gate.open.wait(), 0.05)
            except TimeoutError:
                continue
            except asyncio.CancelledError:
                gate.cancelled.set()
                raise
        return {}

    async with at_work(embedder(embed), service):
        task_id = await sent(service)
        await asyncio.wait_for(said.wait(), PATIENCE)
        assert (await service.ask("DELETE", f"/task/{task_id}")).status == 200
        await asyncio.wait_for(gate.cancelled.wait(), PATIENCE)


@asynccontextmanager
async def proxied(service: Service, *refusals: int) -> AsyncGenerator[int]:
    """The port of a proxy that says of no answer how long it is, as one does that compresses.

    Results are first answered by the `refusals`.
    """
    left = [*refusals]

    async def forward(request: web.Request) -> web.StreamResponse:
        if left and request.path.endswith("/result"):
            return web.json_response({}, status=left.pop(0))
        headers = {"Content-Type": request.content_type}
        reply = await service.ask(request.method, request.raw_path, data=await request.read(), headers=headers)
        response = web.StreamResponse(status=reply.status, headers={"Content-Type": "application/json"})
        response.enable_compression()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(reply.body)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_behind_a_proxy_that_compresses(service: Service) -> None:
    """What was leased is worked on: it is not thrown away since nobody said how long the answer is."""

    async def handle(_task: Task) -> dict[str, Any]:
        return {"done": True}

    async with proxied(service) as port, at_work(embedder(handle), service, port=port):
        done = await service.ended(await sent(service, task_type="embed"))
    assert (done["status"], done["attempts"]) == ("succeeded", 1)


async def test_a_result_that_is_not_taken_at_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is given again where that may help, as while the agent's token is being replaced: the work is not done twice."""
    monkeypatch.setattr(pulling, "BACKOFF_FIRST", 0.01)
    worked = list[str]()

    async def handle(task: Task) -> dict[str, Any]:
        worked.append(task.task_id)
        return {"done": True}

    async with proxied(service, 401, 408, 429, 503) as port, at_work(embedder(handle), service, port=port):
        task_id = await sent(service, task_type="embed")
        done = await service.ended(task_id)
    assert (done["status"], done["attempts"], worked) == ("succeeded", 1, [task_id])
