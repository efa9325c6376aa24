"""Accepting tasks: idempotency, the plan, the commit, and the synchronous attempt where the type is for one."""

from collections.abc import Iterable, Sequence
from copy import copy
from functools import partial

import anyio
import anyio.lowlevel

from orchestrator.actors.admission import Acceptance, Admission, Moment, Plan, consent_required
from orchestrator.actors.committing import Committer
from orchestrator.actors.events import ConsentOverridden, Emit, TaskAccepted, TaskRefused, TasksAccepted
from orchestrator.actors.messages import Answer, Ended, NotRun, Routed, RouteTask, RouteTasks, Running, RunSync
from orchestrator.domain.decision import Decision
from orchestrator.domain.errors import (
    AuditUnavailable,
    ConsentRequired,
    InProgress,
    KeyReused,
    OrchestratorError,
    Overloaded,
)
from orchestrator.domain.idempotency import fingerprint
from orchestrator.domain.lifecycle import State
from orchestrator.domain.policy import Policy
from orchestrator.domain.task import Task, TaskRequest
from orchestrator.kernel.errors import KernelError, NotDelivered
from orchestrator.kernel.monotonic import monotonic
from orchestrator.kernel.ref import Ref
from orchestrator.storage.commands import Accept, Accepted, Denied, Duplicate, Full, Key, Noted, Outcome, Reused

CALLERS = "caller:"
"""Before a caller's name: the scope of its keys."""
SHARE = 32
"""Tasks that are planned at once before others get their turn."""

Name = tuple[str, str]
Sender = RouteTask | RouteTasks


class Intake:
    """What it has accepted is on stable storage when it returns."""

    def __init__(
        self,
        admission: Admission,
        policy: Policy,
        acceptance: Acceptance,
        committer: Committer,
        sync_dispatcher: Ref[RunSync],
        emit: Emit,
    ) -> None:
        self._admission, self._policy, self._acceptance = admission, policy, acceptance
        self._committer, self._sync_dispatcher, self._emit = committer, sync_dispatcher, emit
        self._answering: dict[Name, str] = {}
        """Keys whose first request is being answered at this moment, and their fingerprints."""

    def is_sync(self, request: TaskRequest) -> bool:
        """Whether what is asked for may be done while the sender waits."""
        kind = self._policy.task_types.get(request.task_type)
        return kind is not None and kind.sync

    async def route(self, message: RouteTask) -> Routed:
        """Accepts one task. Raises an OrchestratorError."""
        request = message.request
        task = self._admission.task(request, message.principal, self._admission.moment().at, message.traceparent)
        if request.idempotency_key is None:
            return await self.accept(task, request, None)
        key = self._claim(_name(request.idempotency_key, message), request, task.created_at)
        try:
            return await self.accept(task, request, key)
        finally:
            del self._answering[key.scope, key.key]

    async def route_waiting(self, messages: Sequence[RouteTask]) -> list[Routed | OrchestratorError]:
        """Accepts tasks that nobody waits to have done; each is answered for itself, whatever comes of the commit."""
        return await self._accept_all([(it.request, it) for it in messages], together=False)

    async def route_all(self, message: RouteTasks) -> list[Routed | OrchestratorError]:
        """As above, but raises an OrchestratorError for all if the commit cannot be confirmed.

        The ledger tells which keys of the batch are the same one.
        """
        return await self._accept_all([(it, message) for it in message.requests], together=True)

    async def accept(self, task: Task, request: TaskRequest | None, key: Key | None, by: str | None = None) -> Routed:
        """Decides, stores, and where the type is synchronous and somebody is free, has it done."""
        began = monotonic()
        plan = self._admission.plan(task, request, key, began, by)
        routed = None
        if plan.startable is not None and self._policy.task_types[task.task_type].sync:
            routed = await self._run_sync(plan.startable, plan.decision)
        if routed is None:
            routed = _routed(await self._committer.commit(plan.command))
        self._accepted([routed], monotonic() - began)
        return routed

    def _claim(self, name: Name, request: TaskRequest, now: float) -> Key:
        """The request's key, which others find in use until it is answered. Raises KeyReused or InProgress."""
        mark = fingerprint(request)
        if name in self._answering:
            if self._answering[name] != mark:
                raise KeyReused("The key is in use for a request with another body.")
            raise InProgress("The first request with this key has not been answered yet.", retry_after=1)
        self._answering[name] = mark
        return self._admission.key(*name, mark, now)

    async def _accept_all(
        self, orders: Iterable[tuple[TaskRequest, Sender]], *, together: bool
    ) -> list[Routed | OrchestratorError]:
        now = self._admission.moment()
        began = now.tick
        claimed = set[Name]()
        try:
            plans: list[Plan | OrchestratorError] = []
            for number, (request, sender) in enumerate(orders):
                if number % SHARE == SHARE - 1:
                    await anyio.lowlevel.checkpoint()
                    now = self._admission.moment()
                plans.append(self._planned(request, sender, claimed, now, together=together))
            outcomes = iter(await self._committed(plans, together))
        finally:
            for name in claimed:
                del self._answering[name]
        took = monotonic() - began
        answers = [self._told(next(outcomes)) if isinstance(plan, Plan) else self._refused(plan) for plan in plans]
        self._accepted([answer for answer in answers if isinstance(answer, Routed)], took)
        return answers

    async def _committed(
        self, plans: Sequence[Plan | OrchestratorError], together: bool
    ) -> Sequence[Outcome | OrchestratorError]:
        commands = [plan.command for plan in plans if isinstance(plan, Plan)]
        if not commands:
            return []
        try:
            return await self._committer.commit_all(commands)
        except OrchestratorError as error:
            if together:
                raise
            return [copy(error) for _ in commands]

    def _planned(
        self, request: TaskRequest, sender: Sender, claimed: set[Name], now: Moment, *, together: bool
    ) -> Plan | OrchestratorError:
        try:
            task = self._admission.task(request, sender.principal, now.at, sender.traceparent)
            if request.idempotency_key is None:
                return self._admission.plan(task, request, None, now.tick)
            name = _name(request.idempotency_key, sender)
            if together and name in claimed:
                key = self._admission.key(*name, fingerprint(request), task.created_at)
                return self._admission.plan(task, request, key, now.tick)
            key = self._claim(name, request, task.created_at)
            claimed.add(name)
            return self._admission.plan(task, request, key, now.tick)
        except OrchestratorError as error:
            return error

    def _told(self, outcome: Outcome | OrchestratorError) -> Routed | OrchestratorError:
        if isinstance(outcome, OrchestratorError):
            return self._refused(outcome)
        try:
            return _routed(outcome)
        except OrchestratorError as error:
            return self._refused(error)

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

    def _accepted(self, answers: Sequence[Routed], seconds: float) -> None:
        accepted: list[TaskAccepted] = []
        for routed in answers:
            if routed.answer is Answer.DUPLICATE:
                continue
            task, queued = routed.record.task, routed.answer is Answer.QUEUED
            if task.consent.override is not None:
                self._emit(ConsentOverridden(task.task_id))
            accepted.append(TaskAccepted(task.task_id, task.task_type, task.priority, queued, task.traceparent))
        if accepted:
            self._emit(TasksAccepted(accepted, seconds))


def _name(key: str, sender: Sender) -> Name:
    return f"{CALLERS}{sender.principal.subject}", key


def _routed(outcome: Outcome) -> Routed:
    match outcome:
        case Accepted():
            # Nearly all of them: a pattern that takes its fields apart costs twice as much.
            return Routed(Answer.QUEUED, outcome.record, outcome.receipt)
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
