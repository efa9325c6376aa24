"""Agents that ask for work: what they get, how long they hold it, and whose results count. Time is virtual."""

from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.actors.messages import Granted
from orchestrator.actors.pull_leases import Hold
from orchestrator.domain.agent import Agent
from orchestrator.domain.errors import NotFound, NotPulling, ShuttingDown, StaleLease
from orchestrator.domain.lifecycle import State
from orchestrator.domain.task import Consent, Priority
from orchestrator.outbound.ports import Call, Declined, Ending, Succeeded
from orchestrator.storage.memory import MemoryLedger
from orchestrator.testing import ScriptedAgents, a_request, an_agent, check_history, embedded, trail

pytestmark = pytest.mark.anyio

DONE = Succeeded({"done": True}, "m-1")
QUICK: Any = {"ORCHESTRATOR_RETRY_BASE": "0.01", "ORCHESTRATOR_RETRY_CAP_S": "0.01"}


def a_puller(agent_id: str = "puller-1", *capabilities: str, **fields: Any) -> Agent:
    """An agent that asks for work instead of being called, with the capability `embed` if none is named."""
    return Agent(agent_id=agent_id, capabilities=capabilities or ("embed",), **fields)


@pytest.fixture
def anyio_backend(virtual_clock):
    return virtual_clock


@pytest.fixture
def ledger():
    return MemoryLedger()


@pytest.fixture
async def system(anyio_backend, ledger):
    """An orchestrator that knows one pull agent, `puller-1`; its history is checked at the end."""
    async with embedded(ScriptedAgents(), ledger, **QUICK) as system:
        await system.gateway.register(a_puller())
        yield system
    await check_history(ledger)


async def leased(system, agent_id: str = "puller-1", **options: Any) -> Granted:
    """The one task that the agent gets."""
    (granted,) = await system.gateway.lease(agent_id, **options)
    return granted


async def hand_in(system, granted: Granted, ending: Any = DONE):
    return await system.gateway.give_result(granted.call.task_id, granted.hold, ending)


async def state_of(system, task: Any) -> State:
    return (await system.gateway.task(task.record.task.task_id)).progress.state


def in_flight(system, agent_id: str = "puller-1") -> int:
    return system.gateway.agents()[agent_id].in_flight


