"""Work that streams carry between replicas, which may lose everything at any moment; in virtual time."""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
import structlog.testing
import trio.testing
from anyio.lowlevel import checkpoint

from orchestrator.domain.agent import Agent
from orchestrator.domain.lifecycle import State
from orchestrator.domain.task import Consent, Priority
from orchestrator.outbound.ports import Call, Declined, Ending, Succeeded
from orchestrator.storage.commands import Relayed, TaskRecord
from orchestrator.storage.memory import MemoryLedger
from orchestrator.storage.ports import Message
from orchestrator.storage.streams.memory import Broker, MemoryStreams
from orchestrator.testing import ScriptedAgents, a_request, an_agent, check_history, embedded

pytestmark = pytest.mark.anyio

LOW, NORMAL, HIGH, URGENT = Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.URGENT


@pytest.fixture
def anyio_backend():
    return ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def ledger():
    return MemoryLedger(outbox=True, exclusive=False)


def replica(agents: ScriptedAgents, ledger: MemoryLedger, broker: Broker, seed: int = 0, **environ: Any):
    """One of several that share ledger and streams."""
    return embedded(agents, ledger, streams=MemoryStreams(broker), seed=seed, **environ)


async def ended(system, *routed) -> list[TaskRecord]:
    return [await system.gateway.task(one.record.task.task_id, 1_000) for one in routed]


async def ended_now(system, *routed) -> list[TaskRecord]:
    """Those tasks as they are."""
    return [await system.gateway.task(one.record.task.task_id) for one in routed]


async def beat(system) -> None:
    """The heartbeats of `agent-1`."""
    while True:
        await system.gateway.heartbeat("agent-1")
        await anyio.sleep(5)


async def until(holds: Callable[[], bool]) -> None:
    """Within some minutes of virtual time."""
    for _ in range(3_000):
        if holds():
            return
        await anyio.sleep(0.1)
    raise AssertionError("it did not come to hold")


async def drained(broker: Broker) -> None:
    """Until every stream is empty."""
    await until(lambda: not any(broker.messages[priority] for priority in Priority))


async def told(broker: Broker, stream: Priority | None, count: int) -> list[dict[str, str]]:
    """What the stream holds, once it holds so much."""
    await until(lambda: len(broker.messages[stream]) >= count)
    return [message.fields for message in broker.messages[stream].values()]


def slow(seconds: float):
    async def call(_: Call) -> Ending:
        await anyio.sleep(seconds)
        return Succeeded({})

    return call


async def test_task_goes_through_a_stream(ledger, broker):
    """It is done, and nothing of it is left behind in streams or outbox."""
    agents = ScriptedAgents()
    async with replica(agents, ledger, broker) as system:
        await system.gateway.register(an_agent())
        await anyio.sleep(1)
        routed = [await system.route(a_request(priority=priority)) for priority in Priority for _ in range(5)]
        began = anyio.current_time()
        records = await ended(system, *routed)
        assert {record.progress.state for record in records} == {State.SUCCEEDED}
        assert anyio.current_time() - began < 1.0
        await anyio.sleep(100)
        began = anyio.current_time()
        await ended(system, await system.route(a_request()))
        assert anyio.current_time() - began < 0.1
        await drained(broker)
        assert [await ledger.outbox(stream, 9) for stream in (*Priority, None)] == [[]] * 5
    assert len(agents.calls) == 21
    await check_history(ledger)


async def test_another_replica_does_the_work(ledger, broker):
    """What one has accepted and cannot do, the other takes from the stream."""
    idle, busy = ScriptedAgents(), ScriptedAgents()
    alone: dict[str, Any] = {"ORCHESTRATOR_REGISTRY_BACKEND": "memory"}
    first, second = replica(idle, ledger, broker, **alone), replica(busy, ledger, broker, 1, **alone)
    async with first as accepting, second as working:
        await working.gateway.register(an_agent())
        await anyio.sleep(10)
        await working.gateway.heartbeat("agent-1")
        routed = [await accepting.route(a_request()) for _ in range(10)]
        assert {record.progress.state for record in await ended(working, *routed)} == {State.SUCCEEDED}
    assert (len(idle.calls), len(busy.calls)) == (0, 10)
    await check_history(ledger)


