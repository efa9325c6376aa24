"""For the tests of an agent: a stub orchestrator and a way to run the agent, on real loopback ports.

async with stub_orchestrator() as stub, running(agent, stub) as served:
    status, answer = await served.call("embed", {"image_ref": "a.png"})
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import ClientSession, ClientTimeout, web

from orchestrator.workers.agent import Agent
from orchestrator.workers.options import Options
from orchestrator.workers.task import Task

PATIENCE = 20.0
"""Seconds after which what was waited for counts as not coming."""


@dataclass
class StubOrchestrator:
    """Keeps each call as ("METHOD /path", body). `answers` gives statuses by call in turn, the last one for ever."""

    url: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    answers: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition, repr=False)

    async def take(self, request: web.Request) -> web.Response:
        """Answers one request."""
        body = await request.read()
        call = f"{request.method} {request.path}"
        self.calls.append((call, json.loads(body) if body else None))
        async with self._changed:
            self._changed.notify_all()
        statuses = self.answers.get(call, [200])
        return web.json_response({"status": "ok"}, status=statuses.pop(0) if len(statuses) > 1 else statuses[0])

    def bodies(self, call: str) -> list[Any]:
        """What came with each `call`."""
        return [body for name, body in self.calls if name == call]

    async def until(self, call: str, times: int = 1) -> Any:
        """Waits until `call` came that often and returns its last body. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.bodies(call)) >= times)
        return self.bodies(call)[-1]


class Gate:
    """A handler that says when it began (`began`) and ends when it may (`open`); counts its runs."""

    def __init__(self) -> None:
        self.began = asyncio.Semaphore(0)
        self.open = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.runs = 0

    async def __call__(self, _task: Task) -> dict[str, Any]:
        self.runs += 1
        self.began.release()
        try:
            await asyncio.wait_for(self.open.wait(), PATIENCE)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return {"run": self.runs}


@dataclass
class RunningAgent:
    """An agent that serves, as the orchestrator sees it; `card` is what it registered with."""

    endpoint: str
    card: dict[str, Any]
    client: ClientSession
    stop: asyncio.Event

    async def call(
        self,
        task_type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        task_id: str = "task-1",
        attempt: int = 1,
        within: float | None = None,
    ) -> tuple[int, Any]:
        """Calls as the dispatcher does, with a deadline in `within` seconds; the status and the answer."""
        call: dict[str, Any] = {"request_id": task_id, "case_id": "case-1", "task_type": task_type, "meta": {}}
        call["payload"] = payload or {}
        headers = {"Idempotency-Key": task_id, "X-Attempt": str(attempt)}
        if within is not None:
            headers["X-Deadline"] = f"{time.time() + within:.3f}"
        status, answer, _ = await self.post(json.dumps(call).encode(), headers)
        return status, answer

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, Any, Mapping[str, str]]:
        """Posts `body` as it is to /call; the status, the answer and its headers."""
        async with self.client.post(f"{self.endpoint}/call", data=body, headers=headers) as response:
            return response.status, await response.json(), response.headers

    async def health(self) -> Any:
        """What /health says."""
        async with self.client.get(f"{self.endpoint}/health") as response:
            return await response.json()


@asynccontextmanager
async def serving(take: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncGenerator[str]:
    """A server that gives every request to `take`; gives its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{site.port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def stub_orchestrator() -> AsyncGenerator[StubOrchestrator]:
    """A stub that says yes to everything, until its `answers` say otherwise."""
    stub = StubOrchestrator()
    async with serving(stub.take) as stub.url:
        yield stub


@asynccontextmanager
async def running(agent: Agent, stub: StubOrchestrator, options: Options | None = None) -> AsyncGenerator[RunningAgent]:
    """`agent`, registered with `stub` and served until the end of the block, when it drains."""
    stop = asyncio.Event()
    served = asyncio.create_task(agent.serve(replace(options or Options(), orchestrator=stub.url), stop))
    try:
        card = await stub.until("POST /register_agent")
        async with ClientSession(timeout=ClientTimeout(total=PATIENCE)) as client:
            yield RunningAgent(card["endpoint"], card, client, stop)
    finally:
        stop.set()
        await served
