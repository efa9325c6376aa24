"""Every actor crashes at every kind of message: before it handles it, before and after the commit, before the reply.

After each of these, with clients that retry under the same key, the promises hold and everything is done.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.actors.audit_writer import RecoveryNeeded
from orchestrator.actors.messages import Answer
from orchestrator.domain.errors import (
    AlreadyFinished,
    AuditUnavailable,
    ConsentRequired,
    InProgress,
    NotFound,
    OrchestratorError,
    Overloaded,
)
from orchestrator.domain.lifecycle import State
from orchestrator.kernel.actor import Actor
from orchestrator.kernel.child import Child
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.reply import Reply
from orchestrator.outbound.ports import Call, Declined, Ending, Refused, Succeeded
from orchestrator.storage.commands import Command, Moved, Outcome, Transition
from orchestrator.storage.memory import MemoryLedger
from orchestrator.storage.opening import open_ledger
from orchestrator.storage.ports import CommitUnknown
from orchestrator.testing import ScriptedAgents, a_request, an_agent, check_history, embedded

pytestmark = pytest.mark.anyio


class Crash(Exception):
    """What the injected fault raises."""


@dataclass
class Fault:
    """The `nth` time that `kind` comes to `point` of `actor`, it crashes there; once."""

    actor: str
    kind: str
    point: str
    nth: int = 1
    seen: int = 0
    bomb: anyio.Event = field(default_factory=anyio.Event)

    def __str__(self) -> str:
        return f"{self.actor}-{self.kind}-{self.point}-{self.nth}"

    @property
    def struck(self) -> bool:
        return self.seen >= self.nth

    def comes(self, kind: str, point: str) -> bool:
        if (kind, point) != (self.kind, self.point):
            return False
        self.seen += 1
        return self.seen == self.nth

    def strike(self, kind: str, point: str) -> None:
        if self.comes(kind, point):
            raise Crash(kind)

    def decorate(self, child: Child[Any]) -> Child[Any]:
        return replace(child, start=lambda: Faulty(child.start(), self)) if child.name == self.actor else child


class Faulty:
    """An actor that crashes as its fault says."""

    def __init__(self, actor: Actor[Any], fault: Fault) -> None:
        self._actor, self._fault = actor, fault

    async def run(self, inbox: Inbox[Any]) -> None:
        take = inbox.take

        async def taken(limit: int) -> list[Any]:
            return [self._met(message) for message in await take(limit)]

        inbox.take = taken
        async with anyio.create_task_group() as group:
            group.start_soon(self._explode)
            await self._actor.run(inbox)
            group.cancel_scope.cancel()

    def _met(self, message: Any) -> Any:
        kind = type(message).__name__
        self._fault.strike(kind, "handling")
        return replace(message, reply=LastWord(message.reply)) if self._fault.comes(kind, "reply") else message

    async def _explode(self) -> None:
        await self._fault.bomb.wait()
        self._fault.bomb = anyio.Event()
        raise Crash


class LastWord:
    """A reply whose sender crashes as it is about to send it."""

    def __init__(self, reply: Reply[Any]) -> None:
        self._reply = reply

    def send(self, _value: Any) -> bool:
        raise Crash

    def fail(self, _error: Exception) -> bool:
        raise Crash


class FaultyLedger:
    """The ledger, but for one commit or one read. Counts the results that it took."""

    def __init__(self, inner: Any, fault: Fault, error: type[Exception] = Crash) -> None:
        self.inner, self._fault, self._error = inner, fault, error
        self.results: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self.inner, name)

        def read(*arguments: Any, **options: Any) -> Any:
            self._fault.strike(name, "reading")
            return method(*arguments, **options)

        return read

    async def commit(self, commands: list[Command]) -> list[Outcome]:
        kinds = {name_of(command) for command in commands}
        if any(self._fault.comes(kind, "before the commit") for kind in kinds):
            raise self._error
        # Time enough for more to be waiting in the mailbox when it crashes.
        await anyio.sleep(0.005)
        outcomes = await self.inner.commit(commands)
        for command, outcome in zip(commands, outcomes, strict=True):
            if isinstance(command, Transition) and command.result is not None and isinstance(outcome, Moved):
                self.results[command.record.task.task_id] += 1
        if any(self._fault.comes(kind, "after the commit") for kind in kinds):
            raise self._error
        return outcomes


def name_of(command: Command) -> str:
    return command.audit.event if isinstance(command, Transition) else type(command).__name__


MESSAGES = {
    "audit_writer": ["Commit"],
    "registry": ["Register", "Heartbeat", "DrainAgent", "RemoveAgent", "Reserve", "Report", "ReleaseAll"],
    "router": ["RouteTask", "ExplainTask", "CancelTask", "ReplayTask"],
    "sync_dispatcher": ["RunSync"],
}
COMMANDS = ["Accept", "Note", "SaveAgent", "ForgetAgent", "ExpireKeys"]
STEPS = ["leased", "moved", "succeeded", "retry_scheduled", "dead", "given_back", "due", "cancelled"]
READS = {"agents": "registry", "lanes": "stream_consumer_1", "due": "janitor", "next_due": "janitor"}

FAULTS = [
    *((actor, kind, point) for actor, kinds in MESSAGES.items() for kind in kinds for point in ("handling", "reply")),
    ("janitor", "WakeAt", "handling"),
    *(("audit_writer", kind, f"{when} the commit") for kind in COMMANDS + STEPS for when in ("before", "after")),
    *((actor, kind, "calling") for actor in ("sync_dispatcher", "stream_consumer_1") for kind in ("begun", "ended")),
    *((actor, read, "reading") for read, actor in READS.items()),
]
MAIN = [
    ("audit_writer", "Commit", "handling"),
    ("audit_writer", "Commit", "reply"),
    *(
        ("audit_writer", kind, f"{when} the commit")
        for kind in ("Accept", "leased", "succeeded")
        for when in ("before", "after")
    ),
    ("registry", "Reserve", "reply"),
    ("registry", "Report", "handling"),
    ("router", "RouteTask", "reply"),
    ("sync_dispatcher", "RunSync", "reply"),
    ("stream_consumer_1", "begun", "calling"),
    ("stream_consumer_1", "ended", "calling"),
]


class Load:
    """Clients that retry under their keys, agents that beat; and what both of them were told."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.told: dict[str, set[str]] = {}
        self.agents = ScriptedAgents(
            agent_1=[self._works],
            flaky=[Declined(retryable=True), self._works, Declined(retryable=True), self._works],
            gone=[Refused(), self._works],
            away=[Refused(), self._works],
            deadly=[Declined(retryable=False)],
        )

    async def _works(self, call: Call) -> Ending:
        sync = call.task_type == "analyze_monitor"
        bombed = self.fault.point == "calling" and sync == (self.fault.actor == "sync_dispatcher")
        if bombed and self.fault.comes("begun", "calling"):
            self.fault.bomb.set()
        await anyio.sleep(0.005)
        if bombed and self.fault.comes("ended", "calling"):
            self.fault.bomb.set()
        return Succeeded({"done": True})

    async def run(self, system: Any) -> None:
        """Everything that there is to ask of the system, all at once, to its end."""
        gateway = system.gateway
        known = {
            "agent-1": ["embed", "analyze_light"], "flaky": ["embed"], "gone": ["indexing"], "deadly": ["audit"],
            "away": ["embed"], "draining": ["embed"], "leaving": ["embed"],
        }  # fmt: skip
        async with anyio.create_task_group() as beating:
            for agent_id, capabilities in known.items():
                await insist(
                    gateway.register, an_agent(agent_id, *capabilities, location="edge-1" if agent_id == "away" else "")
                )
            beating.start_soon(self._beat, gateway, ["agent-1", "flaky", "gone", "away", "deadly"])
            async with anyio.create_task_group() as clients:
                clients.start_soon(insist, gateway.drain, "draining")
                clients.start_soon(insist, gateway.remove, "leaving")
                clients.start_soon(insist, gateway.explain, a_request())
                clients.start_soon(self._without_consent, gateway)
                clients.start_soon(self._cancels, gateway)
                clients.start_soon(self._replays, gateway)
                for number in range(4):
                    clients.start_soon(self._client, gateway, f"embed-{number}", a_request())
                    clients.start_soon(self._client, gateway, f"sync-{number}", a_request("analyze_monitor"))
                clients.start_soon(self._client, gateway, "indexing", a_request("indexing"))
                later = datetime.fromtimestamp(system.environment.now() + 0.2, UTC)
                clients.start_soon(self._client, gateway, "later", a_request(not_before=later))
            beating.cancel_scope.cancel()

    async def _client(self, gateway: Any, key: str, request: Any, expected: State = State.SUCCEEDED) -> str:
        request = type(request)(
            **{name: getattr(request, name) for name in request.__struct_fields__} | {"idempotency_key": key}
        )
        answers = self.told.setdefault(key, set())
        routed = await insist(gateway.route, request)
        answers.add(routed.record.task.task_id)
        if routed.answer is Answer.COMPLETED_SYNC:
            assert (await gateway.task(routed.record.task.task_id)).result is not None
        again = await insist(gateway.route, request)
        assert again.answer is Answer.DUPLICATE
        answers.add(again.record.task.task_id)
        task_id = routed.record.task.task_id
        record = await gateway.task(task_id, 60.0)
        assert record.progress.state is expected, record
        return task_id

    async def _cancels(self, gateway: Any) -> None:
        routed = await insist(gateway.route, a_request("analyze_refer", idempotency_key="cancelled"))
        self.told.setdefault("cancelled", set()).add(routed.record.task.task_id)
        await insist(gateway.cancel, routed.record.task.task_id)
        assert (await gateway.task(routed.record.task.task_id)).progress.state is State.CANCELLED

    async def _replays(self, gateway: Any) -> None:
        task_id = await self._client(gateway, "dead", a_request("audit_log"), State.DEAD)
        routed = await insist(gateway.replay, task_id)
        self.told["replayed"] = {
            routed.record.task.task_id,
            (await insist(gateway.replay, task_id)).record.task.task_id,
        }
        await gateway.task(routed.record.task.task_id, 60.0)

    async def _without_consent(self, gateway: Any) -> None:
        with pytest.raises(ConsentRequired):
            await insist(gateway.route, a_request(payload={"image": "private"}))

    async def _beat(self, gateway: Any, agent_ids: list[str]) -> None:
        while True:
            for agent_id in agent_ids:
                try:
                    await gateway.heartbeat(agent_id)
                except OrchestratorError:
                    continue
            await anyio.sleep(0.1)


