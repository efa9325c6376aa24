"""Accepts tasks: idempotency, consent, decision. What it accepts is on stable storage before it answers."""

from functools import partial

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct
from msgspec.json import encode
from msgspec.structs import replace

from orchestrator.actors.attempts import draft
from orchestrator.actors.committing import Committer
from orchestrator.actors.events import Emit, TaskAccepted, TaskRefused
from orchestrator.actors.messages import (
    Answer,
    CancelTask,
    Directory,
    Ended,
    ExplainTask,
    NotRun,
    ReplayTask,
    Routed,
    RouterMessage,
    RouteTask,
    Running,
    RunSync,
)
from orchestrator.actors.reading import read
from orchestrator.domain.audit import AuditDraft
from orchestrator.domain.decision import Decision
from orchestrator.domain.errors import (
    AlreadyFinished,
    AuditUnavailable,
    ConsentRequired,
    InProgress,
    InvalidRequest,
    InvalidTaskType,
    KeyReused,
    NotDead,
    NotFound,
    OrchestratorError,
    Overloaded,
)
from orchestrator.domain.idempotency import fingerprint
from orchestrator.domain.lifecycle import Progress, State, Step
from orchestrator.domain.policy import Policy, decide
from orchestrator.domain.raw_media import carries_raw_media
from orchestrator.domain.task import Task, TaskRequest, demand_of
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.errors import KernelError, NotDelivered
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.ref import Ref
from orchestrator.kernel.watch import Watch
from orchestrator.storage.commands import (
    Accept,
    Accepted,
    Duplicate,
    Full,
    Key,
    Moved,
    Note,
    Outcome,
    Reused,
    TaskRecord,
    Transition,
)
from orchestrator.storage.ports import LedgerReader

REPLAYS = "replay"
"""The scope of the keys under which dead letters are replayed; callers have other scopes."""
CANCEL_TRIES = 5
PATIENCE_S = 1.0


