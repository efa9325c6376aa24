"""What waits, for how long, and who goes first."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from orchestrator.actors.messages import Routed
from orchestrator.domain.lifecycle import State
from orchestrator.domain.task import Priority
from orchestrator.outbound.ports import Call, Ending, Succeeded
from orchestrator.storage.memory import MemoryLedger
from orchestrator.testing import ScriptedAgents, a_request, an_agent, check_history, embedded

pytestmark = pytest.mark.anyio

DONE = Succeeded({"done": True})


class Gate:
    """Holds calls until it is opened."""

    def __init__(self) -> None:
        self.event = anyio.Event()

    async def __call__(self, _call: Call) -> Ending:
        await self.event.wait()
        return DONE


async def finished(system, routed):
    return [await system.gateway.task(one.record.task.task_id, 1_000) for one in routed]


async def test_more_work_than_slots():
    """No agent gets more calls at once than it said; one of its slots is kept for urgent work."""
    gate = Gate()
    agents, ledger = ScriptedAgents(agent_1=[gate]), MemoryLedger()
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent(max_concurrency=4))
        routed = [await system.route(a_request()) for _ in range(20)]
        await agents.until_called(3)
        urgent = await system.route(a_request(priority=Priority.URGENT))
        routed += [urgent, await system.route(a_request(priority=Priority.URGENT))]
        fourth = await agents.until_called(4)
        assert fourth.task_id == urgent.record.task.task_id
        await anyio.wait_all_tasks_blocked()
        assert agents.running["agent-1"] == 4
        gate.event.set()
        assert {record.progress.state for record in await finished(system, routed)} == {State.SUCCEEDED}
    assert agents.peak["agent-1"] == 4
    assert len(agents.calls) == 22
    await check_history(ledger)


async def test_all_slots_of_the_dispatcher_are_taken():
    """The dispatcher keeps a slot of its own for urgent work as well."""
    gate = Gate()
    agents = ScriptedAgents(agent_1=[gate])
    settings: Any = {"ORCHESTRATOR_DISPATCH_CONSUMERS": "1", "ORCHESTRATOR_DISPATCH_SLOTS": "3"}
    async with embedded(agents, **settings) as system:
        await system.gateway.register(an_agent(max_concurrency=50))
        routed = [await system.route(a_request()) for _ in range(9)]
        await agents.until_called(2)
        urgent = await system.route(a_request(priority=Priority.URGENT))
        assert (await agents.until_called(3)).task_id == urgent.record.task.task_id
        await anyio.wait_all_tasks_blocked()
        assert agents.running["agent-1"] == 3
        gate.event.set()
        await finished(system, [*routed, urgent])


async def test_a_kind_of_work_that_no_agent_does():
    """It waits, and holds up nothing else, neither of its class nor below it."""
    agents, ledger = ScriptedAgents(), MemoryLedger()
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent("agent-1", "embed"))
        stuck = [await system.route(a_request("indexing", priority=Priority.URGENT)) for _ in range(50)]
        low = [await system.route(a_request(priority=Priority.LOW)) for _ in range(50)]
        with anyio.fail_after(5):
            assert {record.progress.state for record in await finished(system, low)} == {State.SUCCEEDED}
        states = {(await system.gateway.task(one.record.task.task_id)).progress.state for one in stuck}
        assert states == {State.QUEUED}
        await system.gateway.register(an_agent("agent-2", "indexing"))
        await finished(system, stuck)
    await check_history(ledger)


async def test_tasks_for_another_site():
    """Edge agents serve their own site; work for a site without an agent waits, other work does not."""
    agents = ScriptedAgents()
    async with embedded(agents) as system:
        await system.gateway.register(an_agent("here", location="edge-1", site="here"))
        elsewhere = await system.route(a_request(meta={"site": "elsewhere"}))
        await finished(system, [await system.route(a_request(meta={"site": "here"}))])
        assert (await system.gateway.task(elsewhere.record.task.task_id)).progress.state is State.QUEUED
        await system.gateway.register(an_agent("there", location="edge-2", site="elsewhere"))
        (record,) = await finished(system, [elsewhere])
        assert record.progress.agent_id == "there"


class TestVirtually:
    """Of these, time is a part."""

    @pytest.fixture
    def anyio_backend(self, virtual_clock):
        return virtual_clock

    async def test_end_after_work_was_accepted(self):
        """Nobody who is ready for more of it has to be cancelled: the end takes no time."""
        async with embedded(ScriptedAgents(), MemoryLedger()) as system:
            await system.route(a_request())
            began = anyio.current_time()
        assert anyio.current_time() == began

    async def test_no_agent_yet(self):
        """The task waits for hours if need be, and starts within 100 ms of the agent's registration."""
        agents = ScriptedAgents()
        async with embedded(agents) as system:
            routed = await system.route(a_request())
            await anyio.sleep(3_600.0)
            assert (await system.gateway.task(routed.record.task.task_id)).progress.state is State.QUEUED
            await system.gateway.register(an_agent())
            with anyio.fail_after(0.1):
                await agents.until_called()

    async def test_a_time_before_which_it_must_not_start(self):
        """It starts when the time has come, and not before."""
        agents = ScriptedAgents()
        async with embedded(agents) as system:
            await system.gateway.register(an_agent())
            began, now = anyio.current_time(), system.environment.now()
            routed = [await system.route(a_request(not_before=_instant(now + delay))) for delay in (90.0, 7.5, 0.0)]
            for calls, delay in enumerate((0.0, 7.5, 90.0), 1):
                await agents.until_called(calls)
                assert delay <= anyio.current_time() - began < delay + 0.1
            assert agents.calls[1].task_id == routed[1].record.task.task_id

    async def test_urgent_work_behind_ten_thousand_tasks(self):
        """It is the next to be called, through the slot that is kept for it; the others go on in their order."""

        async def a_second(_call: Call) -> Ending:
            await anyio.sleep(1.0)
            return DONE

        agents = ScriptedAgents(agent_1=[a_second])
        async with embedded(agents, ORCHESTRATOR_STREAM_MAXLEN="100") as system:
            low = [await system.route(a_request(priority=Priority.LOW)) for _ in range(10_000)]
            await system.gateway.register(an_agent(max_concurrency=2))
            await agents.until_called(5)
            urgent = await system.route(a_request(priority=Priority.URGENT))
            with anyio.fail_after(0.1):
                called = await agents.until_called(6)
            assert called.task_id == urgent.record.task.task_id
            await agents.until_called(250)
        order = [call.task_id for call in agents.calls if call.task_id != urgent.record.task.task_id]
        assert order == [one.record.task.task_id for one in low[: len(order)]]

    async def test_more_of_every_class_than_can_be_done(self):
        """Every class gets its share, in the proportion of 8, 4, 2 and 1: none starves."""

        async def quick(_call: Call) -> Ending:
            await anyio.sleep(0.01)
            return DONE

        agents = ScriptedAgents(agent_1=[quick])
        async with embedded(agents, ORCHESTRATOR_DISPATCH_CONSUMERS="1") as system:
            classes: dict[str, Priority] = {}
            for number in range(1_000):
                priority = list(Priority)[number % 4]
                routed = await system.route(a_request(priority=priority))
                classes[routed.record.task.task_id] = priority
            await system.gateway.register(an_agent(max_concurrency=1))
            await agents.until_called(300)
        shares = Counter(classes[call.task_id] for call in agents.calls[:300])
        assert [round(shares[priority] / 20) for priority in Priority] == [8, 4, 2, 1]

    async def test_low_work_under_urgent_work_without_end(self):
        """Waiting adds weight, so even a single old task is done under a flood."""

        async def tenth(_call: Call) -> Ending:
            await anyio.sleep(0.1)
            return DONE

        agents = ScriptedAgents(agent_1=[tenth])
        async with embedded(agents) as system:
            low = await system.route(a_request(priority=Priority.LOW))
            for _ in range(200):
                await system.route(a_request(priority=Priority.URGENT))
            await system.gateway.register(an_agent(max_concurrency=1))
            with anyio.fail_after(10.0):
                await finished(system, [low])

    async def test_a_great_many_that_come_due_at_once(self):
        """All of them are queued again within a second or two."""
        agents, ledger = ScriptedAgents(), MemoryLedger()
        async with embedded(agents, ledger) as system:
            at = _instant(system.environment.now() + 60.0)
            for _ in range(1_500):
                await system.route(a_request(not_before=at))
            await anyio.sleep(60.0)
            await system.gateway.register(an_agent(max_concurrency=1024))
            with anyio.fail_after(2.0):
                await agents.until_called(1_500)
        await check_history(ledger)


def _instant(seconds: float):
    return datetime.fromtimestamp(seconds, UTC)


async def test_tasks_of_two_sites_that_are_dispatched_together():
    """What was decided for one task is not taken for another that asks something else: each goes to its own site."""
    gate, ledger = Gate(), MemoryLedger()
    agents = ScriptedAgents(north=[gate], south=[gate])
    async with embedded(agents, ledger, ORCHESTRATOR_DISPATCH_CONSUMERS="1") as system:
        for site in ("north", "south"):
            await system.gateway.register(an_agent(site, location="edge", site=site, max_concurrency=4))
        routed = await system.gateway.route_all([a_request(meta={"site": site}) for site in ("north", "south") * 12])
        await agents.until_called(6)
        # All slots are free at the same moment.
        gate.event.set()
        await finished(system, routed)
    for one in routed:
        assert isinstance(one, Routed)
        task = one.record.task
        assert [call.endpoint for call in agents.calls if call.task_id == task.task_id] == [f"http://{task.site}"]
    await check_history(ledger)
