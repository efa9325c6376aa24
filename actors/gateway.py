"""The system as its callers see it, from the web or from a program that embeds it: one method for each thing to ask.

A caller that goes away takes nothing with it: what it asked for is completed all the same.
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence, Set
from functools import partial
from typing import TypeVar

import anyio
from msgspec.structs import replace

from orchestrator.actors.browsing import Browser
from orchestrator.actors.drain import Drain
from orchestrator.actors.feed import Headway, TaskFeed, Watcher
from orchestrator.actors.keyring import Keyring
from orchestrator.actors.messages import (
    AllowAgent,
    CancelTask,
    Directory,
    DrainAgent,
    EraseTasks,
    ExplainTask,
    Extended,
    ExtendLease,
    GiveResult,
    Granted,
    Heartbeat,
    LeaseDeskMessage,
    LeaseTasks,
    Register,
    RegistryMessage,
    RemoveAgent,
    ReplayTask,
    Routed,
    RouterMessage,
    RouteTask,
    RouteTasks,
    Withdraw,
    WithdrawConsent,
)
from orchestrator.actors.pull_leases import Hold
from orchestrator.actors.releasing import released
from orchestrator.actors.timeline import Timeline
from orchestrator.domain.agent import Agent, AgentView
from orchestrator.domain.api_key import ApiKey
from orchestrator.domain.decision import Decision
from orchestrator.domain.errors import (
    AuditUnavailable,
    Forbidden,
    NotFound,
    NotPulling,
    OrchestratorError,
    Overloaded,
    ShuttingDown,
)
from orchestrator.domain.identity import ANONYMOUS, Principal, Scope
from orchestrator.domain.lifecycle import State
from orchestrator.domain.retention import complete_since
from orchestrator.domain.task import TaskRequest
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.errors import ActorCrashed, AskTimeout, NotDelivered
from orchestrator.kernel.monotonic import monotonic
from orchestrator.kernel.ref import Ref
from orchestrator.kernel.reply import Reply
from orchestrator.kernel.watch import Watch
from orchestrator.outbound.ports import AgentClient, Declined, Succeeded
from orchestrator.storage.commands import Erased, Revoked, TaskRecord
from orchestrator.storage.ports import AuditPage, AuditQuery, LedgerError, LedgerReader

M = TypeVar("M")
R = TypeVar("R")

LOOK_AGAIN_S = 2.0
ERASE_S = 60.0
"""A case may have many tasks. Who is not answered in that time asks again, and is told of the rest."""
REGISTRY_CALLS = 256
"""Callers' requests to the registry at once; what dispatches needs the rest of its mailbox."""


