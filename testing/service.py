"""The whole orchestrator on a real port, and real agents on real ports."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import anyio
from aiohttp import web
from yarl import URL

from orchestrator.embedding import Orchestrator
from orchestrator.listening import Listeners, listening_on, serve_on
from orchestrator.settings import load

PATIENCE_S = 20.0
"""What is waited for longer than this counts as not coming."""


@dataclass(frozen=True)
class Reply:
    """An answer over HTTP, as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Service:
    """The whole orchestrator on a loopback port, and a client: `async with Service(store) as service`. Needs asyncio.

    `store` is the file of its ledger, or the variables that name its stores. `environ` overrides settings like those;
    without a `port` it takes a free one, and always for its second listener, where `web.watch_port` asks for that.
    """

    def __init__(
        self, store: Path | Mapping[str, str], environ: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        stores = {"DATABASE_URL": f"sqlite:///{store.absolute()}"} if isinstance(store, Path) else store
        self.settings = load(environ={**stores, **(environ or {})})
        self.orchestrator: Orchestrator
        self.port, self.watch_port = port, 0
        self._stopped = True

    async def __aenter__(self) -> Self:
        from orchestrator.web.server import listen

        watch = listen("127.0.0.1", 0) if self.settings.web.watch_port else None
        self._listeners = Listeners(listen("127.0.0.1", self.port), watch)
        self.settings = listening_on(self._listeners, self.settings)
        self.port, self.watch_port = self.settings.web.port, self.settings.web.watch_port
        self.orchestrator = Orchestrator(self.settings, servers=serve_on(self._listeners, self.settings))
        try:
            await self.orchestrator.__aenter__()
        except BaseException:
            self._listeners.close()
            raise
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector)
        self._stopped = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._stopped:
            self._stopped = True
            try:
                await self._session.close()
                await self.orchestrator.__aexit__(kind, error, traceback)
            finally:
                self._listeners.close()

    async def stop(self) -> None:
        """Drains and stops. Twice is safe."""
        await self.__aexit__(None, None, None)

    async def ask(self, method: str, path: str, **options: Any) -> Reply:
        """One request; `options` are those of aiohttp, such as `json`, `data` and `headers`."""
        options.setdefault("timeout", aiohttp.ClientTimeout(total=PATIENCE_S * 3))
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self._session.request(method, url, allow_redirects=False, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    async def route(self, task: Mapping[str, Any], **options: Any) -> Reply:
        """Sends a task; what it does not say is as `a_task` has it."""
        return await self.ask("POST", "/route_task", json={**a_task(), **task}, **options)

    async def ended(self, task_id: str) -> Any:
        """The task's status once it is final. Raises AssertionError when that does not come."""
        reply = await self.ask("GET", f"/task/{task_id}?wait={PATIENCE_S}")
        assert reply.status == 200, reply
        assert reply.json["status"] not in ("queued", "leased", "retry_wait"), reply.json
        return reply.json

    async def reached(self, task_id: str, holds: Callable[[Any], bool]) -> Any:
        """The task's status once `holds` is true of it; looks again at each change of the task. Raises TimeoutError."""
        system: Any = self.orchestrator._system  # pyright: ignore[reportPrivateUsage]
        with anyio.fail_after(PATIENCE_S), system.feed.watch(task_id) as watcher:
            while True:
                status = (await self.ask("GET", f"/task/{task_id}")).json
                if holds(status):
                    return status
                await watcher.changed()

    async def audit(self, **query: str) -> list[Any]:
        """All audit entries that fit the query."""
        return (await self.ask("GET", "/audit", params={"limit": "1000", **query})).json["entries"]

    async def raw(self, *parts: bytes, port: int | None = None) -> bytes:
        """What comes back on a connection of its own, to its end, for bytes that need be no HTTP."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port if port is None else port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            with anyio.fail_after(PATIENCE_S):
                return await reader.read()
        finally:
            writer.close()


def a_task(**fields: Any) -> dict[str, Any]:
    """The body of a task that an agent with the capability `embed` may do."""
    return {"case_id": "case-1", "task_type": "embed", "payload": {"text": "hello"}, **fields}


@dataclass(frozen=True)
class Seen:
    """A call that an agent got."""

    headers: Mapping[str, str]
    body: Any


Script = Callable[[web.Request], Awaitable[web.StreamResponse]] | Mapping[str, Any] | int
"""What an agent answers: as a function, as the JSON of a 200, or as a bare status."""

SUCCESS: Script = {"success": True, "output": {"done": True}}


class ScriptedAgent:
    """A real agent on a loopback port that answers its calls by `script` in turn, the last one for ever."""

    def __init__(self, agent_id: str = "agent-1", *script: Script, **registration: Any) -> None:
        self.agent_id, self.calls = agent_id, list[Seen]()
        self.running = self.peak = 0
        self._script, self._registration = script or (SUCCESS,), registration
        self._called = asyncio.Condition()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/call", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.endpoint = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def registration(self) -> dict[str, Any]:
        """What it registers with."""
        return {
            "agent_id": self.agent_id,
            "endpoint": self.endpoint,
            "capabilities": ["embed"],
            "max_concurrency": 8,
            **self._registration,
        }

    async def register(self, service: Service) -> None:
        """Has it known to the orchestrator."""
        reply = await service.ask("POST", "/register_agent", json=self.registration)
        assert reply.status == 200, reply

    async def until_called(self, times: int = 1) -> Seen:
        """The `times`-th call, once it came. Raises TimeoutError."""
        with anyio.fail_after(PATIENCE_S):
            async with self._called:
                await self._called.wait_for(lambda: len(self.calls) >= times)
        return self.calls[times - 1]

    async def _take(self, request: web.Request) -> web.StreamResponse:
        script = self._script[min(len(self.calls), len(self._script) - 1)]
        self.calls.append(Seen(request.headers.copy(), await request.json()))
        self.running += 1
        self.peak = max(self.peak, self.running)
        async with self._called:
            self._called.notify_all()
        try:
            if isinstance(script, int):
                return web.Response(status=script)
            return await script(request) if callable(script) else web.json_response(script)
        finally:
            self.running -= 1