class TestWork:
    """What who asks is given."""

    async def test_how_long_it_takes(self, system):
        """It counts from the lease to the result; an attempt that failed says nothing of it."""
        for ending, seconds in ((DONE, 3.0), (Declined(retryable=False), 1.0)):
            await system.route(a_request())
            granted = await leased(system)
            await anyio.sleep(seconds)
            await hand_in(system, granted, ending)
        assert dict(system.telemetry.history.latencies) == {"puller-1": pytest.approx(3.0, abs=0.1)}

    async def test_work_that_waits(self, system):
        """It is leased to who asks, with all that is needed; the result ends it; each step is in the audit."""
        routed = await system.route(a_request(meta={"site": "edge-1"}))
        assert await state_of(system, routed) is State.QUEUED
        began = system.environment.now()
        granted = await leased(system)
        call, task = granted.call, routed.record.task
        assert (call.task_id, call.case_id, call.task_type, call.attempt) == (task.task_id, "case-1", "embed", 1)
        assert (call.payload, call.meta) == ({"note": "private"}, {"site": "edge-1"})
        assert call.traceparent.startswith(f"00-{task.task_id[5:]}-")
        assert granted.until - began == pytest.approx(10.0, abs=0.1)
        assert len(granted.hold.nonce) == 32
        assert in_flight(system) == 1
        record = await hand_in(system, granted)
        assert (record.progress.state, record.result.output, record.result.agent_id) == (
            State.SUCCEEDED, {"done": True}, "puller-1",
        )  # fmt: skip
        await anyio.wait_all_tasks_blocked()
        assert in_flight(system) == 0
        entries = [entry for entry in await trail(system._ledger) if entry.task_id]
        assert [entry.event for entry in entries] == ["accepted", "leased", "succeeded"]
        assert [entry.model_version for entry in entries] == [None, None, "m-1"]
        assert not [entry for entry in entries if granted.hold.nonce in repr(entry)]

    async def test_nothing_to_do(self, system):
        """An empty list, at the end of the wait and not before."""
        began = anyio.current_time()
        assert await system.gateway.lease("puller-1", wait_s=30.0) == []
        assert anyio.current_time() - began == pytest.approx(30.0, abs=0.1)
        assert await system.gateway.lease("puller-1") == []

    async def test_who_waits(self, system):
        """Gets new work at once; a retry that comes due, too."""
        async with anyio.create_task_group() as group:
            got: list[Granted] = []
            given = anyio.Event()

            async def ask() -> None:
                got.append(await leased(system, wait_s=50.0))
                given.set()

            group.start_soon(ask)
            await anyio.sleep(20.0)
            await system.route(a_request())
            with anyio.fail_after(0.05):
                await given.wait()
        await hand_in(system, got[0], Declined(retryable=True))
        with anyio.fail_after(1.5):
            assert (await leased(system, wait_s=50.0)).call.attempt == 2

    async def test_several_at_a_time(self, system):
        """At most as many as were asked for and as the agent has slots, one of them for urgent work alone."""
        for _ in range(12):
            await system.route(a_request())
        got: list[Granted] = []
        while tasks := await system.gateway.lease("puller-1", most=3):
            assert len(tasks) <= 3
            got += tasks
        assert len(got) == in_flight(system) == 7
        await system.route(a_request(priority=Priority.URGENT))
        got.append(await leased(system))
        assert in_flight(system) == 8
        assert len({one.call.task_id for one in got}) == len({one.hold.nonce for one in got}) == 8
        await system.route(a_request(priority=Priority.URGENT))
        assert await system.gateway.lease("puller-1", most=3) == []
        await hand_in(system, got[0])
        assert len(await system.gateway.lease("puller-1", most=3)) == 1

    async def test_what_is_more_urgent(self, system):
        """Goes first, in the shares of the queue; of one class the oldest."""
        low = [await system.route(a_request(priority=Priority.LOW)) for _ in range(3)]
        urgent = await system.route(a_request(priority=Priority.URGENT))
        order: list[str] = []
        for _ in range(4):
            granted = await leased(system)
            await hand_in(system, granted)
            order.append(granted.call.task_id)
        assert order == [one.record.task.task_id for one in (urgent, *low)]

    async def test_that_very_task(self, system):
        """Who names it gets it, though others are before it; nobody gets it twice, nor one that is not there."""
        routed = [await system.route(a_request()) for _ in range(3)]
        wanted = routed[2].record.task.task_id
        assert (await leased(system, task_id=wanted)).call.task_id == wanted
        assert await system.gateway.lease("puller-1", task_id=wanted) == []
        assert await system.gateway.lease("puller-1", task_id="task-none") == []
        rest = {(await leased(system)).call.task_id for _ in range(2)}
        assert rest == {one.record.task.task_id for one in routed[:2]}

    async def test_work_that_never_went_through_the_queue(self, system):
        """It does not wait there any more, to be counted and passed over: leased by its name, or cancelled."""
        routed = [await system.route(a_request()) for _ in range(3)]
        ids = [one.record.task.task_id for one in routed]
        await system.gateway.lease("puller-1", task_id=ids[1])
        await system.gateway.cancel(ids[0])
        await anyio.wait_all_tasks_blocked()
        assert str(system._system.queue) == "<EmbeddedQueue 1 tickets in 1 lines>"
        await system.gateway.lease("puller-1", task_id=ids[2])
        await anyio.wait_all_tasks_blocked()
        assert system._system.queue.oldest() == {}

    async def test_two_of_them(self, system):
        """Each task is given to one; who is better by the policy, where both ask."""
        await system.gateway.register(a_puller("puller-2", location="edge-1"))
        got: dict[str, list[Granted]] = {}

        async def ask(agent_id: str) -> None:
            got[agent_id] = await system.gateway.lease(agent_id, wait_s=5.0)

        async with anyio.create_task_group() as group:
            group.start_soon(ask, "puller-1")
            group.start_soon(ask, "puller-2")
            await anyio.sleep(1.0)
            await system.route(a_request())
        assert {agent_id: len(tasks) for agent_id, tasks in got.items()} == {"puller-1": 0, "puller-2": 1}


