"""Accepts tasks: idempotency, consent, decision. What it accepts is on stable storage before it answers."""

from functools import partial

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup
from msgspec.structs import replace

from orchestrator.actors.admission import Acceptance, Admission, Plan, consent_required
from orchestrator.actors.committing import Committer
from orchestrator.actors.events import ConsentOverridden, ConsentWithdrawn, Emit, TaskAccepted, TaskRefused, TasksErased
from orchestrator.actors.messages import (
    Answer,
    CancelTask,
    Directory,
    Ended,
    EraseTasks,
    ExplainTask,
    NotRun,
    ReplayTask,
    Routed,
    RouterMessage,
    RouteTask,
    RouteTasks,
    Running,
    RunSync,
    WithdrawConsent,
)
from orchestrator.actors.reading import read
from orchestrator.actors.verdicts import draft
from orchestrator.domain.audit import AuditDraft
from orchestrator.domain.decision import Decision
from orchestrator.domain.errors import (
    AlreadyFinished,
    AuditUnavailable,
    ConsentRequired,
    DataErased,
    InProgress,
    KeyReused,
    NotDead,
    NotFound,
    OrchestratorError,
    Overloaded,
)
from orchestrator.domain.idempotency import fingerprint
from orchestrator.domain.identity import Principal
from orchestrator.domain.lifecycle import State, Step
from orchestrator.domain.policy import Policy
from orchestrator.domain.task import Task, TaskRequest
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.errors import KernelError, NotDelivered
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.ref import Ref
from orchestrator.kernel.watch import Watch
from orchestrator.storage.commands import (
    ERASED,
    Accept,
    Accepted,
    Denied,
    Duplicate,
    Erase,
    Erased,
    Full,
    Key,
    Moved,
    Noted,
    Outcome,
    Reused,
    RevokeConsent,
    Revoked,
    TaskRecord,
    Transition,
)
from orchestrator.storage.ports import LedgerReader

REPLAYS = "replay"
"""The scope of the keys under which dead letters are replayed; callers have other scopes."""
CALLERS = "caller:"
"""Before a caller's name: the scope of its keys."""
CANCEL_TRIES = 5
PATIENCE_S = 1.0
SHARE = 32
"""Tasks of a batch that are planned at once before others get their turn."""