async def insist(call: Callable[..., Any], *arguments: Any) -> Any:
    """As a good client does: what is worth trying again is tried again; what was done meanwhile is done."""
    while True:
        try:
            return await call(*arguments)
        except (AuditUnavailable, Overloaded, InProgress):
            await anyio.sleep(0.02)
        except (AlreadyFinished, NotFound):
            return None


async def survives(fault: Fault, inner: Any, reopen: Callable[[], Any]) -> None:
    """Puts load on a system with that fault, and checks the promises on what its ledger holds afterwards."""
    load = Load(fault)
    ledger: Any = FaultyLedger(inner, fault)
    # Shorter than any lease: what a crashed actor held is taken back at once, not when its time is over.
    with anyio.fail_after(20):
        async with embedded(load.agents, ledger, decorate=fault.decorate, ORCHESTRATOR_RETRY_BASE="0.05") as system:
            await load.run(system)
            restarts = sum(child.restarts for child in system.status())
    assert fault.struck, "the fault did not come about"
    assert restarts > 0
    stored = await reopen()
    try:
        records = {record.task.task_id: record for record in await check_history(stored)}
    finally:
        await stored.close()
    assert all(len(answers) == 1 for answers in load.told.values()), f"a key with two tasks in {load.told}"
    assert {task_id for answers in load.told.values() for task_id in answers} == set(records), "lost, or made twice"
    assert all(record.progress.state.final for record in records.values())
    assert set(ledger.results.values()) <= {1}