class Gateway:
    """All methods raise an OrchestratorError for what a caller should be told, and nothing else."""

    def __init__(
        self,
        environment: Environment,
        router: Ref[RouterMessage],
        registry: Ref[RegistryMessage],
        lease_desk: Ref[LeaseDeskMessage],
        reader: LedgerReader,
        directory: Watch[Directory],
        writable: Watch[bool],
        roomy: Watch[bool],
        feed: TaskFeed,
        drain: Drain,
        client: AgentClient,
        keyring: Keyring,
        *,
        answer_within_s: float,
    ) -> None:
        self._environment = environment
        self._router, self._registry, self._lease_desk, self._reader = router, registry, lease_desk, reader
        self._directory, self._writable, self._feed, self._drain = directory, writable, feed, drain
        self._client = client
        self._roomy = roomy
        self._keyring, self._within = keyring, answer_within_s
        self._principal = ANONYMOUS
        self._traceparent: str | None = None
        self._registry_calls = anyio.CapacityLimiter(REGISTRY_CALLS)

    def acting_for(self, principal: Principal, traceparent: str | None = None) -> "Gateway":
        """The same system, as `principal` may see and change it. Without this: all of it, as the program itself.

        What it accepts belongs to the trace of `traceparent` (W3C Trace Context), so as an agent is told of it.
        """
        bound = object.__new__(Gateway)
        bound.__dict__ = self.__dict__.copy()
        bound._principal, bound._traceparent = principal, traceparent
        return bound

    async def route(self, request: TaskRequest) -> Routed:
        """Accepts a task; on stable storage when it returns. Keys of another principal are other keys."""
        self._check_room()
        if request.callback_url is not None:
            await self._client.check(request.callback_url)
        routed: Routed = await self._ask(
            self._router, lambda reply: RouteTask(reply, request, self._principal, self._traceparent)
        )
        return self._released(routed)

    async def route_all(self, requests: Sequence[TaskRequest]) -> list[Routed | OrchestratorError]:
        """Accepts many tasks with one commit, each for itself, in their order; none of them runs synchronously."""
        self._check_room()
        checked = [it if it.callback_url is None else await self._checked(it, it.callback_url) for it in requests]
        good = [item for item in checked if isinstance(item, TaskRequest)]
        make = partial(RouteTasks, requests=good, principal=self._principal, traceparent=self._traceparent)
        answers = await self._ask(self._router, make) if good else []
        routed = iter([self._released(it) if isinstance(it, Routed) else it for it in answers])
        return [next(routed) if isinstance(item, TaskRequest) else item for item in checked]

    async def explain(self, request: TaskRequest) -> Decision:
        """What would be decided now; nothing is stored or sent."""
        return await self._ask(self._router, partial(ExplainTask, request=request, principal=self._principal))

    async def revoke(self, consent_id: str) -> Revoked:
        """Ends a consent for ever. Unfinished tasks that name it are denied, results under it are not handed out."""
        return await self._ask(self._router, partial(WithdrawConsent, consent_id=consent_id, principal=self._principal))

    async def erase(self, *, task_id: str | None = None, case_id: str | None = None) -> Erased:
        """Destroys what a task, or every task of a case, holds; one that is not finished is cancelled."""
        make = partial(EraseTasks, principal=self._principal, task_id=task_id, case_id=case_id)
        return await self._ask(self._router, make, ERASE_S)

    async def cancel(self, task_id: str) -> TaskRecord:
        """Ends a task that is not finished."""
        return await self._ask(self._router, partial(CancelTask, task_id=task_id, principal=self._principal))

    async def replay(self, task_id: str) -> Routed:
        """Makes a new task of a dead one."""
        self._check_room()
        make = partial(ReplayTask, task_id=task_id, principal=self._principal)
        return self._released(await self._ask(self._router, make))

    async def task(self, task_id: str, wait_s: float = 0.0) -> TaskRecord:
        """The task, and with `wait_s` its final state if it reaches one within so many seconds."""
        with self._feed.watch(task_id) as watcher:
            record = await self._record(task_id)
            end = monotonic() + wait_s
            while (left := end - monotonic()) > 0 and not (record.progress.state.final or self._drain.begun):
                # A change whose news was lost with its teller is found all the same.
                with anyio.move_on_after(min(left, LOOK_AGAIN_S)):
                    await watcher.changed()
                record = await self._record(task_id)
        return record

    def headway(self, record: TaskRecord) -> Headway | None:
        """How far the task's present attempt is, where its agent told this process."""
        return self._feed.headway(record)

    @property
    def browser(self) -> Browser:
        """What there is to look through."""
        return Browser(self._reader, self._principal)

    def under_way(self, most: int = 100) -> list[tuple[str, Headway]]:
        """The tasks whose agents told this process last how far they are, the latest at the end; for operators."""
        return self._feed.under_way(most) if self._principal.operates else []

    async def lease(
        self, agent_id: str, *, most: int = 1, wait_s: float = 0.0, task_id: str | None = None
    ) -> list[Granted]:
        """Work for a pull agent, once there is some within `wait_s`; or that task alone, if the agent may have it now.

        To ask is a sign of life. A caller that goes away gets nothing: what was leased for it is queued again.
        """
        self._check_open()
        view = await self.heartbeat(agent_id)
        if view.agent.quarantined:
            raise Forbidden("The agent is not what it was, and no operator has allowed that yet.")
        if not view.agent.pulls:
            raise NotPulling("The agent registered with an endpoint, and is called there.")
        asked: list[Reply[list[Granted]]] = []

        def make(reply: Reply[list[Granted]]) -> LeaseTasks:
            asked.append(reply)
            return LeaseTasks(reply, agent_id, most, wait_s, task_id)

        try:
            return await self._ask(self._lease_desk, make, wait_s + self._within)
        except BaseException:
            for reply in asked:
                # A desk that has no room for it leaves the lease to lapse.
                with contextlib.suppress(NotDelivered):
                    self._lease_desk.tell(Withdraw(reply))
            raise

    async def give_result(self, task_id: str, hold: Hold, ending: Succeeded | Declined) -> TaskRecord:
        """The attempt that the agent holds ended so. Twice is safe."""
        self._check_itself(hold.agent_id)
        return await self._ask(self._lease_desk, partial(GiveResult, task_id=task_id, hold=hold, ending=ending))

    async def extend(self, task_id: str, hold: Hold, *, done: float | None = None, note: str | None = None) -> Extended:
        """The agent is still at it, and this far; a pull agent's lease then holds for another attempt's time."""
        self._check_itself(hold.agent_id)
        make = partial(ExtendLease, task_id=task_id, hold=hold, done=done, note=note)
        return await self._ask(self._lease_desk, make)

    def watch(self, task_id: str) -> Watcher:
        """The changes of a task from now on: enter it, read the task, wait for the next change."""
        return self._feed.watch(task_id)

    def timeline(self, task_id: str, seen: int = 0) -> Timeline:
        """What happens to a task after its entry number `seen`."""
        return Timeline(self._reader, self._feed, task_id, seen, self._environment.now)

    @property
    def closing(self) -> bool:
        """Whether service ends, so that nobody should be kept waiting."""
        return self._drain.begun

    async def dead(self, *, after: int = 0, limit: int = 100) -> list[TaskRecord]:
        """Dead letters in the order of their acceptance, after `seq` `after`."""
        owner = None if self._principal.operates else self._principal.subject
        return await _read(self._reader.tasks(State.DEAD, principal=owner, after=after, limit=limit))

    async def audit(self, query: AuditQuery) -> AuditPage:
        """Audit entries, oldest first. Who does not operate asks for those of a task of its own."""
        if not self._principal.operates:
            if query.task_id is None:
                raise Forbidden("Without the scope operate, audit entries are those of a task: name it by task_id.")
            await self._record(query.task_id)
        return await _read(self._reader.audit(query))

    async def audit_complete_since(self) -> str | None:
        """From when on no audit entry is missing, in their form; None where none was ever removed."""
        return complete_since(await _read(self._reader.begins()))

    async def create_key(self, subject: str, scopes: Set[Scope]) -> tuple[ApiKey, str]:
        """A new API key and its text, which nobody is told again."""
        return await self._keyring.create(self._principal, subject, scopes)

    async def keys(self) -> list[ApiKey]:
        """All API keys."""
        return await self._keyring.all()

    async def revoke_key(self, key_id: str) -> None:
        """Ends an API key."""
        await self._keyring.revoke(self._principal, key_id)

    async def key(self, text: str) -> ApiKey | None:
        """The API key that a caller presents as `text`, if it is one."""
        return await self._keyring.find(text)

    async def register(self, agent: Agent) -> AgentView:
        """Knows the agent from now on, and as alive; one that would never be called is refused."""
        self._check_open()
        if agent.endpoint is not None:
            await self._client.check(agent.endpoint)
        return await self._ask_registry(partial(Register, agent=agent, principal=self._principal))

    async def allow(self, agent_id: str, *, raw_media: bool = False) -> AgentView:
        """Ends the agent's quarantine: what it is now is what it may be. Raw media is a right of its own."""
        make = partial(AllowAgent, agent_id=agent_id, principal=self._principal, raw_media=raw_media)
        return await self._ask_registry(make)

    async def heartbeat(self, agent_id: str, load: float | None = None) -> AgentView:
        """The agent lives."""
        self._check_itself(agent_id)
        return await self._ask_registry(partial(Heartbeat, agent_id=agent_id, load=load))

    async def drain(self, agent_id: str) -> AgentView:
        """Sends the agent no more work."""
        self._check_itself(agent_id)
        return await self._ask_registry(partial(DrainAgent, agent_id=agent_id, principal=self._principal))

    async def remove(self, agent_id: str) -> AgentView:
        """Forgets the agent; one that would then be free to change is only drained, unless an operator asks."""
        self._check_itself(agent_id)
        return await self._ask_registry(partial(RemoveAgent, agent_id=agent_id, principal=self._principal))

    def agents(self) -> Directory:
        """All agents as they are now."""
        return self._directory.value

    async def agents_changed(self) -> Directory:
        """Waits until an agent changes in any way, then returns them all."""
        return await self._directory.changed()

    def now(self) -> float:
        """The time of the orchestrator's clock, in seconds since the epoch."""
        return self._environment.now()

    def token(self) -> str:
        """Text that nobody can guess: 32 bytes in hex digits."""
        return self._environment.token(32)

    def clock_behind(self) -> float:
        """By how many seconds the machine's clock is known to be behind."""
        return self._environment.behind()

    def unready(self) -> list[str]:
        """Why no work should be sent here now; empty when it should."""
        reasons = {
            "shutting_down": self._drain.begun,
            "ledger_unavailable": not self._writable.value,
            "space_low": not self._roomy.value,
        }
        return [reason for reason, holds in reasons.items() if holds]

    async def _record(self, task_id: str) -> TaskRecord:
        record = await _read(self._reader.task(task_id))
        if record is None or not self._principal.owns(record.task.principal):
            raise NotFound("There is no such task.")
        return released(record, self._environment.now())

    def _released(self, routed: Routed) -> Routed:
        if routed.record.result is None:
            return routed
        return replace(routed, record=released(routed.record, self._environment.now()))

    async def _checked(self, request: TaskRequest, callback_url: str) -> TaskRequest | OrchestratorError:
        """The request, or why its sender could not be called back."""
        try:
            await self._client.check(callback_url)
        except OrchestratorError as error:
            return error
        return request

    def _check_itself(self, agent_id: str) -> None:
        if not self._principal.owns(agent_id):
            raise Forbidden("An agent speaks for itself only.")

    def _check_open(self) -> None:
        if self._drain.begun:
            raise ShuttingDown("No new work is taken.", retry_after=5)

    def _check_room(self) -> None:
        self._check_open()
        if not self._roomy.value:
            raise Overloaded("There is little room left on the disk; what was accepted comes first.", retry_after=30)

    async def _ask_registry(self, make: Callable[[Reply[R]], RegistryMessage]) -> R:
        try:
            self._registry_calls.acquire_nowait()
        except anyio.WouldBlock:
            raise Overloaded("Too many agents are calling at once.", retry_after=1) from None
        try:
            return await self._ask(self._registry, make)
        finally:
            self._registry_calls.release()

    async def _ask(self, ref: Ref[M], make: Callable[[Reply[R]], M], within: float | None = None) -> R:
        try:
            return await ref.ask(make, within=self._within if within is None else within)
        except NotDelivered:
            raise Overloaded("Too many requests are waiting.", retry_after=1) from None
        except (ActorCrashed, AskTimeout):
            detail = "The request was not confirmed in time. Under the same key it is safe to repeat."
            raise AuditUnavailable(detail, retry_after=1) from None


async def _read(reading: Awaitable[R]) -> R:
    try:
        return await reading
    except LedgerError:
        raise AuditUnavailable("The ledger cannot be read.", retry_after=1) from None
