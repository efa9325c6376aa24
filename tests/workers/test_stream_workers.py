"""Workers that read the streams themselves, beside an orchestrator that dispatches from the same streams."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from orchestrator.testing import ScriptedAgent, Service
from orchestrator.workers import Agent, Options, Task
from orchestrator.workers.task_streams import Entry, StreamsAway, TaskStreams
from orchestrator.workers.testing import PATIENCE

pytestmark = pytest.mark.anyio

CONSENT = {"consent_given": True, "consent_id": "consent-1"}
NOTES, IMAGES = 60, 20


@pytest.fixture
async def service(anyio_backend: str, tmp_path: Path, redis_url: str) -> AsyncGenerator[Service]:
    """An orchestrator whose work is in Redis."""
    async with Service(tmp_path / "ledger.db", {"REDIS_URL": redis_url}) as service:
        yield service


@asynccontextmanager
async def worker(service: Service, redis_url: str, name: str, *options: str | Path) -> AsyncGenerator[None]:
    """A reference agent's process, registered."""
    command = (sys.executable, "-W", "error", "-m", f"orchestrator.workers.{name}", "--redis", redis_url, *options)
    environ = os.environ | {"ORCHESTRATOR_URL": f"http://127.0.0.1:{service.port}"}
    pipe = asyncio.subprocess.PIPE
    known = len(service.orchestrator.gateway.agents())
    running = await asyncio.create_subprocess_exec(*command, env=environ, stderr=pipe)
    try:
        async with asyncio.timeout(PATIENCE * 2):
            while len(service.orchestrator.gateway.agents()) == known:
                await service.orchestrator.gateway.agents_changed()
        yield
        running.terminate()
        assert await asyncio.wait_for(running.wait(), PATIENCE * 2) == 0
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


def a_note(number: int) -> dict[str, Any]:
    priority = ("urgent", "high", "normal", "low")[number % 4]
    return {"task_type": "audit_log", "payload": {"note": f"note {number}"}, "priority": priority}


async def test_beside_in_process_dispatch(service: Service, redis_url: str, examples: Path, tmp_path: Path) -> None:
    """No task runs twice, none is left over, each of the three has its share, and the streams are empty in the end."""
    journal = tmp_path / "notes.jsonl"

    async def slowly(_request: Any) -> Any:
        from aiohttp import web

        await asyncio.sleep(0.02)
        return web.json_response({"success": True, "output": {"done": True}})

    async with AsyncExitStack() as stack:
        called = ScriptedAgent("called-1", slowly, capabilities=["audit", "embed", "raw_image"], max_concurrency=2)
        await stack.enter_async_context(called)
        await stack.enter_async_context(worker(service, redis_url, "embedder_worker", "--image-root", examples))
        await stack.enter_async_context(worker(service, redis_url, "modelreasoner_worker", "--journal", journal))
        await called.register(service)
        image = {"task_type": "embed", "payload": {"image_ref": "images/leaf.jpg"}, "consent": CONSENT}
        bodies = [*(a_note(number) for number in range(NOTES)), *([image] * IMAGES)]
        tasks = [(await service.route(body)).json["task_id"] for body in bodies]
        ended = [await service.ended(task_id) for task_id in tasks]
        assert Counter(status["status"] for status in ended) == {"succeeded": NOTES + IMAGES}
        assert {status["attempts"] for status in ended} == {1}
        shares = Counter(status["agent_id"] for status in ended)
        assert shares.keys() == {"called-1", "embedder-1", "modelreasoner-1"}, shares
        leases = Counter(entry["task_id"] for entry in await service.audit() if entry["event"] == "leased")
        assert leases == Counter(tasks)
        assert len(journal.read_text("utf-8").splitlines()) == shares["modelreasoner-1"]
        await _until_empty(service)


async def _until_empty(service: Service) -> None:
    """Waits until no stream holds an entry, by what the relay counts."""
    system: Any = service.orchestrator._system
    lengths = system.carriage.lengths
    async with asyncio.timeout(PATIENCE * 2):
        while any(lengths.value.values()):
            await lengths.changed()


async def test_redis_is_flushed(service: Service, redis_url: str) -> None:
    """Work goes on: groups are made again, and what the streams have lost is asked for."""
    agent = Agent("notes-1", location="edge-test")

    @agent.handles("audit")
    async def note(task: Task) -> dict[str, Any]:
        return {"noted": task.payload["note"]}

    stop = asyncio.Event()
    options = Options(orchestrator=f"http://127.0.0.1:{service.port}", redis=redis_url, pull=True)
    serving = asyncio.create_task(agent.serve(options, stop))
    try:
        for round_ in range(3):
            tasks = [(await service.route(a_note(number))).json["task_id"] for number in range(8)]
            with Redis.from_url(redis_url) as redis:
                redis.flushdb()
            assert {(await service.ended(task_id))["attempts"] for task_id in tasks} == {1}, round_
    finally:
        stop.set()
        await serving
    del note


async def _emptied(streams: TaskStreams, limit: int = 100) -> list[Entry]:
    found: list[Entry] = []
    while more := await streams.next(limit):
        found += more
    return found


async def test_the_streams_as_workers_share_them(redis_url: str) -> None:
    """Each capability sees every entry, its workers each entry once; what is leased is gone for all."""
    redis = Redis.from_url(redis_url, decode_responses=True)
    for number in range(3):
        redis.xadd("tasks:normal", {"task_id": f"task-{number}", "task_type": "embed"})
    redis.xadd("tasks:urgent", {"task_id": "task-u", "task_type": "audit_log"})
    redis.xadd("tasks:low", {"other": "thing"})
    first, second = TaskStreams(redis_url, "embed", ["embed"], "a"), TaskStreams(redis_url, "embed", ["embed"], "b")
    other = TaskStreams(redis_url, "audit", ["audit_log"], "c")
    assert [entry.task_id for entry in await first.next(10)] == ["task-u"]
    mine = await _emptied(first)
    assert [entry.task_id for entry in mine if first.wants(entry)] == ["task-0", "task-1", "task-2"]
    assert await _emptied(second) == []
    await first.done(mine[0], leased=True)
    await first.done(mine[1], leased=False)
    theirs = await _emptied(other)
    assert sorted(entry.task_id for entry in theirs) == ["", "task-1", "task-2", "task-u"]
    assert [entry.task_id for entry in theirs if other.wants(entry)] == ["task-u"]
    redis.flushdb()
    with pytest.raises(StreamsAway):
        await first.next(10)
    redis.xadd("tasks:normal", {"task_id": "task-9", "task_type": "embed"})
    assert [entry.task_id for entry in await _emptied(first)] == ["task-9"]
    for streams in (first, second, other):
        await streams.close()
    redis.close()


async def test_what_a_dead_worker_left(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one of the same capability claims it once it has been idle for long."""
    redis = Redis.from_url(redis_url)
    redis.xadd("tasks:normal", {"task_id": "task-1", "task_type": "embed"})
    dead, heir = TaskStreams(redis_url, "embed", ["embed"], "dead"), TaskStreams(redis_url, "embed", ["embed"], "heir")
    assert len(await dead.next(1)) == 1
    assert await heir.next(1) == []
    assert await heir.claim(10) == []
    monkeypatch.setattr("orchestrator.workers.task_streams.CLAIM_AFTER_MS", 0)
    assert [entry.task_id for entry in await heir.claim(10)] == ["task-1"]
    for streams in (dead, heir):
        await streams.close()
    redis.close()