class TestPolicy:
    """Who may be given what."""

    async def test_what_is_decided_when_it_is_accepted(self, system):
        """An agent that is not asking is a candidate, and not the choice: nobody is called."""
        decision = await system.gateway.explain(a_request())
        assert (decision.agent_id, decision.ranking) == (None, ())
        (candidate,) = decision.candidates
        assert (candidate.agent_id, candidate.excluded, candidate.pulls) == ("puller-1", None, True)
        entry = next(e for e in await trail(system._ledger) if e.event == "agent_registered")
        assert entry.agent_id == "puller-1"

    @pytest.mark.parametrize(
        ("agent", "request_"),
        [
            (a_puller("p", "indexing"), a_request()),
            (a_puller("p", "embed", "raw_image"), a_request()),
            (a_puller("p", location="edge-1", site="here"), a_request(meta={"site": "elsewhere"})),
        ],
    )
    async def test_work_that_is_not_for_it(self, system, agent, request_):
        """Not its capability, no consent for an agent for raw media, another site: it gets nothing, by name neither."""
        await system.gateway.register(agent)
        routed = await system.route(request_)
        assert await system.gateway.lease("p", wait_s=2.0) == []
        assert await system.gateway.lease("p", task_id=routed.record.task.task_id) == []
        assert await state_of(system, routed) is State.QUEUED

    async def test_consent_that_expires_while_the_task_waits(self, system):
        """Raw media then leaves for nobody: the task is denied."""
        expires = datetime.fromtimestamp(system.environment.now() + 60.0, UTC)
        consent = Consent(consent_given=True, expires_at=expires)
        await system.gateway.register(a_puller("p", "embed", "raw_image"))
        routed = await system.route(a_request(payload={"image": "private"}, consent=consent))
        await anyio.sleep(61.0)
        assert await system.gateway.lease("p", task_id=routed.record.task.task_id) == []
        assert await state_of(system, routed) is State.DENIED

    async def test_consent_that_expires_while_the_lease_is_written(self, ledger):
        """The agent is not told of the task; it goes back, and is denied."""

        class Slow(MemoryLedger):
            async def commit(self, commands):
                await anyio.sleep(2.0)
                return await super().commit(commands)

        ledger = Slow()
        async with embedded(ScriptedAgents(), ledger) as system:
            await system.gateway.register(a_puller("p", "embed", "raw_image"))
            expires = datetime.fromtimestamp(system.environment.now() + 3.0, UTC)
            consent = Consent(consent_given=True, expires_at=expires)
            routed = await system.route(a_request(payload={"image": "private"}, consent=consent))
            assert await system.gateway.lease("p", wait_s=10.0) == []
            task = await system.gateway.task(routed.record.task.task_id, 60.0)
            assert (task.progress.state, task.progress.attempt) == (State.DENIED, 1)
        await check_history(ledger)

    async def test_one_that_is_called(self, system):
        """It cannot ask; and who asks is never called."""
        await system.gateway.register(an_agent("caller"))
        with pytest.raises(NotPulling):
            await system.gateway.lease("caller")
        with pytest.raises(NotFound):
            await system.gateway.lease("nobody")

    async def test_a_free_agent_at_the_edge_that_is_called(self, ledger):
        """It comes before one elsewhere that asks, who gets what the first has no slot for."""
        hold = anyio.Event()

        async def held(_call: Call) -> Ending:
            await hold.wait()
            return DONE

        agents = ScriptedAgents(edge=[held])
        async with embedded(agents, ledger) as system:
            await system.gateway.register(an_agent("edge", location="edge-1", max_concurrency=1))
            await system.gateway.register(a_puller())
            got: list[Granted] = []

            async def ask() -> None:
                got.append(await leased(system, wait_s=50.0))

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await anyio.sleep(1.0)
                first = await system.route(a_request())
                await agents.until_called()
                await anyio.sleep(5.0)
                assert not got
                second = await system.route(a_request())
            assert got[0].call.task_id == second.record.task.task_id
            hold.set()
            assert (await system.gateway.task(first.record.task.task_id, 5.0)).progress.agent_id == "edge"

    async def test_an_agent_that_failed_the_task_before(self, ledger):
        """Another one is asked first, if it is called, too."""
        async with embedded(ScriptedAgents(), ledger, **QUICK) as system:
            await system.gateway.register(a_puller())
            routed = await system.route(a_request())
            granted = await leased(system)
            await system.gateway.register(an_agent("caller"))
            async with anyio.create_task_group() as group:
                group.start_soon(system.gateway.lease, "puller-1")
                await anyio.sleep(0.1)
                await hand_in(system, granted, Declined(retryable=True))
                record = await system.gateway.task(routed.record.task.task_id, 30.0)
                assert (record.progress.state, record.progress.agent_id) == (State.SUCCEEDED, "caller")
        await check_history(ledger)

    async def test_a_draining_agent(self, system):
        """Its wait ends at once with nothing, and it gets nothing until it registers again."""
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                with anyio.fail_after(1.5):
                    assert await system.gateway.lease("puller-1", wait_s=50.0) == []

            group.start_soon(ask)
            await anyio.sleep(1.0)
            await system.gateway.drain("puller-1")
        await system.route(a_request())
        assert await system.gateway.lease("puller-1", wait_s=1.0) == []
        await system.gateway.register(a_puller())
        await leased(system)

    async def test_to_ask_is_a_sign_of_life(self, system):
        """An agent that asks again and again needs no heartbeat."""
        for _ in range(5):
            assert await system.gateway.lease("puller-1", wait_s=50.0) == []
        await system.route(a_request())
        await leased(system)