async def test_replicas_share_what_there_is(ledger, broker):
    """Under load both work, no task is done twice, and none is left."""
    agents = [ScriptedAgents(agent_1=[slow(0.5)]) for _ in range(2)]
    async with replica(agents[0], ledger, broker) as one, replica(agents[1], ledger, broker, 1) as two:
        for system in (one, two):
            await system.gateway.register(an_agent(max_concurrency=8))
        await anyio.sleep(1)
        routed = [await one.route(a_request()) for _ in range(100)]
        assert {record.progress.state for record in await ended(one, *routed)} == {State.SUCCEEDED}
        assert {record.progress.attempt for record in await ended(one, *routed)} == {1}
    counts = [len(each.calls) for each in agents]
    assert sum(counts) == 100
    assert min(counts) > 20
    await check_history(ledger)


async def test_everything_in_the_streams_is_lost(ledger, broker):
    """All that is ready is told again, and done, as soon as somebody can do it."""
    agents = ScriptedAgents()
    async with replica(agents, ledger, broker) as system:
        routed = [await system.route(a_request()) for _ in range(30)]
        await told(broker, NORMAL, 30)
        broker.flush()
        assert len(await told(broker, NORMAL, 30)) == 30
        assert broker.vouched
        await system.gateway.register(an_agent())
        assert {record.progress.state for record in await ended(system, *routed)} == {State.SUCCEEDED}
    assert len(agents.calls) == 30


async def test_streams_away_for_an_hour(ledger, broker):
    """Work is accepted and done all the same; what waits is relayed when they are back, and nothing else."""
    agents = ScriptedAgents()
    async with replica(agents, ledger, broker) as system:
        await system.gateway.register(an_agent())
        await anyio.sleep(1)
        broker.up = False
        await anyio.sleep(5)
        routed = [await system.route(a_request()) for _ in range(20)]
        began = anyio.current_time()
        assert {record.progress.state for record in await ended(system, *routed)} == {State.SUCCEEDED}
        assert anyio.current_time() - began < 1.0
        waiting = [await system.route(a_request("indexing")) for _ in range(7)]
        await anyio.sleep(3_600)
        broker.flush()
        broker.up = True
        fields = await told(broker, NORMAL, 7)
        assert {each["task_id"] for each in fields} == {one.record.task.task_id for one in waiting}
        await anyio.sleep(10)
        assert len(broker.messages[NORMAL]) == 7


async def test_streams_away_from_the_start(ledger, broker):
    """The start does not wait for them."""
    broker.up = False
    agents = ScriptedAgents()
    async with replica(agents, ledger, broker) as system:
        await system.gateway.register(an_agent())
        (record,) = await ended(system, await system.route(a_request()))
        assert record.progress.state is State.SUCCEEDED


async def test_bound_of_a_stream(ledger, broker):
    """Beyond it work waits in the ledger, and follows as room is made; nothing is trimmed."""
    agents = ScriptedAgents()
    async with replica(agents, ledger, broker, ORCHESTRATOR_STREAM_MAXLEN="10") as system:
        routed = [await system.route(a_request()) for _ in range(50)]
        urgent = await system.route(a_request(priority=URGENT))
        await told(broker, NORMAL, 10)
        await anyio.sleep(30)
        assert (len(broker.messages[NORMAL]), len(broker.messages[URGENT])) == (10, 1)
        assert len(await ledger.outbox(NORMAL, 99)) == 40
        await system.gateway.register(an_agent())
        assert {record.progress.state for record in await ended(system, *routed, urgent)} == {State.SUCCEEDED}
    assert len(agents.calls) == 51


async def test_work_that_nobody_can_do(ledger, broker):
    """However much of it stands before other work of its class, that is done at once; and it is, when somebody can."""
    agents = ScriptedAgents()
    async with replica(agents, ledger, broker) as system:
        await system.gateway.register(an_agent())
        stuck = [await system.route(a_request("indexing")) for _ in range(200)]
        await anyio.sleep(30)
        await system.gateway.heartbeat("agent-1")
        began = anyio.current_time()
        others = [await system.route(a_request()) for _ in range(10)]
        await ended(system, *others)
        assert anyio.current_time() - began <= 1.5
        began = anyio.current_time()
        await system.gateway.register(an_agent("agent-2", "indexing", max_concurrency=100))
        await agents.until_called(11)
        assert anyio.current_time() - began < 0.1
        assert {record.progress.state for record in await ended(system, *stuck)} == {State.SUCCEEDED}
    assert len(agents.calls) == 210


async def test_urgent_before_lower(ledger, broker):
    """In the streams as in the ledger: by weight, urgent first."""
    agents = ScriptedAgents(agent_1=[slow(1.0)])
    async with replica(agents, ledger, broker) as system:
        routed = [await system.route(a_request(priority=LOW)) for _ in range(100)]
        routed += [await system.route(a_request(priority=URGENT)) for _ in range(20)]
        await told(broker, LOW, 100)
        await system.gateway.register(an_agent(max_concurrency=1))
        await ended(system, *routed)
    low = {one.record.task.task_id for one in routed[:100]}
    first = [call.task_id in low for call in agents.calls[:20]]
    assert sum(first) <= 4


