"""What becomes of agents by what their calls tell: ejected, tried, brought back. Time is virtual."""

from itertools import pairwise
from typing import Any

import anyio
import pytest

from orchestrator.domain.errors import NotFound, Overloaded
from orchestrator.domain.lifecycle import State
from orchestrator.outbound.ports import Call, Ending, Garbled, Refused, Succeeded
from orchestrator.storage.memory import MemoryLedger
from orchestrator.testing import ScriptedAgents, a_request, an_agent, check_history, embedded, trail

pytestmark = pytest.mark.anyio

DONE = Succeeded({"done": True})
PATIENT: Any = {
    "ORCHESTRATOR_TASK_MAX_RETRIES": "50",
    "ORCHESTRATOR_RETRY_BASE": "0.01",
    "ORCHESTRATOR_RETRY_CAP_S": "0.01",
    "ORCHESTRATOR_AGENT_TTL": "86400",
}


@pytest.fixture
def anyio_backend(virtual_clock):
    return virtual_clock


def timed(times: list[float], ending: Ending):
    async def call(_call: Call) -> Ending:
        times.append(anyio.current_time())
        return ending

    return call


async def for_five_seconds(_call: Call) -> Ending:
    await anyio.sleep(5.0)
    return DONE


def state_of(system, agent_id="agent-1"):
    return system.gateway.agents()[agent_id].health.availability(anyio.current_time(), 1e9).value


async def finished(system, *routed):
    return [await system.gateway.task(one.record.task.task_id, 1_000) for one in routed]


@pytest.mark.parametrize(("ending", "calls"), [(Refused(), 1), (Garbled("status_500"), 3)])
async def test_an_agent_out_of_order(ending: Ending, calls: int):
    """It is ejected at once when nothing listens, else after three failures in a row; then tried after 10 s × 2ⁿ."""
    times: list[float] = []
    agents = ScriptedAgents(agent_1=[timed(times, ending)] * (calls + 4) + [DONE])
    async with embedded(agents, **PATIENT) as system:
        await system.gateway.register(an_agent())
        await finished(system, await system.route(a_request()))
    assert times[calls - 1] - times[0] < 1.0
    tries = times[calls - 1 :]
    waits = [after - before for before, after in pairwise(tries)]
    assert [wait // 10 for wait in waits] == [1, 2, 4, 8]
    assert all(wait % 10 <= 1.1 for wait in waits)


async def test_many_tasks_for_an_agent_on_trial():
    """One call tries it, the others wait; when it answers, all go on."""
    release = anyio.Event()

    async def trial(_call: Call) -> Ending:
        await release.wait()
        return DONE

    agents = ScriptedAgents(agent_1=[Refused(), trial, DONE])
    async with embedded(agents) as system:
        await system.gateway.register(an_agent())
        routed = [await system.route(a_request()) for _ in range(20)]
        await agents.until_called(2)
        await anyio.sleep(5.0)
        assert (len(agents.calls), agents.running["agent-1"]) == (2, 1)
        release.set()
        assert {record.progress.state for record in await finished(system, *routed)} == {State.SUCCEEDED}


@pytest.mark.parametrize("sign", ["heartbeat", "registration"])
async def test_an_ejected_agent_is_heard_of(sign: str):
    """A heartbeat or a registration brings it back at once."""
    agents = ScriptedAgents(agent_1=[Refused(), DONE])
    async with embedded(agents) as system:
        await system.gateway.register(an_agent())
        routed = await system.route(a_request())
        while state_of(system) != "ejected":
            await system.gateway.agents_changed()
        began = anyio.current_time()
        if sign == "heartbeat":
            await system.gateway.heartbeat("agent-1")
        else:
            await system.gateway.register(an_agent())
        await finished(system, routed)
        assert anyio.current_time() - began < 0.1


async def test_agents_of_the_ledger_after_a_start():
    """Nothing is known of them: they are used, but last; and are as good as others once they are heard of."""
    ledger, agents = MemoryLedger(), ScriptedAgents()
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent("edge", location="edge-1"))
    async with embedded(agents, ledger, seed=1) as system:
        assert state_of(system, "edge") == "unknown"
        await finished(system, await system.route(a_request()))
        assert [call.endpoint for call in agents.calls] == ["http://edge"]
    async with embedded(agents, ledger, seed=2) as system:
        await system.gateway.register(an_agent("cloud", cost=9.0))
        await finished(system, await system.route(a_request()))
        assert agents.calls[-1].endpoint == "http://cloud"
        await system.gateway.heartbeat("edge")
        await finished(system, await system.route(a_request()))
        assert agents.calls[-1].endpoint == "http://edge"
    await check_history(ledger)