class TestResults:
    """Whose word counts."""

    async def test_a_result_given_twice(self, system, ledger):
        """Is the same answer twice, for as long as the task stands so; the second one changes nothing."""
        await system.route(a_request())
        granted = await leased(system)
        first = await hand_in(system, granted)
        assert await hand_in(system, granted) == first
        assert await hand_in(system, granted, Succeeded({"other": 1})) == first
        with pytest.raises(StaleLease):
            await hand_in(system, granted, Declined(retryable=True))

    async def test_a_result_given_twice_at_once(self, system):
        """One is stored, both are answered."""
        await system.route(a_request())
        granted = await leased(system)
        states: list[State] = []

        async def give() -> None:
            states.append((await hand_in(system, granted)).progress.state)

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(give)
        assert states == [State.SUCCEEDED] * 20

    async def test_failures(self, system):
        """Follow the rules of a call: tried again while that is of use and allowed, then dead; said twice is once."""
        routed = await system.route(a_request())
        for attempt in range(1, 5):
            granted = await leased(system, wait_s=5.0)
            assert granted.call.attempt == attempt
            record = await hand_in(system, granted, Declined(retryable=True))
            assert (await hand_in(system, granted, Declined(retryable=True))).progress.failures == attempt
            with pytest.raises(StaleLease):
                await hand_in(system, granted)
        assert (record.progress.state, record.progress.reason) == (State.DEAD, "agent_error")
        assert await state_of(system, routed) is State.DEAD
        await system.route(a_request())
        record = await hand_in(system, await leased(system), Declined(retryable=False))
        assert (record.progress.state, record.progress.reason) == (State.DEAD, "agent_error_permanent")

    @pytest.mark.parametrize(
        "wrong", [{"nonce": "0" * 32}, {"nonce": ""}, {"attempt": 2}, {"attempt": 0}, {"agent_id": "puller-2"}]
    )
    async def test_somebody_elses_task(self, system, wrong: dict[str, Any]):
        """Without its agent, attempt and lease, neither a result nor an extension is heard, while it runs or later."""
        await system.gateway.register(a_puller("puller-2"))
        await system.route(a_request())
        granted = await leased(system)
        task_id, hold = granted.call.task_id, replace(granted.hold, **wrong)
        for _ in range(2):
            with pytest.raises(StaleLease):
                await system.gateway.give_result(task_id, hold, DONE)
            with pytest.raises(StaleLease):
                await system.gateway.extend(task_id, hold, done=0.5)
            await hand_in(system, granted)
        with pytest.raises(NotFound):
            await system.gateway.give_result("task-none", hold, DONE)

    async def test_a_call_is_not_ended_by_a_result(self, ledger):
        """What is done by calling an agent ends by its answer alone."""
        hold = anyio.Event()

        async def held(_call: Call) -> Ending:
            await hold.wait()
            return DONE

        agents = ScriptedAgents(agent_1=[held])
        async with embedded(agents, ledger) as system:
            await system.gateway.register(an_agent())
            call = None
            await system.route(a_request())
            call = await agents.until_called()
            for nonce in ("", "0" * 32):
                with pytest.raises(StaleLease):
                    await system.gateway.give_result(call.task_id, Hold("agent-1", 1, nonce), DONE)
            hold.set()
            assert (await system.gateway.task(call.task_id, 5.0)).progress.state is State.SUCCEEDED

    async def test_a_task_cancelled_meanwhile(self, system):
        """Its slot is free at once, and its result is not wanted."""
        routed = await system.route(a_request())
        granted = await leased(system)
        await system.gateway.cancel(routed.record.task.task_id)
        await anyio.wait_all_tasks_blocked()
        assert in_flight(system) == 0
        for word in (DONE, Declined(retryable=True)):
            with pytest.raises(StaleLease):
                await hand_in(system, granted, word)