async def test_dead_letter(ledger, broker):
    """Its stream names the task and the reason, and nothing of what is in it."""
    agents = ScriptedAgents(agent_1=[Declined(retryable=False)])
    async with replica(agents, ledger, broker) as system:
        await system.gateway.register(an_agent())
        (dead,) = await ended(system, await system.route(a_request()))
        assert dead.progress.state is State.DEAD
        (fields,) = await told(broker, None, 1)
    assert fields == {"task_id": dead.task.task_id, "task_type": "embed", "reason": "agent_error_permanent"}


async def test_streams_hold_no_payload(ledger, broker):
    """Unless it is asked for: then the whole task, as workers read it."""
    async with replica(ScriptedAgents(), ledger, broker) as system:
        routed = await system.route(a_request())
        (fields,) = await told(broker, NORMAL, 1)
    assert fields == {"task_id": routed.record.task.task_id, "task_type": "embed", "priority": "normal"}
    broker.flush()
    async with replica(ScriptedAgents(), ledger, broker, ORCHESTRATOR_QUEUE_PAYLOAD_IN_STREAM="true"):
        (fields,) = await told(broker, NORMAL, 1)
    data: dict[str, Any] = json.loads(fields["data"])
    task = routed.record.task
    assert list(data) == ["task_id", "case_id", "task_type", "priority", "consent", "payload", "created_at", "meta"]
    assert (data["task_id"], data["payload"], data["consent"]) == (task.task_id, {"note": "private"}, {})


async def test_payload_whose_consent_has_expired(ledger, broker):
    """It stays out of the streams, though they carry payloads."""
    expires = datetime.fromtimestamp(1_700_000_000 + 100, UTC)
    request = a_request(payload={"image_ref": "x"}, consent=Consent(True, "c-1", expires))
    async with replica(ScriptedAgents(), ledger, broker, ORCHESTRATOR_QUEUE_PAYLOAD_IN_STREAM="true") as system:
        await system.route(request)
        (fields,) = await told(broker, NORMAL, 1)
        assert "data" in fields
        await anyio.sleep(200)
        broker.flush()
        (fields,) = await told(broker, NORMAL, 1)
        assert "data" not in fields


async def test_task_that_is_erased(ledger, broker):
    """What the streams hold of it is taken out, and nothing else; also where they were away when it was erased."""

    def held() -> list[str]:
        return [message.fields["task_id"] for message in broker.messages[NORMAL].values()]

    async with replica(ScriptedAgents(), ledger, broker, ORCHESTRATOR_QUEUE_PAYLOAD_IN_STREAM="true") as system:
        ids = [(await system.route(a_request())).record.task.task_id for _ in range(3)]
        await until(lambda: held() == ids)
        await system.gateway.erase(task_id=ids[0])
        await until(lambda: held() == ids[1:])
        broker.up = False
        await system.gateway.erase(task_id=ids[1])
        await anyio.sleep(30)
        assert ids[1] in held()
        broker.up = True
        await until(lambda: ids[1] not in held())


WITH_PAYLOAD: dict[str, Any] = {"ORCHESTRATOR_QUEUE_PAYLOAD_IN_STREAM": "true"}


def names_in(broker: Broker) -> list[str]:
    return [message.fields["task_id"] for message in broker.messages[NORMAL].values()]


async def behind_others(system, broker: Broker, *requests) -> tuple[list[str], list[str]]:
    """More tasks than a replica has in hand, and behind them those of the requests, once the stream holds them all."""
    others = [(await system.route(a_request(case_id="other"))).record.task.task_id for _ in range(250)]
    ids = [(await system.route(request)).record.task.task_id for request in requests]
    await until(lambda: len(names_in(broker)) == len(others) + len(ids))
    return others, ids


async def test_large_case_that_is_erased(ledger, broker):
    """Nothing of it is left in the streams, however many tasks it has."""
    async with replica(ScriptedAgents(), ledger, broker, **WITH_PAYLOAD) as system:
        others, _ = await behind_others(system, broker, *[a_request(case_id="large")] * 150)
        await system.gateway.erase(case_id="large")
        await until(lambda: names_in(broker) == others)


