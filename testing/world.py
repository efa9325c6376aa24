"""A world without surprises: time, chance and agents that a test determines, on any event loop."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

import anyio

from orchestrator.domain.agent import Agent
from orchestrator.domain.task import TaskRequest
from orchestrator.embedding import Orchestrator
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.watch import Watch
from orchestrator.outbound.ports import Call, Ending, Notice, Succeeded, TimedOut
from orchestrator.settings import load
from orchestrator.storage.agent_store import AgentStore
from orchestrator.storage.memory import MemoryLedger
from orchestrator.storage.ports import Ledger, Streams
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

    chance, entropy = Random(f"{seed} random"), Random(f"{seed} entropy").randbytes
    return Environment(now=now, random=chance, entropy=entropy, monotonic=anyio.current_time)


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

    async def post(self, notice: Notice, within: float) -> Ending:
        return Succeeded(None)

    async def close(self) -> None:
        self.closed = True


def an_agent(agent_id: str = "agent-1", *capabilities: str, **fields: Any) -> Agent:
    """An agent for `ScriptedAgents`, with the capability `embed` if none is named."""
    return Agent(agent_id=agent_id, endpoint=f"http://{agent_id}", capabilities=capabilities or ("embed",), **fields)


def a_request(task_type: str = "embed", **fields: Any) -> TaskRequest:
    """A request for a task; its payload holds the word `private`, which nobody but agents may ever see."""
    usual: dict[str, Any] = {"case_id": "case-1", "payload": {"note": "private"}}
    return TaskRequest(task_type=task_type, **(usual | fields))


def embedded(
    client: ScriptedAgents,
    ledger: Ledger | None = None,
    *,
    streams: Streams | None = None,
    agent_store: AgentStore | None = None,
    seed: int = 0,
    decorate: Decorate | None = None,
    **environ: str,
) -> Orchestrator:
    """An orchestrator without network and disk, to be entered with `async with`; `environ` overrides settings."""
    return Orchestrator(
        load(environ={"DATABASE_URL": "memory://", **environ}),
        environment=virtual_environment(seed),
        client=client,
        ledger=MemoryLedger(outbox=streams is not None) if ledger is None else ledger,
        streams=streams,
        agent_store=agent_store,
        decorate=decorate,
    )