class TestTime:
    """How long a lease holds."""

    async def test_an_agent_that_is_never_heard_of_again(self, system):
        """Its lease lapses as a time-out does: another attempt follows; its late result is refused."""
        routed = await system.route(a_request())
        granted = await leased(system)
        await anyio.sleep(10.5)
        assert await state_of(system, routed) is State.LEASED
        second = await leased(system, wait_s=20.0)
        assert (second.call.task_id, second.call.attempt) == (granted.call.task_id, 2)
        record = await system.gateway.task(routed.record.task.task_id)
        assert (record.progress.failures, record.progress.lost) == (1, 0)
        with pytest.raises(StaleLease):
            await hand_in(system, granted)
        assert (await hand_in(system, second)).result.attempt == 2

    async def test_an_agent_that_needs_longer(self, system):
        """Word from it in time keeps its lease, for hours; the audit has an entry for each renewal, not each word."""
        await system.route(a_request())
        granted = await leased(system)
        words = 2_000
        for word in range(words):
            await anyio.sleep(2.0)
            extended = await system.gateway.extend(granted.call.task_id, granted.hold, done=word / words)
            assert extended.until - system.environment.now() > 10.0 / 3
        await hand_in(system, granted)
        events = [entry.event for entry in await trail(system._ledger)]
        assert events.count("extended") <= words / 2 + 1

    async def test_the_tasks_own_deadline(self, system):
        """No lease and no extension goes beyond it."""
        routed = await system.route(a_request(deadline_s=15.0))
        granted = await leased(system)
        await anyio.sleep(8.0)
        extended = await system.gateway.extend(granted.call.task_id, granted.hold)
        assert extended.until == pytest.approx(routed.record.task.deadline_at)
        await anyio.sleep(8.0)
        with pytest.raises(StaleLease):
            await system.gateway.extend(granted.call.task_id, granted.hold)
        record = await system.gateway.task(routed.record.task.task_id, 20.0)
        assert (record.progress.state, record.progress.reason) == (State.EXPIRED, "deadline")

    async def test_a_restart_while_an_agent_works(self, ledger):
        """The lease holds, counts against the agent's slots, and its result is taken; after another restart again."""
        async with embedded(ScriptedAgents(), ledger) as system:
            await system.gateway.register(a_puller(max_concurrency=1))
            await system.route(a_request())
            await system.route(a_request())
            granted = await leased(system)
        async with embedded(ScriptedAgents(), ledger, seed=1) as system:
            assert in_flight(system) == 1
            assert await system.gateway.lease("puller-1") == []
            assert (await hand_in(system, granted)).progress.state is State.SUCCEEDED
            assert (await leased(system)).call.task_id != granted.call.task_id
        async with embedded(ScriptedAgents(), ledger, seed=2) as system:
            assert (await hand_in(system, granted)).progress.state is State.SUCCEEDED
            await anyio.sleep(20.0)
            assert in_flight(system) == 0
            assert (await leased(system)).call.attempt == 2
        await check_history(ledger)

    async def test_the_end_of_service(self, ledger):
        """Who waits is sent away at once with nothing, and nobody new is let in; results are still taken."""
        async with embedded(ScriptedAgents(), ledger) as system:
            await system.gateway.register(a_puller())
            await system.route(a_request())
            granted = await leased(system)
            async with anyio.create_task_group() as group:

                async def ask() -> None:
                    with anyio.fail_after(1.5):
                        assert await system.gateway.lease("puller-1", wait_s=50.0) == []

                group.start_soon(ask)
                await anyio.sleep(1.0)
                system.drain()
            with pytest.raises(ShuttingDown):
                await system.gateway.lease("puller-1")
            await system.gateway.extend(granted.call.task_id, granted.hold, done=0.5)
            assert (await hand_in(system, granted)).progress.state is State.SUCCEEDED