class Router:
    """Serves many requests at once; each is decided on the directory as it is at that moment."""

    def __init__(
        self,
        environment: Environment,
        policy: Policy,
        acceptance: Acceptance,
        reader: LedgerReader,
        directory: Watch[Directory],
        committer: Committer,
        sync_dispatcher: Ref[RunSync],
        emit: Emit,
    ) -> None:
        self._environment, self._policy, self._acceptance = environment, policy, acceptance
        self._admission = Admission(environment, policy, acceptance, directory)
        self._reader, self._committer = reader, committer
        self._sync_dispatcher, self._emit = sync_dispatcher, emit
        self._answering: dict[tuple[str, str], str] = {}
        """Keys whose first request is being answered at this moment, and their fingerprints."""

    async def run(self, inbox: Inbox[RouterMessage]) -> None:
        slots = anyio.Semaphore(self._acceptance.at_once)
        async with anyio.create_task_group() as group:
            inbox.ready()
            async for message in inbox:
                await self._free_slot(slots, inbox)
                self._start(group, slots, message)

    async def _free_slot(self, slots: anyio.Semaphore, inbox: Inbox[RouterMessage]) -> None:
        """Waiting for those who are served, each of whom has a deadline, is not being stuck."""
        while True:
            with anyio.move_on_after(PATIENCE_S):
                await slots.acquire()
                return
            inbox.progress()

    def _start(self, group: TaskGroup, slots: anyio.Semaphore, message: RouterMessage) -> None:
        async def serve() -> None:
            try:
                await self._serve(message)
            finally:
                slots.release()

        group.start_soon(serve)

    async def _serve(self, message: RouterMessage) -> None:
        try:
            match message:
                case RouteTask():
                    message.reply.send(await self._route(message))
                case RouteTasks():
                    message.reply.send(await self._route_all(message))
                case ExplainTask():
                    message.reply.send(await self._explain(message))
                case WithdrawConsent():
                    message.reply.send(await self._withdraw(message.consent_id, message.principal.subject))
                case EraseTasks():
                    message.reply.send(await self._erase(message))
                case CancelTask():
                    message.reply.send(await self._cancel(message.task_id, message.principal))
                case ReplayTask():
                    message.reply.send(await self._replay(message.task_id, message.principal))
        except OrchestratorError as error:
            if isinstance(message, RouteTask | RouteTasks | ReplayTask):
                self._emit(TaskRefused(error.code))
            message.reply.fail(error)

    async def _explain(self, message: ExplainTask) -> Decision:
        task = self._admission.task(message.request, message.principal)
        decision, consent_id = self._admission.decide(task), task.consent.consent_id
        if consent_id is not None and await read(self._reader.revoked(consent_id)):
            return replace(decision, refused=True, ranking=())
        return decision

    async def _withdraw(self, consent_id: str, by: str) -> Revoked:
        now = self._environment.now()
        audit = AuditDraft(event="consent_revoked", created_at=now, consent_id=consent_id, principal=by)
        outcome = await self._committer.commit(RevokeConsent(consent_id, audit))
        if not isinstance(outcome, Revoked):
            raise AuditUnavailable("The ledger did not take this request.")
        if outcome.receipt is not None:
            self._emit(ConsentWithdrawn(len(outcome.records)))
        return outcome

    async def _erase(self, message: EraseTasks) -> Erased:
        """Page by page, so that a large case holds up nobody; broken off, it can be asked again."""
        if message.task_id is not None and await read(self._reader.task(message.task_id)) is None:
            raise NotFound("There is no such task.")
        audit = AuditDraft(event=ERASED, created_at=self._environment.now(), principal=message.principal.subject)
        command, gone = Erase(audit, message.task_id, message.case_id), Erased()
        while True:
            page = await self._committer.commit(command)
            if not isinstance(page, Erased):
                raise AuditUnavailable("The ledger did not take this request.")
            if not page.records:
                break
            gone = Erased((*gone.records, *page.records), page.receipt)
        if gone.records:
            self._emit(TasksErased(len(gone.records)))
        return gone

    async def _route(self, message: RouteTask) -> Routed:
        request = message.request
        task = self._admission.task(request, message.principal, message.traceparent)
        if request.idempotency_key is None:
            return await self._accept(task, request, None)
        key = self._claim(request.idempotency_key, request, f"{CALLERS}{message.principal.subject}")
        try:
            return await self._accept(task, request, key)
        finally:
            del self._answering[key.scope, key.key]

    def _claim(self, text: str, request: TaskRequest, scope: str) -> Key:
        """The request's key, which others find in use until it is answered. Raises KeyReused or InProgress."""
        name, mark = (scope, text), fingerprint(request)
        if name in self._answering:
            if self._answering[name] != mark:
                raise KeyReused("The key is in use for a request with another body.")
            raise InProgress("The first request with this key has not been answered yet.", retry_after=1)
        self._answering[name] = mark
        return self._admission.key(scope, text, mark)

    async def _accept(self, task: Task, request: TaskRequest | None, key: Key | None, by: str | None = None) -> Routed:
        """Decides, stores, and where the type is synchronous and somebody is free, has it done."""
        began, plan = anyio.current_time(), self._admission.plan(task, request, key, by)
        routed = None
        if plan.startable is not None and self._policy.task_types[task.task_type].sync:
            routed = await self._run_sync(plan.startable, plan.decision)
        if routed is None:
            routed = _routed(await self._committer.commit(plan.command))
        self._accepted(routed, began)
        return routed

    async def _route_all(self, message: RouteTasks) -> list[Routed | OrchestratorError]:
        """As `_route`, each for itself, in one commit. The ledger tells which keys of the batch are the same one."""
        began, claimed = anyio.current_time(), dict[str, Key]()
        try:
            plans: list[Plan | OrchestratorError] = []
            for number, request in enumerate(message.requests):
                if number % SHARE == SHARE - 1:
                    await anyio.lowlevel.checkpoint()
                plans.append(self._planned(request, message, claimed))
            commands = [plan.command for plan in plans if isinstance(plan, Plan)]
            outcomes = iter(await self._committer.commit_all(commands) if commands else [])
        finally:
            for key in claimed.values():
                del self._answering[key.scope, key.key]
        return [self._told(next(outcomes), began) if isinstance(plan, Plan) else self._refused(plan) for plan in plans]

    def _planned(self, request: TaskRequest, batch: RouteTasks, claimed: dict[str, Key]) -> Plan | OrchestratorError:
        text, scope = request.idempotency_key, f"{CALLERS}{batch.principal.subject}"
        try:
            task = self._admission.task(request, batch.principal, batch.traceparent)
            if text is None:
                return self._admission.plan(task, request, None)
            if text in claimed:
                return self._admission.plan(task, request, self._admission.key(scope, text, fingerprint(request)))
            claimed[text] = self._claim(text, request, scope)
            return self._admission.plan(task, request, claimed[text])
        except OrchestratorError as error:
            return error

    def _told(self, outcome: Outcome, began: float) -> Routed | OrchestratorError:
        try:
            routed = _routed(outcome)
        except OrchestratorError as error:
            return self._refused(error)
        self._accepted(routed, began)
        return routed

    def _refused(self, error: OrchestratorError) -> OrchestratorError:
        self._emit(TaskRefused(error.code))
        return error

    async def _run_sync(self, accept: Accept, decision: Decision) -> Routed | None:
        """The synchronous attempt; None when it did not begin, so that nothing is stored yet."""
        within = self._acceptance.sync_within_s
        try:
            outcome = await self._sync_dispatcher.ask(partial(RunSync, accept=accept, decision=decision), within=within)
        except NotDelivered:
            return None
        except KernelError as error:
            # Whether the task is stored is not known, so storing it once more could do it twice.
            raise AuditUnavailable(
                "The task was not confirmed in time. The same request under the same key is safe to repeat.",
                retry_after=1,
            ) from error
        match outcome:
            case NotRun():
                return None
            case Ended(record, receipt):
                done = record.progress.state is State.SUCCEEDED
                return Routed(Answer.COMPLETED_SYNC if done else Answer.QUEUED, record, receipt)
            case Running(record, receipt):
                return Routed(Answer.QUEUED, record, receipt)
            case _:
                return _routed(outcome)

    def _accepted(self, routed: Routed, began: float) -> None:
        if routed.answer is Answer.DUPLICATE:
            return
        task, seconds = routed.record.task, anyio.current_time() - began
        if task.consent.override is not None:
            self._emit(ConsentOverridden(task.task_id))
        queued = routed.answer is Answer.QUEUED
        self._emit(TaskAccepted(task.task_id, task.task_type, task.priority, queued, seconds, task.traceparent))

    async def _cancel(self, task_id: str, principal: Principal) -> TaskRecord:
        for _ in range(CANCEL_TRIES):
            record = await read(self._reader.task(task_id))
            if record is None or not principal.owns(record.task.principal):
                raise NotFound("There is no such task.")
            if record.progress.state.final:
                raise AlreadyFinished(f"The task is {record.progress.state.value}, which is final.")
            progress = record.progress.end(Step.CANCEL, "cancelled")
            audit = draft(Step.CANCEL.value, record, progress, self._environment.now(), principal=principal.subject)
            outcome = await self._committer.commit(Transition(record, progress, audit))
            if isinstance(outcome, Moved):
                return outcome.record
        raise Overloaded("The task changes too fast to be cancelled; try again.", retry_after=1)

    async def _replay(self, task_id: str, principal: Principal) -> Routed:
        dead = await read(self._reader.task(task_id))
        if dead is None or not principal.owns(dead.task.principal):
            raise NotFound("There is no such task.")
        if dead.progress.state is not State.DEAD:
            raise NotDead(f"The task is {dead.progress.state.value}.")
        if dead.erased:
            raise DataErased("What the task held was destroyed.")
        task = self._admission.again(dead.task)
        key = Key(REPLAYS, dead.task.task_id, dead.task.task_id)
        return await self._accept(task, None, key, principal.subject)


def _routed(outcome: Outcome) -> Routed:
    match outcome:
        case Accepted(record, receipt):
            return Routed(Answer.QUEUED, record, receipt)
        case Duplicate(record, receipt):
            return Routed(Answer.DUPLICATE, record, receipt)
        case Reused():
            raise KeyReused("The key belongs to a request with another body.")
        case Noted():
            raise consent_required()
        case Denied():
            raise ConsentRequired("The consent that the task names was revoked.")
        case Full(priority):
            raise Overloaded(f"There are too many unfinished tasks of priority {priority.value}.", retry_after=5)
        case _:
            raise AuditUnavailable("The ledger did not take this request.")
