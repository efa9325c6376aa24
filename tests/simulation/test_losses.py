"""Hints get lost in every way there is; the ledger knows of the tasks, so each is found and done before long."""

from collections.abc import Sequence
from random import Random
from typing import Any

import anyio
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from orchestrator.domain.agent import Agent
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.lifecycle import State
from orchestrator.domain.task import Priority
from orchestrator.kernel.actor import Actor
from orchestrator.kernel.child import Child
from orchestrator.kernel.inbox import Inbox
from orchestrator.outbound.ports import Call, Ending, Succeeded
from orchestrator.storage.memory import MemoryLedger
from orchestrator.storage.streams.memory import Broker, MemoryStreams
from orchestrator.testing import ScriptedAgents, a_request, an_agent, check_history, embedded

REPLICAS = 2
TASKS = 60
EVERY_S = 0.4
"""How often a task comes: agents do them a little faster, so that a backlog goes away slowly."""
FOUND_S = 150.0
"""After the last fault: an orphaned entry of a stream is claimed, or the ledger looked through, twice at the least."""
CRASHING = ("stream_consumer_1", "lease_desk", "relay", "stream_reader", "janitor")
APART_S = 31.0
"""Crashes that come faster end the process."""
LOSSES = ("flush", "lose", "steal", "away", "cancel", "lease_past", *(f"crash_{name}" for name in CRASHING))


PHASES = (Phase.explicit, Phase.generate)


class Fault(Struct, frozen=True):
    """What happens, and how many seconds after the one before."""

    what: str
    after: float


faults = st.lists(st.builds(Fault, st.sampled_from(LOSSES), st.floats(0.0, 8.0)), min_size=1, max_size=8)


class Crash(Exception):
    """An actor ends for no reason."""


class Mortal:
    """An actor that crashes when it is told to."""

    def __init__(self, actor: Actor[Any], struck: anyio.Event) -> None:
        self._actor, self._struck = actor, struck

    async def run(self, inbox: Inbox[Any]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._die)
            await self._actor.run(inbox)
            group.cancel_scope.cancel()

    async def _die(self) -> None:
        await self._struck.wait()
        raise Crash