async def test_an_agent_that_is_silent():
    """Without a sign of life for the time to live it gets nothing; a heartbeat brings it back."""
    agents = ScriptedAgents()
    async with embedded(agents, ORCHESTRATOR_AGENT_TTL="30") as system:
        await system.gateway.register(an_agent())
        await anyio.sleep(31.0)
        routed = await system.route(a_request())
        await anyio.sleep(60.0)
        assert agents.calls == []
        await system.gateway.heartbeat("agent-1")
        await finished(system, routed)


async def test_an_agent_that_drains():
    """It gets no more work while it beats on, and is back when it registers."""
    agents = ScriptedAgents()
    async with embedded(agents) as system:
        await system.gateway.register(an_agent())
        await system.gateway.drain("agent-1")
        routed = await system.route(a_request())
        for _ in range(10):
            await anyio.sleep(5.0)
            await system.gateway.heartbeat("agent-1")
        assert agents.calls == []
        await system.gateway.register(an_agent())
        await finished(system, routed)


async def test_an_agent_that_leaves():
    """It is forgotten, in the ledger as well; its call in flight goes on and counts."""
    release = anyio.Event()

    async def held(_call: Call) -> Ending:
        await release.wait()
        return DONE

    agents, ledger = ScriptedAgents(agent_1=[held]), MemoryLedger()
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent())
        routed = await system.route(a_request())
        await agents.until_called()
        await system.gateway.remove("agent-1")
        assert system.gateway.agents() == {}
        release.set()
        (record,) = await finished(system, routed)
        assert record.progress.state is State.SUCCEEDED
        for call in (system.gateway.heartbeat, system.gateway.drain, system.gateway.remove):
            with pytest.raises(NotFound):
                await call("agent-1")
    assert await ledger.agents() == []
    events = [entry.event for entry in await trail(ledger) if entry.agent_id == "agent-1" and entry.task_id is None]
    assert events == ["agent_registered", "agent_removed"]


async def test_more_agents_than_may_be_registered():
    """The bound holds for those that register at the same moment, too; who is known may always register again."""
    refused: list[str] = []
    async with embedded(ScriptedAgents(), ORCHESTRATOR_AGENTS_MAX_AGENTS="5") as system:

        async def register(agent_id: str) -> None:
            try:
                await system.gateway.register(an_agent(agent_id))
            except Overloaded:
                refused.append(agent_id)

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(register, f"agent-{number}")
        known = list(system.gateway.agents())
        assert (len(known), len(refused)) == (5, 7)
        await system.gateway.register(an_agent(known[0], "embed", "indexing"))
        assert system.gateway.agents()[known[0]].agent.capabilities == ("embed", "indexing")


async def test_an_agent_that_registers_unchanged():
    """It costs no entry in the audit: nothing was decided."""
    ledger = MemoryLedger()
    async with embedded(ScriptedAgents(), ledger) as system:
        for _ in range(3):
            await system.gateway.register(an_agent())
        await system.gateway.register(an_agent(location="edge-2"))
    assert [entry.event for entry in await trail(ledger)] == ["agent_registered"] * 2


async def test_forgotten_and_registered_again_with_calls_in_flight():
    """Its bound holds across both: the calls that it still has count."""
    agents = ScriptedAgents(agent_1=[for_five_seconds])
    async with embedded(agents) as system:
        one = an_agent(max_concurrency=1)
        await system.gateway.register(one)
        for _ in range(2):
            await system.route(a_request())
        await agents.until_called()
        await system.gateway.remove("agent-1")
        await system.gateway.register(one)
        await agents.until_called(2)
        assert agents.peak["agent-1"] == 1
