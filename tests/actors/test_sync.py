"""Tasks whose sender waits for the result."""

from typing import Any

import anyio
import pytest
import trio.testing

from orchestrator.actors.messages import Answer
from orchestrator.domain.errors import InProgress, KeyReused
from orchestrator.domain.lifecycle import State
from orchestrator.outbound.ports import Call, Declined, Ending, Refused, Succeeded
from orchestrator.storage.memory import MemoryLedger
from orchestrator.testing import ScriptedAgents, a_request, an_agent, check_history, embedded, trail

pytestmark = pytest.mark.anyio

DONE = Succeeded({"done": True}, "model-7")


def sync_agent(agent_id="agent-1", **fields):
    return an_agent(agent_id, "analyze_light", **fields)


def sync_request(**fields):
    return a_request("analyze_monitor", **fields)


class Held:
    """Ends as it should once it is released."""

    def __init__(self, ending: Ending = DONE) -> None:
        self.release = anyio.Event()
        self._ending = ending

    async def __call__(self, _call: Call) -> Ending:
        await self.release.wait()
        return self._ending


async def test_an_agent_that_is_quick():
    """The answer holds the result, which is stored; acceptance and lease are one entry with the decision."""
    ledger = MemoryLedger()
    async with embedded(ScriptedAgents(agent_1=[DONE]), ledger) as system:
        await system.gateway.register(sync_agent())
        routed = await system.route(sync_request())
        assert (routed.answer, routed.record.progress.state) == (Answer.COMPLETED_SYNC, State.SUCCEEDED)
        stored = await system.gateway.task(routed.record.task.task_id)
        assert stored.result is not None
        assert (stored.result.output, stored.result.model_version) == ({"done": True}, "model-7")
    (record,) = await check_history(ledger)
    events = [entry for entry in await trail(ledger) if entry.task_id == record.task.task_id]
    assert [(entry.event, entry.status) for entry in events] == [("accepted", "leased"), ("succeeded", "succeeded")]
    assert '"ranking":["agent-1"]' in (events[0].router_decision or "")


async def test_an_agent_that_is_slow():
    """The sender is released after the time-out, the same call goes on, and its result counts: one call in all."""
    held, ledger = Held(), MemoryLedger()
    agents = ScriptedAgents(agent_1=[held])
    async with embedded(agents, ledger, ORCHESTRATOR_SYNC_TIMEOUT="0.05") as system:
        await system.gateway.register(sync_agent())
        routed = await system.route(sync_request())
        assert (routed.answer, routed.record.progress.state) == (Answer.QUEUED, State.LEASED)
        assert agents.running["agent-1"] == 1
        held.release.set()
        record = await system.gateway.task(routed.record.task.task_id, 10.0)
        assert (record.progress.state, record.progress.attempt) == (State.SUCCEEDED, 1)
    assert len(agents.calls) == 1
    await check_history(ledger)