async def test_consent_that_is_revoked(ledger, broker):
    """Who reads the streams does not get to see what was given under it."""
    request = a_request(payload={"image_ref": "x"}, consent=Consent(True, "c-1"))
    async with replica(ScriptedAgents(), ledger, broker, **WITH_PAYLOAD) as system:
        others, _ = await behind_others(system, broker, request)
        await system.gateway.revoke("c-1")
        await until(lambda: names_in(broker) == others)


async def test_erased_while_the_streams_are_away(ledger, broker):
    """What they hold of it is taken out when they are back, though the replica that erased it is gone by then."""
    async with replica(ScriptedAgents(), ledger, broker, **WITH_PAYLOAD) as system:
        others, ids = await behind_others(system, broker, a_request())
        broker.up = False
        await system.gateway.erase(task_id=ids[0])
    async with replica(ScriptedAgents(), ledger, broker, 1, **WITH_PAYLOAD):
        broker.up = True
        await until(lambda: names_in(broker) == others)


async def test_erased_and_brought_back_by_an_older_copy(ledger, broker):
    """A server that takes over, or starts from a copy, does not hold again what was taken out."""
    async with replica(ScriptedAgents(), ledger, broker, **WITH_PAYLOAD) as system:
        others, ids = await behind_others(system, broker, a_request())
        older = dict(broker.messages[NORMAL])
        await system.gateway.erase(task_id=ids[0])
        await until(lambda: names_in(broker) == others)
        broker.flush()
        broker.messages[NORMAL] = older
        await until(lambda: broker.vouched and names_in(broker) == others)


class LateStreams(MemoryStreams):
    """Something else happens before what is to be added is there."""

    def __init__(self, broker: Broker, before: Callable[[], Awaitable[None]]) -> None:
        super().__init__(broker)
        self._before, self.added = before, False

    async def add(self, messages: Sequence[Message]) -> None:
        await self._before()
        await super().add(messages)
        self.added = True


async def test_erased_while_another_replica_tells_of_it(ledger, broker):
    """A relay that has read a task before it was erased, and adds it after all was taken out, takes it out again."""
    async with replica(ScriptedAgents(), ledger, broker, **WITH_PAYLOAD) as erasing:
        others, _ = await behind_others(erasing, broker)

        async def erase() -> None:
            for record in await ledger.tasks(State.QUEUED, after=len(others)):
                await erasing.gateway.erase(task_id=record.task.task_id)
            while await ledger.withdrawn(9):  # noqa: ASYNC110 - the relay empties it
                await anyio.sleep(0.1)

        streams = LateStreams(broker, erase)
        async with embedded(ScriptedAgents(), ledger, streams=streams, seed=1, **WITH_PAYLOAD) as telling:
            await telling.route(a_request())
            await until(lambda: streams.added and names_in(broker) == others)


async def test_replica_that_stops(ledger, broker):
    """What it had in hand another claims at once, and it has lost none of it."""
    one_s, other = ScriptedAgents(agent_1=[slow(5.0)]), ScriptedAgents()
    async with replica(other, ledger, broker, 1) as staying:
        async with replica(one_s, ledger, broker) as stopping:
            await stopping.gateway.register(an_agent(max_concurrency=2))
            routed = [await stopping.route(a_request()) for _ in range(20)]
            await one_s.until_called(1)
        await staying.gateway.register(an_agent("agent-2"))
        began = anyio.current_time()
        assert {record.progress.state for record in await ended(staying, *routed)} == {State.SUCCEEDED}
        assert anyio.current_time() - began < 10.0
        await drained(broker)
    await check_history(ledger)


async def test_replica_that_vanishes(ledger, broker):
    """What it took and did not finish is claimed when it is old enough, or found in the ledger before."""
    broker.up = False
    async with replica(ScriptedAgents(), ledger, broker) as accepting:
        routed = [await accepting.route(a_request()) for _ in range(5)]
    broker.up = True
    gone, outgoing = MemoryStreams(broker), await ledger.outbox(NORMAL, 9)
    await gone.add([Message(NORMAL, {"task_id": entry.task_id}) for entry in outgoing])
    await gone.vouch()
    await ledger.commit([Relayed(tuple(entry.position for entry in outgoing))])
    assert len(await gone.read({NORMAL: 99}, 0)) == 5
    agents = ScriptedAgents()
    async with replica(agents, ledger, broker, 1) as system:
        await system.gateway.register(an_agent())
        assert {record.progress.state for record in await ended(system, *routed)} == {State.SUCCEEDED}
        await drained(broker)
    assert len(agents.calls) == 5