class Acceptance(Struct, frozen=True):
    """The settings of acceptance. Times are in seconds; `max_open` bounds the unfinished tasks of a class."""

    raw_media_keys: frozenset[str]
    deadline_s: float
    key_expiry_s: float
    max_open: int
    sync_within_s: float
    at_once: int = 512


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
        self._reader, self._directory, self._committer = reader, directory, committer
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
                    message.reply.send(await self._route(message.request, message.scope))
                case ExplainTask():
                    task = self._task(message.request)
                    message.reply.send(self._decide(task))
                case CancelTask():
                    message.reply.send(await self._cancel(message.task_id))
                case ReplayTask():
                    message.reply.send(await self._replay(message.task_id))
        except OrchestratorError as error:
            if isinstance(message, RouteTask | ReplayTask):
                self._emit(TaskRefused(error.code))
            message.reply.fail(error)

    async def _route(self, request: TaskRequest, scope: str) -> Routed:
        task = self._task(request)
        if request.idempotency_key is None:
            return await self._accept(task, request, None)
        name, mark = (scope, request.idempotency_key), fingerprint(request)
        if name in self._answering:
            if self._answering[name] != mark:
                raise KeyReused("The key is in use for a request with another body.")
            raise InProgress("The first request with this key has not been answered yet.", retry_after=1)
        self._answering[name] = mark
        try:
            return await self._accept(task, request, self._key(*name, mark))
        finally:
            del self._answering[name]

    def _key(self, scope: str, key: str, mark: str) -> Key:
        kept = self._acceptance.key_expiry_s
        return Key(scope, key, mark, self._environment.now() + kept if kept else None)

    def _task(self, request: TaskRequest) -> Task:
        """The task that the request asks for. Raises InvalidTaskType or InvalidRequest."""
        if request.task_type not in self._policy.task_types:
            raise InvalidTaskType("The task type is not one of those in the settings.")
        now, keys = self._environment.now(), self._acceptance.raw_media_keys
        deadline_at = now + (request.deadline_s or self._acceptance.deadline_s)
        if request.not_before is not None and request.not_before.timestamp() >= deadline_at:
            raise InvalidRequest("not_before lies beyond the deadline.")
        return Task(
            task_id=f"task-{self._environment.token(16)}",
            case_id=request.case_id,
            task_type=request.task_type,
            payload=request.payload,
            priority=request.priority,
            consent=request.consent,
            meta=request.meta,
            # Agents are given `meta` as well, so what it holds counts as much.
            raw_media=carries_raw_media(request.payload, keys) or carries_raw_media(request.meta, keys),
            created_at=now,
            deadline_at=deadline_at,
            idempotency_key=request.idempotency_key,
        )

    def _decide(self, task: Task) -> Decision:
        demand = demand_of(task, self._environment.now())
        return decide(demand, self._directory.value.values(), anyio.current_time(), self._policy)

    async def _accept(self, task: Task, request: TaskRequest | None, key: Key | None) -> Routed:
        """Decides, stores, and where the type is synchronous and somebody is free, has it done."""
        began, decision = anyio.current_time(), self._decide(task)
        if decision.refused:
            await self._refuse(task, decision)
        not_before = request.not_before.timestamp() if request is not None and request.not_before else None
        due_at = not_before if not_before is not None and not_before > task.created_at else None
        accept = self._command(task, decision, key, due_at)
        if due_at is None and decision.ranking and self._policy.task_types[task.task_type].sync:
            routed = await self._run_sync(accept, decision)
            if routed is not None:
                self._accepted(routed, began)
                return routed
        routed = _routed(await self._committer.commit(accept))
        self._accepted(routed, began)
        return routed

    async def _refuse(self, task: Task, decision: Decision) -> None:
        audit = AuditDraft(
            event="refused",
            created_at=task.created_at,
            case_id=task.case_id,
            router_decision=encode(decision).decode(),
            consent_id=task.consent.consent_id,
            status=State.DENIED.value,
            reason=ConsentRequired.code,
        )
        await self._committer.commit(Note(audit))
        raise ConsentRequired("The task carries raw media, and its consent is not given or has expired.")

    def _command(self, task: Task, decision: Decision, key: Key | None, due_at: float | None) -> Accept:
        progress = Progress(due_at=due_at)
        record = TaskRecord(0, task, progress, task.created_at)
        audit = draft("accepted", record, progress, task.created_at, decision)
        lane = demand_of(task, task.created_at).lane
        return Accept(task, progress, lane, audit, key, self._acceptance.max_open)

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
            case Ended(record):
                done = record.progress.state is State.SUCCEEDED
                return Routed(Answer.COMPLETED_SYNC if done else Answer.QUEUED, record)
            case Running(record):
                return Routed(Answer.QUEUED, record)
            case _:
                return _routed(outcome)

    def _accepted(self, routed: Routed, began: float) -> None:
        if routed.answer is Answer.DUPLICATE:
            return
        task, seconds = routed.record.task, anyio.current_time() - began
        queued = routed.answer is Answer.QUEUED
        self._emit(TaskAccepted(task.task_id, task.task_type, task.priority, queued, seconds))

    async def _cancel(self, task_id: str) -> TaskRecord:
        for _ in range(CANCEL_TRIES):
            record = await read(self._reader.task(task_id))
            if record is None:
                raise NotFound("There is no such task.")
            if record.progress.state.final:
                raise AlreadyFinished(f"The task is {record.progress.state.value}, which is final.")
            progress = record.progress.end(Step.CANCEL, "cancelled")
            audit = draft(Step.CANCEL.value, record, progress, self._environment.now())
            outcome = await self._committer.commit(Transition(record, progress, audit))
            if isinstance(outcome, Moved):
                return outcome.record
        raise Overloaded("The task changes too fast to be cancelled; try again.", retry_after=1)

    async def _replay(self, task_id: str) -> Routed:
        dead = await read(self._reader.task(task_id))
        if dead is None:
            raise NotFound("There is no such task.")
        if dead.progress.state is not State.DEAD:
            raise NotDead(f"The task is {dead.progress.state.value}.")
        if dead.task.task_type not in self._policy.task_types:
            raise InvalidTaskType("The settings do not know the task's type any more.")
        now, old = self._environment.now(), dead.task
        task = replace(
            old,
            task_id=f"task-{self._environment.token(16)}",
            created_at=now,
            deadline_at=now + (old.deadline_at - old.created_at),
            idempotency_key=None,
            replay_of=old.task_id,
        )
        return await self._accept(task, None, Key(REPLAYS, old.task_id, old.task_id))


def _routed(outcome: Outcome) -> Routed:
    match outcome:
        case Accepted(record):
            return Routed(Answer.QUEUED, record)
        case Duplicate(record):
            return Routed(Answer.DUPLICATE, record)
        case Reused():
            raise KeyReused("The key belongs to a request with another body.")
        case Full(priority):
            raise Overloaded(f"There are too many unfinished tasks of priority {priority.value}.", retry_after=5)
        case _:
            raise AuditUnavailable("The ledger did not take this request.")
