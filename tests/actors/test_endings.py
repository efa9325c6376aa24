"""What ends a task or its lease from outside: cancellation, consent, a lost process, the end of service."""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.domain.audit import AuditDraft
from orchestrator.domain.errors import AlreadyFinished, ConsentRequired, ShuttingDown
from orchestrator.domain.lifecycle import State
from orchestrator.domain.task import Consent
from orchestrator.embedding import Orchestrator
from orchestrator.outbound.ports import Call, Declined, Ending, Succeeded
from orchestrator.settings import load
from orchestrator.storage.commands import Accept, Command, Moved, Outcome
from orchestrator.storage.memory import MemoryLedger
from orchestrator.storage.ports import NotCommitted
from orchestrator.testing import (
    ScriptedAgents,
    a_request,
    an_agent,
    check_history,
    embedded,
    trail,
    virtual_environment,
)

pytestmark = pytest.mark.anyio

DONE = Succeeded({"done": True})
IMAGE = {"image_ref": "private.png"}


class Held:
    """Ends as it should once it is released."""

    def __init__(self, ending: Ending = DONE) -> None:
        self.release = anyio.Event()
        self._ending = ending

    async def __call__(self, _call: Call) -> Ending:
        await self.release.wait()
        return self._ending


def instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


async def status(system, routed):
    return (await system.gateway.task(routed.record.task.task_id)).progress


async def finished(system, routed, within=1_000.0):
    return (await system.gateway.task(routed.record.task.task_id, within)).progress


async def reached(system, routed, state: State):
    with anyio.fail_after(20), system.gateway.watch(routed.record.task.task_id) as watcher:
        while (await status(system, routed)).state is not state:
            await watcher.changed()


async def test_a_task_is_cancelled_while_it_waits():
    """No agent ever sees it; a second cancellation is told that it is over."""
    agents, ledger = ScriptedAgents(), MemoryLedger()
    async with embedded(agents, ledger) as system:
        routed = await system.route(a_request())
        await system.gateway.cancel(routed.record.task.task_id)
        await system.gateway.register(an_agent())
        await finished(system, await system.route(a_request()))
        with pytest.raises(AlreadyFinished):
            await system.gateway.cancel(routed.record.task.task_id)
    assert len(agents.calls) == 1
    await check_history(ledger)


async def test_a_task_is_cancelled_while_an_agent_works_on_it():
    """The agent's result comes too late and is refused; the agent's slot is free again."""
    held, ledger = Held(), MemoryLedger()
    agents = ScriptedAgents(agent_1=[held, DONE])
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent(max_concurrency=1))
        routed = await system.route(a_request())
        await agents.until_called(1)
        assert (await system.gateway.cancel(routed.record.task.task_id)).progress.state is State.CANCELLED
        held.release.set()
        assert (await finished(system, await system.route(a_request()))).state is State.SUCCEEDED
        record = await system.gateway.task(routed.record.task.task_id)
        assert (record.progress.state, record.result) == (State.CANCELLED, None)
    await check_history(ledger)


async def test_raw_media_without_consent():
    """The task is refused before anything of it is stored, but for the entry that says so."""
    agents, ledger = ScriptedAgents(), MemoryLedger()
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent("agent-1", "embed", "raw_image"))
        with pytest.raises(ConsentRequired):
            await system.route(a_request(payload=IMAGE, idempotency_key="key-1"))
        (entry,) = [entry for entry in await trail(ledger) if entry.event == "refused"]
        assert (entry.task_id, entry.status, entry.reason) == (None, "denied", "E_CONSENT_REQUIRED")
        given = Consent(consent_given=True, consent_id="consent-1")
        routed = await system.route(a_request(payload=IMAGE, idempotency_key="key-1", consent=given))
        assert (await finished(system, routed)).state is State.SUCCEEDED
    assert len(agents.calls) == 1