@pytest.mark.parametrize("anyio_backend", [("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})])
async def test_callers_who_come_one_after_another():
    """Each is let go when its own time is over, whatever became of those before it; what is quick is not waited for."""
    held = Held()
    agents = ScriptedAgents(agent_1=[DONE, held, held])
    waited: list[float] = []
    async with embedded(agents, ORCHESTRATOR_SYNC_TIMEOUT="0.2") as system:
        await system.gateway.register(sync_agent())

        async def send() -> None:
            began = anyio.current_time()
            routed = await system.route(sync_request())
            waited.append(anyio.current_time() - began)
            assert (routed.answer is Answer.COMPLETED_SYNC) == (len(waited) == 1)

        await send()
        await anyio.sleep(0.1)
        async with anyio.create_task_group() as group:
            group.start_soon(send)
            await agents.until_called(2)
            await anyio.sleep(0.1)
            group.start_soon(send)
        held.release.set()
    assert waited == pytest.approx([0.0, 0.2, 0.2])


async def test_agents_that_are_busy():
    """The task is queued like any other, and its sender told so at once."""
    held, ledger = Held(), MemoryLedger()
    agents = ScriptedAgents(agent_1=[held])
    async with embedded(agents, ledger, ORCHESTRATOR_SYNC_TIMEOUT="30") as system:
        await system.gateway.register(sync_agent(max_concurrency=2))
        async with anyio.create_task_group() as group:
            group.start_soon(system.route, sync_request())
            await agents.until_called(1)
            with anyio.fail_after(1.0):
                routed = await system.route(sync_request())
            assert (routed.answer, routed.record.progress.state) == (Answer.QUEUED, State.QUEUED)
            held.release.set()
        assert (await system.gateway.task(routed.record.task.task_id, 10.0)).progress.state is State.SUCCEEDED
    await check_history(ledger)


async def test_too_many_synchronous_calls():
    """Beyond the bound, tasks are queued: for want of slots of ours, not of the agents."""
    held = Held()
    agents = ScriptedAgents(agent_1=[held])
    settings: Any = {"ORCHESTRATOR_SYNC_TIMEOUT": "30", "ORCHESTRATOR_SYNC_MAX_CONCURRENT": "1"}
    async with embedded(agents, **settings) as system:
        await system.gateway.register(sync_agent(max_concurrency=50))
        async with anyio.create_task_group() as group:
            group.start_soon(system.route, sync_request())
            await agents.until_called(1)
            with anyio.fail_after(1.0):
                routed = await system.route(sync_request())
            assert routed.answer is Answer.QUEUED
            held.release.set()
        await system.gateway.task(routed.record.task.task_id, 10.0)


async def test_the_chosen_agent_is_not_there():
    """The sender gets the next candidate's result, as attempt 2 of the same task."""
    agents, ledger = ScriptedAgents(edge=[Refused()]), MemoryLedger()
    async with embedded(agents, ledger) as system:
        await system.gateway.register(sync_agent("edge", location="edge-1"))
        await system.gateway.register(sync_agent("cloud"))
        routed = await system.route(sync_request())
    assert routed.answer is Answer.COMPLETED_SYNC
    assert (routed.record.progress.agent_id, routed.record.progress.attempt) == ("cloud", 2)
    await check_history(ledger)


async def test_the_agent_fails():
    """The task is queued for a retry if one helps; if not, the sender learns at once that it is dead."""
    ledger = MemoryLedger()
    agents = ScriptedAgents(agent_1=[Declined(retryable=True), DONE, Declined(retryable=False)])
    async with embedded(agents, ledger, ORCHESTRATOR_RETRY_BASE="0.01") as system:
        await system.gateway.register(sync_agent())
        routed = await system.route(sync_request())
        assert (routed.answer, routed.record.progress.state) == (Answer.QUEUED, State.RETRY_WAIT)
        assert (await system.gateway.task(routed.record.task.task_id, 10.0)).progress.state is State.SUCCEEDED
        routed = await system.route(sync_request())
        assert (routed.answer, routed.record.progress.state) == (Answer.QUEUED, State.DEAD)
    await check_history(ledger)


async def test_the_same_key_while_the_first_request_is_answered():
    """The second sender is told to come back, with the same body; then it gets the first one's task and result."""
    held, ledger = Held(), MemoryLedger()
    agents = ScriptedAgents(agent_1=[held])
    async with embedded(agents, ledger, ORCHESTRATOR_SYNC_TIMEOUT="30") as system:
        await system.gateway.register(sync_agent())
        async with anyio.create_task_group() as group:
            group.start_soon(system.route, sync_request(idempotency_key="key-1"))
            await agents.until_called(1)
            with pytest.raises(InProgress):
                await system.route(sync_request(idempotency_key="key-1"))
            with pytest.raises(KeyReused):
                await system.route(sync_request(idempotency_key="key-1", case_id="another"))
            held.release.set()
        routed = await system.route(sync_request(idempotency_key="key-1"))
        assert (routed.answer, routed.record.progress.state) == (Answer.DUPLICATE, State.SUCCEEDED)
        assert routed.record.result is not None
    assert len(agents.calls) == 1
    assert len(await check_history(ledger)) == 1


async def test_the_sender_goes_away():
    """What it asked for is completed all the same, once."""
    held, ledger = Held(), MemoryLedger()
    agents = ScriptedAgents(agent_1=[held])
    async with embedded(agents, ledger, ORCHESTRATOR_SYNC_TIMEOUT="30") as system:
        await system.gateway.register(sync_agent())
        async with anyio.create_task_group() as group:
            group.start_soon(system.route, sync_request())
            call = await agents.until_called(1)
            group.cancel_scope.cancel()
        held.release.set()
        assert (await system.gateway.task(call.task_id, 10.0)).progress.state is State.SUCCEEDED
    assert len(agents.calls) == 1
    await check_history(ledger)
