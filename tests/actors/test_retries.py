"""What an attempt that failed leads to. Time is virtual."""

from itertools import pairwise
from typing import Any

import anyio
import pytest

from orchestrator.domain.lifecycle import State
from orchestrator.outbound.ports import Busy, Call, Declined, Ending, Garbled, Refused, Succeeded, TimedOut
from orchestrator.storage.memory import MemoryLedger
from orchestrator.testing import ScriptedAgents, a_request, an_agent, check_history, embedded, trail

pytestmark = pytest.mark.anyio

TRANSIENT = Declined(retryable=True)
DONE = Succeeded({"done": True})


@pytest.fixture
def anyio_backend(virtual_clock):
    return virtual_clock


class Times(ScriptedAgents):
    """Notes when each call begins."""

    def __init__(self, **scripts):
        super().__init__(**scripts)
        self.at: list[float] = []

    async def call(self, call: Call, within: float) -> Ending:
        self.at.append(anyio.current_time())
        return await super().call(call, within)


async def done(system, routed, within=3_600.0):
    return await system.gateway.task(routed.record.task.task_id, within)


async def test_an_agent_that_fails_for_a_while():
    """The waits have full jitter: anything up to 1, 2, 4, … seconds and the cap, and not the same for each seed."""
    seen: set[tuple[float, ...]] = set()
    for seed in range(8):
        agents, ledger = Times(agent_1=[TRANSIENT] * 6 + [DONE]), MemoryLedger()
        settings: Any = {"ORCHESTRATOR_RETRY_CAP_S": "8", "ORCHESTRATOR_TASK_MAX_RETRIES": "6"}
        async with embedded(agents, ledger, seed=seed, **settings) as system:
            await system.gateway.register(an_agent())
            record = await done(system, await system.route(a_request()))
        assert (record.progress.state, record.progress.attempt, record.progress.failures) == (State.SUCCEEDED, 7, 6)
        waits = [after - before for before, after in pairwise(agents.at)]
        assert all(wait <= most + 0.1 for wait, most in zip(waits, (1, 2, 4, 8, 8, 8), strict=True)), waits
        seen.add(tuple(waits))
        await check_history(ledger)
    assert len(seen) == 8
    assert max(max(waits) for waits in seen) > 4


async def test_an_agent_that_fails_beside_one_that_does_not():
    """The next attempt goes to an agent that has not failed the task before, though it is the lesser one."""
    agents = ScriptedAgents(edge=[TRANSIENT])
    async with embedded(agents) as system:
        await system.gateway.register(an_agent("edge", location="edge-1"))
        await system.gateway.register(an_agent("cloud", location="cloud", cost=5.0))
        record = await done(system, await system.route(a_request()))
    assert [call.endpoint for call in agents.calls] == ["http://edge", "http://cloud"]
    assert (record.progress.agent_id, record.progress.tried) == ("cloud", ("edge",))
    assert [call.attempt for call in agents.calls] == [1, 2]


async def test_an_agent_that_asks_to_be_left_alone():
    """Retry-After is obeyed, by this task and all others."""
    agents = Times(agent_1=[Busy(30.0), DONE])
    async with embedded(agents) as system:
        await system.gateway.register(an_agent())
        first = await system.route(a_request())
        await agents.until_called()
        second = await system.route(a_request())
        assert [(await done(system, routed)).progress.state for routed in (first, second)] == [State.SUCCEEDED] * 2
    assert agents.at[1] - agents.at[0] >= 30.0
    assert agents.at[-1] - agents.at[0] < 33.0


async def test_an_agent_that_asks_to_be_left_alone_beside_a_free_one():
    """Its Retry-After holds for it alone: the task goes on elsewhere after its own back-off."""
    agents = Times(edge=[Busy(200.0)])
    async with embedded(agents) as system:
        await system.gateway.register(an_agent("edge", location="edge-1"))
        await system.gateway.register(an_agent("cloud"))
        assert (await done(system, await system.route(a_request()))).progress.agent_id == "cloud"
    assert agents.at[1] - agents.at[0] <= 1.1


async def test_a_failure_for_good():
    """What an agent calls permanent is not tried again: the task is a dead letter, and can be replayed as a new one."""
    agents, ledger = ScriptedAgents(agent_1=[Declined(retryable=False), DONE]), MemoryLedger()
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent())
        routed = await system.route(a_request())
        dead = await done(system, routed)
        assert (dead.progress.state, dead.progress.reason) == (State.DEAD, "agent_error_permanent")
        assert len(agents.calls) == 1
        assert [record.task.task_id for record in await system.gateway.dead()] == [dead.task.task_id]
        again = await system.gateway.replay(dead.task.task_id)
        assert (await system.gateway.replay(dead.task.task_id)).record.task.task_id == again.record.task.task_id
        replayed = await done(system, again)
        assert (replayed.progress.state, replayed.task.replay_of) == (State.SUCCEEDED, dead.task.task_id)
    assert len(await check_history(ledger)) == 2


