"""For tests, ours and those of embedders: a world without surprises, and stress for what starts and stops."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

import aiohttp
import anyio
import anyio.lowlevel
from aiohttp import web
from anyio.abc import TaskStatus
from yarl import URL

from orchestrator.domain.agent import Agent
from orchestrator.domain.audit import AuditEntry, flaws
from orchestrator.domain.lifecycle import TRANSITIONS, Step
from orchestrator.domain.lifecycle import State as TaskState
from orchestrator.domain.task import TaskRequest
from orchestrator.embedding import Orchestrator, listening_on, serve_on
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.supervisor import State, Supervisor
from orchestrator.kernel.watch import Watch
from orchestrator.outbound.ports import Call, Ending, Succeeded, TimedOut
from orchestrator.settings import load
from orchestrator.storage.commands import TaskRecord
from orchestrator.storage.memory import MemoryLedger
from orchestrator.storage.ports import Ledger, LedgerReader
from orchestrator.supervisor import Decorate


def virtual_environment(seed: int = 0, epoch: float = 1_700_000_000.0) -> Environment:
    """An environment that a seed determines. Its clock reads `epoch` at first, then goes with the event loop's.

    Under trio's `MockClock` all time in it is virtual. The randomness and the entropy are separate streams, so that
    one more draw of jitter changes no id.
    """
    origin: float | None = None

    def now() -> float:
        nonlocal origin
        if origin is None:
            origin = anyio.current_time()
        return epoch + (anyio.current_time() - origin)

    return Environment(now=now, random=Random(f"{seed} random"), entropy=Random(f"{seed} entropy").randbytes)


async def stress_start_stop(make: Callable[[], Supervisor]) -> None:
    """Start and stop supervisors from `make` in any order: before, during and after the start, twice, and cancelled.

    The interleavings are counted in event-loop steps, nothing sleeps. Raises AssertionError when a child is left, and
    TimeoutError when an end takes longer than a minute.
    """
    orders = [("stop", "stop"), ("stop", "cancel"), ("cancel", "stop"), ("cancel", "cancel")]
    for up_first, order, steps in product((False, True), orders, (0, 1, 2, 3, 5, 8, 13, 21)):
        supervisor = make()
        scope = anyio.CancelScope()
        actions = {"stop": supervisor.stop, "cancel": scope.cancel}
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                if up_first:
                    await tasks.start(_run_in, scope, supervisor)
                else:
                    tasks.start_soon(_run_in, scope, supervisor)
                for action in order:
                    await _let_run(steps)
                    actions[action]()
        left = [
            child for child in supervisor.status() if child.state in (State.STARTING, State.RUNNING, State.STOPPING)
        ]
        assert not left, f"{order} after {steps} steps left {left}"


async def _run_in(
    scope: anyio.CancelScope, supervisor: Supervisor, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with scope:
        await supervisor.run(task_status=task_status)


async def _let_run(steps: int) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()


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

    `store` is the file of its ledger, or the variables that name its stores. `environ` overrides settings like those.
    """

    def __init__(self, store: Path | Mapping[str, str], environ: Mapping[str, str] | None = None) -> None:
        stores = {"DATABASE_URL": f"sqlite:///{store.absolute()}"} if isinstance(store, Path) else store
        self.settings = load(environ={**stores, **(environ or {})})
        self.orchestrator: Orchestrator
        self.port = 0
        self._stopped = True

    async def __aenter__(self) -> Self:
        from orchestrator.web.server import listen

        self._listener = listen("127.0.0.1", 0)
        self.port = self._listener.getsockname()[1]
        self.settings = listening_on(self._listener, self.settings)
        self.orchestrator = Orchestrator(self.settings, make_web=serve_on(self._listener, self.settings))
        await self.orchestrator.__aenter__()
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
                self._listener.close()

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

    async def raw(self, *parts: bytes) -> bytes:
        """What comes back on a connection of its own, to its end, for bytes that need be no HTTP."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
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


Part = Ending | Callable[[Call], Awaitable[Ending]]
"""How one call to a scripted agent goes: how it ends, at once, or a function that takes its time."""


class ScriptedAgents:
    """An AgentClient without a network, on any event loop. Each agent follows its script, the last part of it for ever.

    It knows agents by their endpoint, `http://` and their id, as `an_agent` makes it. `calls` holds all that was sent.
    """

    def __init__(self, **scripts: Sequence[Part]) -> None:
        """Agents without a script succeed at once; `_` in a name stands for `-`."""
        self.calls: list[Call] = []
        self.running: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.closed = False
        self._scripts = {name.replace("_", "-"): list(parts) for name, parts in scripts.items()}
        self._called = Watch(0)

    def script(self, agent_id: str, *parts: Part) -> None:
        """From now on the agent does this."""
        self._scripts[agent_id] = list(parts)

    def of(self, agent_id: str) -> list[Call]:
        """The calls that this agent got."""
        return [call for call in self.calls if call.endpoint == f"http://{agent_id}"]

    async def until_called(self, times: int = 1) -> Call:
        """The `times`-th call, once it has begun."""
        while len(self.calls) < times:
            await self._called.changed()
        return self.calls[times - 1]

    async def call(self, call: Call, within: float) -> Ending:
        agent_id = call.endpoint.removeprefix("http://")
        parts = self._scripts.get(agent_id) or [Succeeded({"by": agent_id})]
        part = parts.pop(0) if len(parts) > 1 else parts[0]
        self.calls.append(call)
        self._called.publish(len(self.calls))
        self.running[agent_id] += 1
        self.peak[agent_id] = max(self.peak[agent_id], self.running[agent_id])
        ending: Ending = TimedOut()
        try:
            with anyio.move_on_after(within):
                ending = await part(call) if callable(part) else part
        finally:
            self.running[agent_id] -= 1
        return ending

    async def check(self, endpoint: str) -> None:
        """Agents may be anywhere."""

    async def close(self) -> None:
        self.closed = True


def an_agent(agent_id: str = "agent-1", *capabilities: str, **fields: Any) -> Agent:
    """An agent for `ScriptedAgents`, with the capability `embed` if none is named."""
    return Agent(agent_id=agent_id, endpoint=f"http://{agent_id}", capabilities=capabilities or ("embed",), **fields)


def a_request(task_type: str = "embed", **fields: Any) -> TaskRequest:
    """A request for a task; its payload holds the word `private`, which nobody but agents may ever see."""
    usual: dict[str, Any] = {"case_id": "case-1", "payload": {"note": "private"}}
    return TaskRequest(task_type=task_type, **(usual | fields))


async def trail(reader: LedgerReader) -> list[AuditEntry]:
    """The audit's only chain, checked: entry by entry, against its head, and for private words."""
    heads = await reader.audit_heads()
    entries = [entry for head in heads async for entry in reader.audit_chain(head.writer)]
    assert len(heads) <= 1
    for head in heads:
        assert list(flaws(entries, head)) == []
    assert not [entry for entry in entries if "private" in repr(entry)]
    return entries


