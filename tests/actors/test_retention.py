"""What was kept for long enough is removed, and nothing else. Time is virtual."""

import json
from typing import Any

import anyio
import pytest

from orchestrator.domain.errors import PayloadRemoved
from orchestrator.domain.lifecycle import State
from orchestrator.domain.retention import Due, Ended, Periods, due
from orchestrator.outbound.ports import Declined
from orchestrator.storage.memory import MemoryLedger
from orchestrator.testing import ScriptedAgents, a_request, an_agent, check_history, embedded, trail

pytestmark = pytest.mark.anyio

MINUTE = 60.0
KEPT: dict[str, Any] = {
    "ORCHESTRATOR_RETENTION_EVERY_S": "10",
    "ORCHESTRATOR_RETENTION_PAYLOAD_S": str(MINUTE),
    "ORCHESTRATOR_RETENTION_RESULT_S": str(2 * MINUTE),
    "ORCHESTRATOR_RETENTION_TASK_S": str(10 * MINUTE),
}


@pytest.fixture
def anyio_backend(virtual_clock):
    return virtual_clock


async def after(minutes: float) -> None:
    """So long, and the time in which the janitor looks."""
    await anyio.sleep(minutes * MINUTE + 11.0)


async def test_what_ended_is_removed_step_by_step_and_what_goes_on_is_not():
    """First the payload, then the result, in the end the task; each with an entry that holds counts only."""
    ledger = MemoryLedger()
    async with embedded(ScriptedAgents(), ledger, **KEPT) as system:
        await system.gateway.register(an_agent())
        done = (await system.route(a_request())).record.task.task_id
        await system.gateway.task(done, 60.0)
        open_one = (await system.route(a_request("indexing", deadline_s=3_600.0))).record
        await after(1)
        record = await system.gateway.task(done)
        assert (record.task.payload, record.payload_removed, record.result_removed) == ({}, True, False)
        await after(1)
        record = await system.gateway.task(done)
        assert (record.result, record.result_removed) == (None, True)
        await after(8)
        assert await ledger.task(done) is None
        assert await ledger.task(open_one.task.task_id) == open_one
    entries = [entry for entry in await trail(ledger) if entry.event == "removed"]
    assert [entry.detail for entry in entries] == [
        '{"payloads":1,"results":0,"tasks":0}',
        '{"payloads":0,"results":1,"tasks":0}',
        '{"payloads":0,"results":0,"tasks":1}',
    ]
    assert {(entry.task_id, entry.case_id, entry.reason) for entry in entries} == {(None, None, "retention")}


async def test_large_payloads_go_a_few_at_a_time():
    """Who removes has to write, so a transaction has at most four MiB of them; one that is larger goes alone."""
    ledger = MemoryLedger()
    async with embedded(ScriptedAgents(), ledger, **KEPT) as system:
        await system.gateway.register(an_agent())
        for size in (1_500_000, 1_500_000, 1_500_000, 5_000_000, 1_000, 1_000):
            routed = await system.route(a_request(payload={"note": "x" * size}))
            await system.gateway.task(routed.record.task.task_id, 60.0)
        await after(1)
    entries = [entry for entry in await trail(ledger) if entry.event == "removed"]
    assert [json.loads(entry.detail or "")["payloads"] for entry in entries] == [2, 1, 1, 2]


async def test_without_settings():
    """Everything is kept for ever."""
    ledger = MemoryLedger()
    async with embedded(ScriptedAgents(), ledger) as system:
        await system.gateway.register(an_agent())
        routed = await system.route(a_request())
        await system.gateway.task(routed.record.task.task_id, 60.0)
        await after(10)
        record = await system.gateway.task(routed.record.task.task_id)
        assert (record.task.payload, bool(record.result)) == ({"note": "private"}, True)
    await check_history(ledger)


