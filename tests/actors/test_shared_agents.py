"""Agents that replicas share: an agent that registers at one is used by all; in virtual time."""

import anyio
import pytest
import trio.testing

from orchestrator.domain.health import Availability
from orchestrator.domain.lifecycle import State
from orchestrator.outbound.ports import Refused, Succeeded
from orchestrator.storage.memory import MemoryLedger
from orchestrator.storage.streams.memory import Board, MemoryAgents
from orchestrator.testing import ScriptedAgents, a_request, an_agent, embedded

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


class InTheLedger:
    """Replicas on one ledger."""

    def __init__(self) -> None:
        self._ledger = MemoryLedger(exclusive=False)

    def replica(self, agents: ScriptedAgents, seed: int = 0):
        return embedded(agents, self._ledger, seed=seed)


class InAStore:
    """Replicas with a ledger each, and a store of agents beside them."""

    def __init__(self) -> None:
        self.board = Board()

    def replica(self, agents: ScriptedAgents, seed: int = 0):
        return embedded(agents, seed=seed, agent_store=MemoryAgents(self.board))


@pytest.fixture(params=[InTheLedger, InAStore])
def place(request):
    return request.param()


def state(system, agent_id: str = "agent-1") -> Availability | None:
    view = system.gateway.agents().get(agent_id)
    return None if view is None else view.health.availability(anyio.current_time(), 120.0)


async def test_registered_elsewhere(place):
    """Within a second every replica uses it, whoever it registered with."""
    agents = ScriptedAgents()
    async with place.replica(ScriptedAgents()) as one, place.replica(agents, 1) as two:
        await anyio.sleep(1)
        await one.gateway.register(an_agent())
        await anyio.sleep(1)
        routed = await two.route(a_request())
        done = await two.gateway.task(routed.record.task.task_id, 10)
        assert done.progress.state is State.SUCCEEDED
        assert [len(agents.calls), state(one), state(two)] == [1, Availability.READY, Availability.READY]


async def test_heartbeats_reach_one_replica_only(place):
    """All hear of them, and of their end."""
    async with place.replica(ScriptedAgents()) as one, place.replica(ScriptedAgents(), 1) as two:
        await one.gateway.register(an_agent())
        for turn in range(20):
            await anyio.sleep(60)
            await (one, two)[turn % 2].gateway.heartbeat("agent-1", 0.5)
        await anyio.sleep(1)
        views = [system.gateway.agents()["agent-1"] for system in (one, two)]
        assert [view.health.load for view in views] == [0.5, 0.5]
        assert [state(one), state(two)] == [Availability.READY] * 2
        await anyio.sleep(121)
        assert [state(one), state(two)] == [Availability.STALE] * 2


async def test_drained_elsewhere(place):
    """No replica sends it more work; heartbeats do not change that, a new registration does."""
    async with place.replica(ScriptedAgents()) as one, place.replica(ScriptedAgents(), 1) as two:
        await one.gateway.register(an_agent())
        await anyio.sleep(1)
        await two.gateway.drain("agent-1")
        await one.gateway.heartbeat("agent-1")
        await anyio.sleep(1)
        assert [state(one), state(two)] == [Availability.DRAINING] * 2
        await one.gateway.register(an_agent())
        await anyio.sleep(1)
        assert [state(one), state(two)] == [Availability.READY] * 2


async def test_changed_and_removed_elsewhere(place):
    """What it says of itself is known to all, and so is that it is gone."""
    async with place.replica(ScriptedAgents()) as one, place.replica(ScriptedAgents(), 1) as two:
        await one.gateway.register(an_agent())
        await anyio.sleep(1)
        await two.gateway.register(an_agent(max_concurrency=3))
        await anyio.sleep(1)
        assert one.gateway.agents()["agent-1"].agent.max_concurrency == 3
        await one.gateway.remove("agent-1")
        await anyio.sleep(1)
        assert [state(one), state(two)] == [None, None]


async def test_ejected_here(place):
    """Ejections are each replica's own: the other may reach it."""
    refusing, serving = ScriptedAgents(agent_1=[Refused(), Succeeded({})]), ScriptedAgents()
    async with place.replica(refusing) as one, place.replica(serving, 1) as two:
        await anyio.sleep(1)
        await one.gateway.register(an_agent())
        await anyio.sleep(1)
        await one.route(a_request())
        await refusing.until_called()
        await anyio.sleep(1)
        assert [state(one), state(two)] == [Availability.EJECTED, Availability.READY]


async def test_after_a_start(place):
    """What others heard before it proves nothing; what they hear after it counts."""
    async with place.replica(ScriptedAgents()) as one:
        await one.gateway.register(an_agent())
        await anyio.sleep(2)
        async with place.replica(ScriptedAgents(), 1) as two:
            await anyio.sleep(1)
            assert state(two) is Availability.UNKNOWN
            await one.gateway.heartbeat("agent-1")
            await anyio.sleep(1)
            assert state(two) is Availability.READY


async def test_store_that_loses_everything():
    """What the replicas know they restore, each its part."""
    place = InAStore()
    async with place.replica(ScriptedAgents()) as one, place.replica(ScriptedAgents(), 1) as two:
        await one.gateway.register(an_agent("agent-1"))
        await two.gateway.register(an_agent("agent-2"))
        await anyio.sleep(1)
        place.board.flush()
        await anyio.sleep(2)
        assert set(place.board.agents) == {"agent-1", "agent-2"}
        assert [set(system.gateway.agents()) for system in (one, two)] == [{"agent-1", "agent-2"}] * 2


async def test_store_that_falls_back():
    """What the replicas know replaces an older copy of it: who was sent away stays away, who came stays."""
    place = InAStore()
    async with place.replica(ScriptedAgents()) as one, place.replica(ScriptedAgents(), 1) as two:
        await one.gateway.register(an_agent("agent-1"))
        await anyio.sleep(1)
        older = dict(place.board.agents), place.board.changes
        await two.gateway.remove("agent-1")
        await two.gateway.register(an_agent("agent-2"))
        await anyio.sleep(1)
        place.board.agents, place.board.changes = older
        await anyio.sleep(2)
        assert set(place.board.agents) == {"agent-2"}
        assert [set(system.gateway.agents()) for system in (one, two)] == [{"agent-2"}] * 2


async def test_store_that_is_away():
    """Agents register all the same, and the others hear of it when it is back; also a start does not wait for it."""
    place = InAStore()
    place.board.up = False
    async with place.replica(ScriptedAgents()) as one, place.replica(ScriptedAgents(), 1) as two:
        await one.gateway.register(an_agent())
        await anyio.sleep(100)
        await one.gateway.heartbeat("agent-1")
        assert [state(one), state(two)] == [Availability.READY, None]
        place.board.up = True
        await anyio.sleep(1)
        assert [state(one), state(two)] == [Availability.READY, Availability.READY]


async def test_memory_only():
    """Nothing is kept: after a start nobody is known until it registers. That it came is in the audit all the same."""
    ledger = MemoryLedger()
    async with embedded(ScriptedAgents(), ledger, ORCHESTRATOR_REGISTRY_BACKEND="memory") as system:
        await system.gateway.register(an_agent())
        assert state(system) is Availability.READY
    async with embedded(ScriptedAgents(), ledger, ORCHESTRATOR_REGISTRY_BACKEND="memory") as system:
        assert state(system) is None
    events = [entry.event async for entry in ledger.audit_chain("main")]
    assert events[0] == "agent_registered"