async def test_service_ends_while_calls_are_in_flight():
    """They are finished and their results stored; what waits stays queued, uncounted; nothing new begins."""
    held, ledger = Held(), MemoryLedger()
    agents = ScriptedAgents(agent_1=[held])
    async with embedded(agents, ledger) as system:
        await system.gateway.register(an_agent(max_concurrency=3))
        running = [await system.route(a_request()) for _ in range(2)]
        await agents.until_called(2)
        waiting = [await system.route(a_request()) for _ in range(5)]
        system.drain()
        assert system.gateway.unready() == ["shutting_down"]
        with pytest.raises(ShuttingDown):
            await system.route(a_request())
        with pytest.raises(ShuttingDown):
            await system.gateway.register(an_agent("agent-2"))
        await anyio.wait_all_tasks_blocked()
        held.release.set()
        for routed in running:
            await reached(system, routed, State.SUCCEEDED)
    assert len(agents.calls) == 2
    records = {record.task.task_id: record for record in await check_history(ledger)}
    for routed in waiting:
        progress = records[routed.record.task.task_id].progress
        assert (progress.state, progress.attempt) == (State.QUEUED, 0)


async def test_service_ends_while_somebody_polls():
    """Who waits for a task is answered at once with its state."""
    async with embedded(ScriptedAgents()) as system:
        routed = await system.route(a_request())
        states: list[State] = []

        async def poll() -> None:
            states.append((await finished(system, routed, 3_600.0)).state)

        async with anyio.create_task_group() as group:
            group.start_soon(poll)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(1.0):
                system.drain()
                while not states:
                    await anyio.lowlevel.checkpoint()
        assert states == [State.QUEUED]


async def test_calls_that_outlast_the_drain():
    """They are given back without using up an attempt's retry, and are done by the next process."""
    ledger, agents = MemoryLedger(), ScriptedAgents(agent_1=[Held()])
    async with embedded(agents, ledger, ORCHESTRATOR_DISPATCH_DRAIN_S="0.1") as system:
        await system.gateway.register(an_agent(max_concurrency=9))
        routed = [await system.route(a_request()) for _ in range(5)]
        await agents.until_called(5)
    for record in await check_history(ledger):
        progress = record.progress
        assert (progress.state, progress.failures, progress.lost) == (State.QUEUED, 0, 0)
        assert progress.reason == "interrupted"
    agents.script("agent-1", DONE)
    async with embedded(agents, ledger, seed=1) as system:
        for one in routed:
            assert (await finished(system, one)).state is State.SUCCEEDED
    await check_history(ledger)


class Severed(MemoryLedger):
    """From a moment on nothing can be written, as if the process were gone."""

    severed = False

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        if self.severed:
            raise NotCommitted("severed")
        return await super().commit(commands)


async def test_the_process_is_gone_with_calls_in_flight():
    """The next one takes the lease back and calls again, which costs no retry; after three times the task is dead."""
    ledger, agents = Severed(), ScriptedAgents(agent_1=[Held()])
    for life in range(3):
        ledger.severed = False
        async with embedded(agents, ledger, seed=life, ORCHESTRATOR_DISPATCH_DRAIN_S="0") as system:
            if life == 0:
                await system.gateway.register(an_agent())
                await system.route(a_request())
            await agents.until_called(life + 1)
            ledger.severed = True
    ledger.severed = False
    async with embedded(agents, ledger, seed=9):
        pass
    (record,) = await check_history(ledger)
    progress = record.progress
    assert (progress.state, progress.attempt, progress.failures, progress.lost) == (State.DEAD, 3, 0, 3)


class StoodStill(MemoryLedger):
    """After the first lease was written, the machine stands still for an hour."""

    stood_s = 0.0

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes = await super().commit(commands)
        if any(isinstance(outcome, Moved) and outcome.record.progress.attempt == 1 for outcome in outcomes):
            self.stood_s = 3_600.0
        return outcomes


async def test_the_process_stands_still_for_longer_than_its_lease():
    """Then the task is not its own any more, and another may have it: nothing is sent under that lease."""
    ledger, agents, clock = StoodStill(), ScriptedAgents(), virtual_environment()
    environment = dataclasses.replace(clock, now=lambda: clock.now() + ledger.stood_s)
    async with Orchestrator(
        load(environ={"DATABASE_URL": "memory://"}), environment=environment, client=agents, ledger=ledger
    ) as system:
        await system.gateway.register(an_agent())
        assert (await finished(system, await system.route(a_request()))).state is State.SUCCEEDED
    assert [call.attempt for call in agents.calls] == [2]
    await check_history(ledger)