async def check_history(reader: LedgerReader) -> list[TaskRecord]:
    """All tasks that the audit knows, after checking that it tells of each one's life exactly as the ledger holds it.

    Each has been accepted once, each entry is a step that the table allows from where the one before it ended, attempts
    count up one by one, and the last entry is the state in the ledger.
    """
    lives: dict[str, tuple[TaskState, int]] = {}
    for entry in await trail(reader):
        if entry.task_id is None:
            continue
        state, attempt = TaskState(entry.status or ""), entry.attempt or 0
        if entry.event == "accepted":
            assert entry.task_id not in lives, f"{entry} accepts a task that was accepted before"
        else:
            before, last = lives[entry.task_id]
            step = Step(entry.event)
            assert TRANSITIONS[before][step] is state, f"{entry} does not follow {before}"
            assert attempt == last + (step in (Step.LEASE, Step.MOVE)), f"{entry} does not follow attempt {last}"
        lives[entry.task_id] = (state, attempt)
    records: list[TaskRecord] = []
    for task_id, (state, attempt) in lives.items():
        record = await reader.task(task_id)
        assert record is not None, f"{task_id} is in the audit only"
        assert (record.progress.state, record.progress.attempt) == (state, attempt), (
            f"{record} is not as its audit says"
        )
        assert (record.result is not None) == (state is TaskState.SUCCEEDED), f"{record} and its result disagree"
        records.append(record)
    return records


def embedded(
    client: ScriptedAgents,
    ledger: Ledger | None = None,
    *,
    seed: int = 0,
    decorate: Decorate | None = None,
    **environ: str,
) -> Orchestrator:
    """An orchestrator without network and disk, to be entered with `async with`; `environ` overrides settings."""
    return Orchestrator(
        load(environ={"DATABASE_URL": "memory://", **environ}),
        environment=virtual_environment(seed),
        client=client,
        ledger=MemoryLedger() if ledger is None else ledger,
        decorate=decorate,
    )
