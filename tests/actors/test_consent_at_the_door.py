"""Between the decision and the call things change. What counts is what holds when the task leaves. Time is virtual."""

from collections.abc import Sequence
from functools import partial

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.domain.agent import Agent
from orchestrator.outbound.ports import Call, Ending, Succeeded
from orchestrator.storage.commands import Command, Outcome
from orchestrator.storage.memory import MemoryLedger
from orchestrator.testing import ScriptedAgents, a_request, an_agent, embedded

pytestmark = pytest.mark.anyio

TASKS = 60
PLAIN, RAW = an_agent(), an_agent("agent-1", "embed", "raw_image")


@pytest.fixture
def anyio_backend(virtual_clock):
    return virtual_clock


class SlowDisk(MemoryLedger):
    """Slow enough for decisions and registrations to meet in one batch."""

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        await anyio.sleep(0.01)
        return await super().commit(commands)


async def test_an_agent_declares_raw_media_after_it_was_chosen():
    """A task without consent never leaves for an agent that is one for raw media at that moment."""
    agents, seen = ScriptedAgents(), list[Agent]()
    async with embedded(agents, SlowDisk()) as system:
        gateway = system.gateway

        async def look(_call: Call) -> Ending:
            seen.append(gateway.agents()["agent-1"].agent)
            return Succeeded({})

        async def keep_changing() -> None:
            while True:
                for declared, for_s in ((RAW, 0.007), (PLAIN, 0.053)):
                    await gateway.register(declared)
                    await anyio.sleep(for_s)

        agents.script("agent-1", look)
        await gateway.register(PLAIN)
        async with anyio.create_task_group() as group:
            group.start_soon(keep_changing)
            routed = [await system.route(a_request()) for _ in range(TASKS)]
            for one in routed:
                record = await gateway.task(one.record.task.task_id, 60.0)
                assert record.result is not None
            group.cancel_scope.cancel()
    assert len(seen) >= TASKS
    assert RAW not in seen


async def test_an_agent_moves_after_it_was_chosen():
    """Where it is called now, nobody has allowed yet: no task leaves for there."""
    agents, moved = ScriptedAgents(), replace(PLAIN, endpoint="http://elsewhere")
    async with embedded(agents, SlowDisk(), ORCHESTRATOR_AGENTS_QUARANTINE_CHANGES="on") as system:
        for after_s in (0.001 * step for step in range(TASKS)):
            await system.gateway.register(PLAIN)
            await system.gateway.allow("agent-1")
            async with anyio.create_task_group() as group:
                group.start_soon(system.route, a_request())
                await anyio.sleep(after_s)
                await system.gateway.register(moved)
            await anyio.sleep(0.1)
    assert agents.of("agent-1")
    assert not agents.of("elsewhere")


@pytest.mark.parametrize("first", ["operator", "agent"])
async def test_an_agent_registers_while_its_right_to_raw_media_is_taken_off(first: str):
    """Whichever comes first, and whatever else the agent says of itself: it has lost it, here and in the ledger."""
    ledger = SlowDisk()
    async with embedded(ScriptedAgents(), ledger, ORCHESTRATOR_AGENTS_QUARANTINE_CHANGES="on") as system:
        gateway = system.gateway
        for step in range(TASKS):
            await gateway.register(RAW)
            await gateway.allow("agent-1", raw_media=True)
            changes = [partial(gateway.allow, "agent-1"), partial(gateway.register, replace(RAW, cost=1.0 + step))]
            async with anyio.create_task_group() as group:
                for change in changes if first == "operator" else reversed(changes):
                    group.start_soon(change)
                    await anyio.sleep(0.001 * step)
            (kept,) = await ledger.agents()
            assert gateway.agents()["agent-1"].agent == kept
            assert (kept.without_raw_media, kept.capabilities, kept.cost) == (True, ("embed",), 1.0 + step)