class TestVirtually:
    """Of these, time is a part."""

    @pytest.fixture
    def anyio_backend(self, virtual_clock):
        return virtual_clock

    async def test_consent_expires_before_an_agent_comes(self):
        """The task is denied at dispatch, with an entry of its own, and never sent."""
        agents, ledger = ScriptedAgents(), MemoryLedger()
        async with embedded(agents, ledger) as system:
            consent = Consent(consent_given=True, expires_at=instant(system.environment.now() + 60.0))
            routed = await system.route(a_request(payload=IMAGE, consent=consent))
            await anyio.sleep(61.0)
            await system.gateway.register(an_agent("agent-1", "embed", "raw_image"))
            progress = await finished(system, routed)
            assert (progress.state, progress.reason) == (State.DENIED, "consent")
        assert agents.calls == []
        await check_history(ledger)
        (denied,) = [entry for entry in await trail(ledger) if entry.event == "denied"]
        assert '"refused":true' in (denied.router_decision or "")

    async def test_consent_expires_between_two_attempts(self):
        """The second attempt is not made."""

        async def slow_failure(_call: Call) -> Ending:
            await anyio.sleep(5.0)
            return Declined(retryable=True)

        agents, ledger = ScriptedAgents(agent_1=[slow_failure]), MemoryLedger()
        async with embedded(agents, ledger) as system:
            await system.gateway.register(an_agent("agent-1", "embed", "raw_image"))
            consent = Consent(consent_given=True, expires_at=instant(system.environment.now() + 2.0))
            routed = await system.route(a_request(payload=IMAGE, consent=consent))
            assert (await finished(system, routed)).state is State.DENIED
        assert len(agents.calls) == 1
        await check_history(ledger)

    async def test_consent_expires_before_a_dead_letter_is_replayed(self):
        """The replay is refused."""
        agents, ledger = ScriptedAgents(agent_1=[Declined(retryable=False)]), MemoryLedger()
        async with embedded(agents, ledger) as system:
            await system.gateway.register(an_agent("agent-1", "embed", "raw_image"))
            consent = Consent(consent_given=True, expires_at=instant(system.environment.now() + 2.0))
            routed = await system.route(a_request(payload=IMAGE, consent=consent))
            assert (await finished(system, routed)).state is State.DEAD
            await anyio.sleep(2.0)
            with pytest.raises(ConsentRequired):
                await system.gateway.replay(routed.record.task.task_id)
        assert len(agents.calls) == 1

    async def test_consent_for_no_media_expires(self):
        """A task without raw media is done all the same, by an agent that is not one for raw media."""
        agents = ScriptedAgents()
        async with embedded(agents) as system:
            consent = Consent(consent_given=True, expires_at=instant(system.environment.now() + 60.0))
            routed = await system.route(a_request(consent=consent))
            await anyio.sleep(61.0)
            await system.gateway.register(an_agent("raw", "embed", "raw_image", location="edge-1"))
            await anyio.sleep(10.0)
            assert agents.calls == []
            await system.gateway.register(an_agent("plain"))
            progress = await finished(system, routed)
            assert (progress.state, progress.agent_id) == (State.SUCCEEDED, "plain")

    async def test_a_lease_lapses(self):
        """The janitor takes it back when its time is over, and the task is done again, uncounted."""
        agents, ledger = ScriptedAgents(), MemoryLedger()
        async with embedded(agents, ledger) as system:
            routed = await system.route(a_request())
            record = await system.gateway.task(routed.record.task.task_id)
            # A lease of a holder that is not there, as another process would leave it behind.
            orphan = Accept(
                task=replace(record.task, task_id="task-orphan"),
                progress=record.progress.lease("agent-9", "gone/consumer", system.environment.now() + 20.0),
                lane="embed|--|",
                audit=_accepted("task-orphan", system.environment.now()),
            )
            await ledger.commit([orphan])
            await system.gateway.register(an_agent())
            began = anyio.current_time()
            progress = (await system.gateway.task("task-orphan", 100.0)).progress
            assert (progress.state, progress.attempt, progress.lost) == (State.SUCCEEDED, 2, 1)
            assert 20.0 <= anyio.current_time() - began <= 21.1
        await check_history(ledger)


def _accepted(task_id: str, now: float):
    return AuditDraft(event="accepted", created_at=now, task_id=task_id, status="leased", attempt=1)