class World:
    """Replicas with one ledger, and streams between them or none; work that comes in; and what befalls the hints."""

    def __init__(self, *, streams: bool, seed: int) -> None:
        self.streams, self.chance = streams, Random(seed)
        self.ledger = MemoryLedger(outbox=streams, exclusive=not streams)
        self.broker = Broker()
        self.agents = ScriptedAgents(agent_1=[self.work])
        self.struck: dict[str, anyio.Event] = {}
        self.ids: list[str] = []

    async def work(self, _: Call) -> Ending:
        await anyio.sleep(self.chance.uniform(0.2, 0.6))
        return Succeeded({})

    def decorate(self, child: Child[Any]) -> Child[Any]:
        def start() -> Mortal:
            self.struck[child.name] = anyio.Event()
            return Mortal(child.start(), self.struck[child.name])

        return Child(child.name, child.mailbox, start, stop_within=child.stop_within, stall_after=child.stall_after)

    async def live(self, faults: Sequence[Fault]) -> None:
        """Until every task has ended, within `FOUND_S` of the last that went wrong."""
        async with self._replica(0) as first:
            await first.gateway.register(an_agent(max_concurrency=2))
            await first.gateway.register(Agent(agent_id="puller-1", capabilities=("embed",), max_concurrency=100))
            if self.streams:
                async with self._replica(1) as second:
                    await self._befall([first, second], faults)
            else:
                await self._befall([first], faults)

    def _replica(self, number: int) -> Any:
        streams = MemoryStreams(self.broker) if self.streams else None
        decorate = None if number else self.decorate
        return embedded(self.agents, self.ledger, streams=streams, seed=number, decorate=decorate)

    async def _befall(self, systems: Sequence[Any], faults: Sequence[Fault]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._heartbeats, systems[0])
            async with anyio.create_task_group() as going_on:
                going_on.start_soon(self._send, systems)
                for fault in faults:
                    await anyio.sleep(fault.after)
                    await getattr(self, f"_{fault.what.partition('_')[0]}")(systems, fault.what)
            with anyio.fail_after(FOUND_S):
                for task_id in self.ids:
                    record = await systems[-1].gateway.task(task_id, FOUND_S)
                    assert record.progress.state in (State.SUCCEEDED, State.CANCELLED)
            group.cancel_scope.cancel()

    async def _heartbeats(self, system: Any) -> None:
        while True:
            await self._insist(system.gateway.heartbeat, "agent-1")
            await anyio.sleep(5)

    async def _send(self, systems: Sequence[Any]) -> None:
        for number in range(TASKS):
            request = a_request(priority=self.chance.choice(list(Priority)), idempotency_key=f"key-{number}")
            routed = await self._insist(self.chance.choice(systems).gateway.route, request)
            self.ids.append(routed.record.task.task_id)
            await anyio.sleep(self.chance.expovariate(1 / EVERY_S))

    async def _insist(self, call: Any, *arguments: Any) -> Any:
        while True:
            try:
                return await call(*arguments)
            except OrchestratorError:
                await anyio.sleep(0.5)

    # What may go wrong.

    async def _flush(self, systems: Sequence[Any], what: str) -> None:
        self.broker.flush()

    async def _lose(self, systems: Sequence[Any], what: str) -> None:
        """Some of what the streams hold, unnoticed."""
        for held in self.broker.messages.values():
            for entry_id in [name for name in held if self.chance.random() < 0.7]:
                del held[entry_id]
                self.broker.pending.pop(entry_id, None)

    async def _steal(self, systems: Sequence[Any], what: str) -> None:
        """Somebody takes entries, and is never seen again."""
        if self.broker.up:
            await MemoryStreams(self.broker).read(dict.fromkeys(Priority, 9), 0.0)

    async def _away(self, systems: Sequence[Any], what: str) -> None:
        self.broker.up = False
        await anyio.sleep(self.chance.uniform(0.5, 10.0))
        self.broker.up = True

    async def _crash(self, systems: Sequence[Any], what: str) -> None:
        struck = self.struck.get(what.removeprefix("crash_"))
        if struck is not None:
            struck.set()
            await anyio.sleep(APART_S)

    async def _cancel(self, systems: Sequence[Any], what: str) -> None:
        for task_id in self.chance.sample(self.ids, min(5, len(self.ids))):
            try:
                await systems[0].gateway.cancel(task_id)
            except OrchestratorError:
                continue

    async def _lease(self, systems: Sequence[Any], what: str) -> None:
        """A puller leases tasks by their names; it does the first of them, and vanishes with the others."""
        for number, task_id in enumerate(self.ids[-6:]):
            try:
                granted = await systems[0].gateway.lease("puller-1", task_id=task_id)
                if granted and not number:
                    await systems[0].gateway.give_result(task_id, granted[0].hold, Succeeded({}))
            except OrchestratorError:
                continue


@pytest.mark.parametrize("streams", [False, True], ids=["embedded", "streams"])
@given(faults=faults, seed=st.integers(0, 2**16))
@settings(max_examples=6, deadline=None, derandomize=True, phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@example(faults=[Fault("lose", 5.0), Fault("crash_stream_reader", 0.1), Fault("lose", 5.0)], seed=1)
@example(faults=[Fault(f"crash_{name}", 6.0) for name in CRASHING], seed=2)
def test_hints_that_are_lost(faults: list[Fault], seed: int, *, streams: bool) -> None:
    """Whatever was lost: every task is done or was cancelled, soon after the last fault, and the history holds."""

    async def live() -> None:
        world = World(streams=streams, seed=seed)
        await world.live(faults)
        assert len(await check_history(world.ledger)) == TASKS

    trio.run(live, clock=trio.testing.MockClock(autojump_threshold=0))
