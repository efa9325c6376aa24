"""The ledger is slow, full for a while, or does not take one thing. Time is virtual."""

from collections.abc import Sequence

import anyio
import pytest

from orchestrator.domain.errors import AuditUnavailable
from orchestrator.domain.lifecycle import State
from orchestrator.outbound.ports import Call, Ending, Succeeded
from orchestrator.storage.commands import Command, Failed, Outcome, TaskRecord, Transition
from orchestrator.storage.memory import MemoryLedger
from orchestrator.storage.ports import NotCommitted
from orchestrator.testing import ScriptedAgents, a_request, an_agent, check_history, embedded

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock):
    return virtual_clock


class BadDisk(MemoryLedger):
    """Slow by so many seconds, full, or unwilling to take results."""

    slow = 0.0
    full = False
    picky = False

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        await anyio.sleep(self.slow)
        if self.full:
            raise NotCommitted("full")
        if self.picky and any(isinstance(command, Transition) and command.result for command in commands):
            return [Failed("TypeError") for _ in commands]
        return await super().commit(commands)


async def a_second(_call: Call) -> Ending:
    await anyio.sleep(1.0)
    return Succeeded({"done": True})


async def test_full_while_a_call_is_in_flight():
    """Its result is kept until it can be written: one call in all. Meanwhile nothing is accepted, and we say so."""
    ledger, agents = BadDisk(), ScriptedAgents(agent_1=[a_second])
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent())
        routed = await system.route(a_request())
        await agents.until_called()
        ledger.full = True
        for _ in range(3):
            with pytest.raises(AuditUnavailable):
                await system.route(a_request())
        assert system.gateway.unready() == ["ledger_unavailable"]
        await anyio.sleep(20.0)
        ledger.full = False
        record = await system.gateway.task(routed.record.task.task_id, 5.0)
        assert (record.progress.state, record.progress.attempt) == (State.SUCCEEDED, 1)
        assert system.gateway.unready() == []
        assert sum(child.restarts for child in system.status()) == 0
    assert len(agents.calls) == 1
    assert len(await check_history(ledger)) == 1


async def test_space_is_back_without_any_traffic():
    """It is found out all the same, within a second."""
    ledger = BadDisk()
    async with embedded(ScriptedAgents(), ledger) as system:
        ledger.full = True
        with pytest.raises(AuditUnavailable):
            await system.route(a_request())
        await anyio.sleep(60.0)
        assert system.gateway.unready() == ["ledger_unavailable"]
        ledger.full = False
        await anyio.sleep(1.0)
        assert system.gateway.unready() == []


async def test_a_result_that_the_ledger_never_takes():
    """The attempt counts as lost, and after three of them the task is dead: it is not tried for ever."""
    ledger, agents = BadDisk(), ScriptedAgents()
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent())
        ledger.picky = True
        routed = await system.route(a_request())
        record = await system.gateway.task(routed.record.task.task_id, 200.0)
        assert (record.progress.state, record.progress.reason) == (State.DEAD, "lease_lost")
    assert len(agents.calls) == 3
    await check_history(ledger)


async def test_an_audit_write_that_hangs():
    """Each sender is told within the time that a commit may take, not when the disk comes back; then all goes on."""
    ledger = BadDisk()
    async with embedded(ScriptedAgents(), ledger, ORCHESTRATOR_WEB_ANSWER_TIMEOUT_S="3") as system:
        ledger.slow = 20.0
        for _ in range(3):
            began = anyio.current_time()
            with pytest.raises(AuditUnavailable, match="did not confirm in time") as refused:
                await system.route(a_request())
            assert refused.value.retry_after == 1
            assert anyio.current_time() - began == pytest.approx(3.0, abs=0.1)
        ledger.slow = 0.0
        await anyio.sleep(60.0)
        await system.route(a_request())
    await check_history(ledger)


async def test_slower_than_usual_with_more_senders_than_are_served_at_once():
    """Those who wait their turn are waiting, not stuck: nobody is restarted, and all are accepted."""
    ledger = BadDisk()
    accepted: list[str] = []
    async with embedded(ScriptedAgents(), ledger, ORCHESTRATOR_WEB_ANSWER_TIMEOUT_S="100") as system:
        ledger.slow = 12.0

        async def send() -> None:
            accepted.append((await system.route(a_request())).record.task.task_id)

        async with anyio.create_task_group() as group:
            for _ in range(600):
                group.start_soon(send)
        assert sum(child.restarts for child in system.status()) == 0
    assert len(accepted) == 600


class HangingReads(MemoryLedger):
    """A read that never comes back, once."""

    hangs = 1

    async def records(self, task_ids: Sequence[str]) -> list[TaskRecord]:
        if self.hangs:
            self.hangs -= 1
            await anyio.sleep_forever()
        return await super().records(task_ids)


async def test_a_read_that_never_comes_back():
    """The consumer that waits for it counts as stalled, though nobody wrote to it; the task is done all the same."""
    agents, ledger = ScriptedAgents(), HangingReads()
    async with embedded(agents, ledger) as system:
        await system.route(a_request())
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent())
        await agents.until_called()
        (stalled,) = [child for child in system.status() if child.last_error]
        assert (stalled.name[:15], stalled.last_error) == ("stream_consumer", "Stalled")