async def test_entries_that_lead_nowhere(ledger, broker):
    """Of tasks that nobody knows, or that are done: they are removed, and nothing happens."""
    agents = ScriptedAgents()
    async with replica(agents, ledger, broker) as system:
        await system.gateway.register(an_agent())
        (done,) = await ended(system, await system.route(a_request()))
        for task_id in ("", "task-unknown", done.task.task_id):
            broker.add(Message(HIGH, {"task_id": task_id}))
        await drained(broker)
        await checkpoint()
    assert len(agents.calls) == 1


async def test_metrics_of_the_streams(ledger, broker):
    """The queue's size is what the streams hold; what the ledger holds beyond it is told apart."""
    async with replica(ScriptedAgents(), ledger, broker, ORCHESTRATOR_STREAM_MAXLEN="3") as system:
        for _ in range(5):
            await system.route(a_request())
        await told(broker, NORMAL, 3)
        await anyio.sleep(3)
        text = system.telemetry.render().decode()
    assert 'orchestrator_queue_size{queue="tasks:normal"} 3.0' in text
    assert 'orchestrator_queue_size{queue="tasks:dlq"} 0.0' in text
    assert 'orchestrator_tasks_ready{queue="tasks:normal"} 5.0' in text
    assert "orchestrator_streams_reachable 1.0" in text


async def test_hints_that_are_lost_unnoticed(ledger, broker):
    """However many: who has nothing to do looks for them in the ledger, and goes on as long as it finds some."""
    agents = ScriptedAgents()
    async with replica(agents, ledger, broker) as system:
        routed = [await system.route(a_request()) for _ in range(500)]
        await until(lambda: not ledger.depths()[NORMAL].ready - 500 and broker.vouched)
        await anyio.sleep(60)
        for lost in broker.messages.values():
            lost.clear()
        began = anyio.current_time()
        await system.gateway.register(an_agent(max_concurrency=50))
        assert {record.progress.state for record in await ended(system, *routed)} == {State.SUCCEEDED}
        assert anyio.current_time() - began < 10.0
    await check_history(ledger)


async def test_work_that_somebody_leased_past_the_queue(ledger, broker):
    """A replica that has its entry in hand finds out, and lets it go: the streams are empty in the end."""
    nobody = ScriptedAgents()
    async with replica(nobody, ledger, broker) as first, replica(nobody, ledger, broker, 1) as second:
        puller = Agent(agent_id="puller-1", capabilities=("embed",), max_concurrency=100)
        await second.gateway.register(puller)
        routed = [await first.route(a_request()) for _ in range(60)]
        await anyio.sleep(2.0)
        for one in routed:
            task_id = one.record.task.task_id
            (granted,) = await second.gateway.lease("puller-1", task_id=task_id)
            await second.gateway.give_result(task_id, granted.hold, Succeeded({}))
        await drained(broker)
        for system in (first, second):
            inner: Any = system._system
            assert inner.queue.held() == []
    await check_history(ledger)


async def test_streams_that_may_be_evicted(ledger, broker):
    """It is said loudly, once, at the start."""
    broker.policy = "allkeys-lru"
    with structlog.testing.capture_logs() as logs:
        async with replica(ScriptedAgents(), ledger, broker):
            await anyio.sleep(10)
    said = [(log["log_level"], log["policy"]) for log in logs if log["event"] == "streams_may_be_evicted"]
    assert said == [("error", "allkeys-lru")]


class Leaky(MemoryStreams):
    """Loses what it is given while it `leaks`."""

    leaks = False

    async def add(self, messages: Sequence[Message]) -> None:
        await super().add([] if self.leaks else messages)


async def test_hints_lost_while_there_is_always_something_to_do(ledger, broker):
    """What comes later in the same lane never hides them for long: who is busy looks for them too."""
    agents, streams = ScriptedAgents(agent_1=[slow(1.0)]), Leaky(broker)
    async with embedded(agents, ledger, streams=streams) as system:
        await system.gateway.register(an_agent(max_concurrency=1))
        earlier = [await system.route(a_request()) for _ in range(30)]
        await told(broker, NORMAL, 20)
        streams.leaks = True
        lost = [await system.route(a_request()) for _ in range(5)]
        await anyio.sleep(2)
        streams.leaks = False
        later = [await system.route(a_request()) for _ in range(300)]
        async with anyio.create_task_group() as group:
            group.start_soon(beat, system)
            assert {record.progress.state for record in await ended(system, *earlier, *lost)} == {State.SUCCEEDED}
            assert {record.progress.state for record in await ended_now(system, *later[150:])} == {State.QUEUED}
            group.cancel_scope.cancel()
    await check_history(ledger)