def each(faults: list[tuple[str, str, str]], *times: int) -> Any:
    cases = [(*fault, nth) for fault in faults for nth in times]
    return pytest.mark.parametrize(
        "case", cases, ids=lambda case: "-".join(str(part) for part in case).replace(" ", "_")
    )


class TestVirtually:
    """All of them, in virtual time and memory."""

    @pytest.fixture
    def anyio_backend(self, virtual_clock):
        return virtual_clock

    @each(FAULTS, 1)
    async def test_an_actor_crashes(self, case):
        """The system recovers by itself, all promises hold, and all work is done."""
        ledger = MemoryLedger()
        await survives(Fault(*case), ledger, lambda: _same(ledger))

    @each(MAIN, 2, 3)
    async def test_an_actor_crashes_later(self, case):
        """The same in the middle of the work."""
        ledger = MemoryLedger()
        await survives(Fault(*case), ledger, lambda: _same(ledger))

    @pytest.mark.parametrize("point", ["before the commit", "after the commit"])
    async def test_a_commit_of_unknown_end(self, point):
        """The process ends for recovery and waits for no call in flight; what was acknowledged is there afterwards."""

        async def for_ever(_call: Call) -> Ending:
            await anyio.sleep_forever()
            raise AssertionError

        inner, acknowledged = MemoryLedger(), list[str]()
        agents = ScriptedAgents(agent_1=[for_ever])
        ledger: Any = FaultyLedger(inner, Fault("audit_writer", "Accept", point, nth=5), CommitUnknown)
        began = anyio.current_time()
        with pytest.raises(RecoveryNeeded):
            async with embedded(agents, ledger) as system:
                await system.gateway.register(an_agent("agent-1", "indexing"))
                while True:
                    request = a_request("indexing", idempotency_key=f"key-{len(acknowledged)}")
                    acknowledged.append((await system.route(request)).record.task.task_id)
                    await agents.until_called(len(acknowledged))
        assert len(acknowledged) == 4
        assert anyio.current_time() - began < 5.0
        agents.script("agent-1", Succeeded({}))
        async with embedded(agents, inner, seed=1) as system:
            again = await system.route(a_request("indexing", idempotency_key="key-4"))
            assert (again.answer is Answer.DUPLICATE) == (point == "after the commit")
            for task_id in acknowledged:
                assert (await system.gateway.task(task_id, 100.0)).progress.state is State.SUCCEEDED
        assert len(await check_history(inner)) == 5


@each(MAIN, 1)
async def test_an_actor_crashes_with_a_ledger_on_disk(case, tmp_path: Path):
    """The same in real time with SQLite."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    await survives(Fault(*case), await open_ledger(url), lambda: open_ledger(url))


async def _same(ledger: MemoryLedger) -> MemoryLedger:
    return ledger