class TestGone:
    """Who asked and did not stay for the answer."""

    @pytest.mark.parametrize("steps", range(24))
    async def test_at_any_moment(self, system, steps: int):
        """Has no task: it waits for somebody else, and no attempt and no slot is lost."""
        for _ in range(2):
            await system.route(a_request())
        got: list[Granted] = []

        async def ask() -> None:
            got.append(await leased(system))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        with anyio.fail_after(1.0):
            while len(got) < 2:
                got.append(await leased(system, wait_s=1.0))
        assert len({one.call.task_id for one in got}) == 2
        await anyio.wait_all_tasks_blocked()
        assert in_flight(system) == 2
        for one in got:
            assert (await hand_in(system, one)).progress.failures == 0

    async def test_before_there_was_work(self, system):
        """Work that comes later is for others."""
        with anyio.move_on_after(5.0):
            await system.gateway.lease("puller-1", wait_s=50.0)
        await system.route(a_request())
        await anyio.sleep(1.0)
        assert (await leased(system)).call.attempt == 1


class TestHeadway:
    """How far an attempt is."""

    async def test_a_task_in_work(self, system):
        """Shows the last word of its agent, and wakes who waits; the end of the attempt ends it."""
        routed = await system.route(a_request())
        granted, task_id = await leased(system), routed.record.task.task_id
        with system.gateway.watch(task_id) as watcher:
            await system.gateway.extend(task_id, granted.hold, done=0.4, note="reading")
            with anyio.fail_after(0.1):
                await watcher.changed()
        record = await system.gateway.task(task_id)
        headway = system.gateway.headway(record)
        assert (headway.attempt, headway.done, headway.note) == (1, 0.4, "reading")
        record = await hand_in(system, granted, Declined(retryable=True))
        assert system.gateway.headway(record) is None
        await leased(system, wait_s=5.0)
        assert system.gateway.headway(await system.gateway.task(task_id)) is None
        assert not [entry for entry in await trail(system._ledger) if "reading" in repr(entry)]

    async def test_a_task_that_is_being_called(self, ledger):
        """An agent that is called may say it as well, of its own attempt; its time does not change."""
        hold = anyio.Event()

        async def held(_call: Call) -> Ending:
            await hold.wait()
            return DONE

        agents = ScriptedAgents(agent_1=[held])
        async with embedded(agents, ledger) as system:
            await system.gateway.register(an_agent())
            await system.route(a_request())
            call = await agents.until_called()
            await system.gateway.extend(call.task_id, Hold("agent-1", 1, ""), done=0.5)
            record = await system.gateway.task(call.task_id)
            headway = system.gateway.headway(record)
            assert headway is not None
            assert headway.done == 0.5
            for wrong in (Hold("agent-2", 1, ""), Hold("agent-1", 2, "")):
                with pytest.raises(StaleLease):
                    await system.gateway.extend(call.task_id, wrong, done=0.9)
            hold.set()
        assert [entry.event for entry in await trail(ledger) if entry.event == "extended"] == []