@pytest.mark.parametrize("ending", [TRANSIENT, Garbled("status_500"), TimedOut(), Busy(None)])
async def test_failures_without_end(ending: Ending):
    """After the last retry the task is a dead letter, which names the last reason."""
    agents, ledger = ScriptedAgents(agent_1=[ending]), MemoryLedger()
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent())
        record = await done(system, await system.route(a_request()))
    assert record.progress.state is State.DEAD
    assert (len(agents.calls), record.progress.attempt, record.progress.failures) == (4, 4, 4)
    assert record.progress.reason in ("agent_error", "status_500", "timeout", "busy")
    await check_history(ledger)


async def test_an_agent_that_is_not_there_beside_one_that_is():
    """The task moves on at once, as a new attempt that costs no retry; the move has its own entry with its decision."""
    agents, ledger = Times(edge=[Refused()]), MemoryLedger()
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent("edge", location="edge-1"))
        await system.gateway.register(an_agent("cloud"))
        record = await done(system, await system.route(a_request()))
    assert (record.progress.state, record.progress.attempt, record.progress.failures) == (State.SUCCEEDED, 2, 0)
    assert agents.at[0] == agents.at[1]
    await check_history(ledger)
    (moved,) = [entry for entry in await trail(ledger) if entry.event == "moved"]
    assert (moved.agent_id, moved.attempt) == ("cloud", 2)
    assert '"excluded":"ejected"' in (moved.router_decision or "")


async def test_the_only_agent_is_not_there():
    """The task is given back uncounted, and done once the agent is tried again; it is not called again before that."""
    agents, ledger = Times(agent_1=[Refused(), Refused(), DONE]), MemoryLedger()
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent())
        record = await done(system, await system.route(a_request()))
    assert (record.progress.state, record.progress.attempt, record.progress.failures) == (State.SUCCEEDED, 3, 0)
    first, second, third = agents.at
    assert 10.0 <= second - first <= 11.1
    assert 20.0 <= third - second <= 21.1
    await check_history(ledger)


async def test_a_client_that_fails_itself():
    """An adapter that raises costs the task an attempt, and no other task anything."""

    async def broken(_call: Call) -> Ending:
        raise ZeroDivisionError

    agents, ledger = ScriptedAgents(agent_1=[broken]), MemoryLedger()
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent())
        record = await done(system, await system.route(a_request()))
        assert sum(child.restarts for child in system.status()) == 0
    assert (record.progress.state, record.progress.reason) == (State.DEAD, "client_error")
    await check_history(ledger)


async def test_an_agent_that_fails_until_the_deadline():
    """`deadline_s` bounds all attempts together: the task expires on time, and a call in flight is cut there."""

    async def slow(_call: Call) -> Ending:
        await anyio.sleep(4.0)
        return TRANSIENT

    agents, ledger = Times(agent_1=[slow]), MemoryLedger()
    async with embedded(agents, ledger, ORCHESTRATOR_TASK_MAX_RETRIES="100", ORCHESTRATOR_RETRY_CAP_S="2") as system:
        await system.gateway.register(an_agent())
        began = anyio.current_time()
        record = await done(system, await system.route(a_request(deadline_s=20.0)))
        assert (record.progress.state, record.progress.reason) == (State.EXPIRED, "deadline")
        assert 20.0 <= anyio.current_time() - began <= 21.1
    assert agents.at[-1] - began < 20.0
    await check_history(ledger)


async def test_tasks_with_less_time_than_the_agent_needs():
    """A call that the task's own deadline cuts says nothing against the agent, which goes on serving others."""
    agents = ScriptedAgents(agent_1=[_two_seconds])
    async with embedded(agents) as system:
        await system.gateway.register(an_agent())
        for _ in range(5):
            record = await done(system, await system.route(a_request(deadline_s=0.5)))
            assert record.progress.state is State.EXPIRED
        began = anyio.current_time()
        assert (await done(system, await system.route(a_request()))).progress.state is State.SUCCEEDED
        assert anyio.current_time() - began < 2.5


async def _two_seconds(_call: Call) -> Ending:
    await anyio.sleep(2.0)
    return DONE