async def test_task_whose_key_is_remembered():
    """The same request finds it, without payload and result, until the key's published expiry; then it is gone."""
    ledger = MemoryLedger()
    kept: dict[str, Any] = KEPT | {"ORCHESTRATOR_STORAGE_IDEMPOTENCY_EXPIRY_S": str(20 * MINUTE)}
    async with embedded(ScriptedAgents(), ledger, **kept) as system:
        await system.gateway.register(an_agent())
        request = a_request(idempotency_key="key-1")
        first = (await system.route(request)).record.task.task_id
        await system.gateway.task(first, 60.0)
        await after(11)
        again = (await system.route(request)).record
        assert (again.task.task_id, again.payload_removed, again.result_removed) == (first, True, True)
        await after(9)
        assert await ledger.task(first) is None
        assert (await system.route(request)).record.task.task_id != first


async def test_dead_letter():
    """It can be replayed for ever, or for as long as dead letters are kept; then it is refused, and says why."""
    for dead_letter_s, replayable in ((0.0, True), (20 * MINUTE, False)):
        ledger, agents = MemoryLedger(), ScriptedAgents(agent_1=[Declined(retryable=False)])
        kept: dict[str, Any] = KEPT | {"ORCHESTRATOR_RETENTION_DEAD_LETTER_S": str(dead_letter_s)}
        kept["ORCHESTRATOR_RETENTION_TASK_S"] = "0"
        async with embedded(agents, ledger, **kept) as system:
            await system.gateway.register(an_agent())
            dead = (await system.route(a_request())).record.task.task_id
            assert (await system.gateway.task(dead, 60.0)).progress.state is State.DEAD
            await after(21)
            await system.gateway.register(an_agent())
            if replayable:
                assert (await system.gateway.replay(dead)).record.task.payload == {"note": "private"}
                await after(1)
                assert (await system.gateway.task(dead)).payload_removed
            else:
                with pytest.raises(PayloadRemoved):
                    await system.gateway.replay(dead)


async def test_more_than_one_step_and_two_that_do_it():
    """Everything is removed once, however many look for it, and each entry counts what it removed."""
    ledger = MemoryLedger(exclusive=False)
    kept: dict[str, Any] = KEPT | {"ORCHESTRATOR_RETENTION_RESULT_S": "0", "ORCHESTRATOR_RETENTION_TASK_S": "0"}
    async with embedded(ScriptedAgents(), ledger, **kept) as one, embedded(ScriptedAgents(), ledger, **kept):
        await one.gateway.register(an_agent())
        ids = [(await one.route(a_request())).record.task.task_id for _ in range(600)]
        for task_id in ids:
            await one.gateway.task(task_id, 600.0)
        await after(1.1)
        assert all([(await one.gateway.task(task_id)).payload_removed for task_id in ids])
    details = [entry.detail for entry in await trail(ledger) if entry.event == "removed"]
    assert len(details) >= 3
    assert sum(int((detail or "").split(":")[1].split(",")[0]) for detail in details) == 600


@pytest.mark.parametrize(
    ("fields", "kept", "expected"),
    [
        ({}, {}, Due()),
        ({}, {"payload_s": 10.0}, Due(payload=True)),
        ({}, {"payload_s": 11.0}, Due()),
        ({"payload": False}, {"payload_s": 10.0}, Due()),
        ({}, {"result_s": 10.0}, Due(result=True)),
        ({"result": False}, {"result_s": 10.0}, Due()),
        ({}, {"task_s": 10.0}, Due(payload=True, result=True, task=True)),
        ({"keyed": True}, {"task_s": 10.0}, Due(payload=True, result=True)),
        ({"awaited": True}, {"task_s": 1.0, "payload_s": 1.0}, Due()),
        ({"dead_letter": True}, {"task_s": 1.0, "payload_s": 1.0}, Due()),
        ({"dead_letter": True}, {"payload_s": 1.0, "dead_letter_s": 10.0}, Due(payload=True)),
        ({"dead_letter": True}, {"payload_s": 1.0, "dead_letter_s": 11.0}, Due()),
    ],
)
def test_what_is_due(fields, kept, expected):
    """Ten seconds after the end."""
    usual = {"payload": True, "result": True, "dead_letter": False, "awaited": False, "keyed": False, "size": 0}
    ended = Ended("task-1", 1, 100.0, **(usual | fields))
    assert due(ended, Periods(**kept), 110.0) == expected
