"""Accepts tasks: idempotency, consent, decision. What it accepts is on stable storage before it answers."""

from collections.abc import Sequence

import anyio
from msgspec.structs import replace

from orchestrator.actors.admission import Acceptance, Admission
from orchestrator.actors.committing import Committer
from orchestrator.actors.crew import Crew
from orchestrator.actors.events import ConsentWithdrawn, Emit, TaskRefused, TasksErased
from orchestrator.actors.intake import Intake
from orchestrator.actors.messages import (
    CancelTask,
    Directory,
    EraseTasks,
    ExplainTask,
    ReplayTask,
    Routed,
    RouterMessage,
    RouteTask,
    RouteTasks,
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
    DataErased,
    NotDead,
    NotFound,
    OrchestratorError,
    Overloaded,
    PayloadRemoved,
)
from orchestrator.domain.idempotency import REPLAYS
from orchestrator.domain.identity import Principal
from orchestrator.domain.lifecycle import State, Step
from orchestrator.domain.policy import Policy
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.ref import Ref
from orchestrator.kernel.watch import Watch
from orchestrator.storage.commands import (
    ERASED,
    Erase,
    Erased,
    Key,
    Moved,
    RevokeConsent,
    Revoked,
    TaskRecord,
    Transition,
)
from orchestrator.storage.ports import LedgerReader

CANCEL_TRIES = 5
PATIENCE_S = 1.0
BATCH = 256
"""Messages that are taken at once."""


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
        self._environment, self._acceptance = environment, acceptance
        self._admission = Admission(environment, policy, acceptance, directory)
        self._intake = Intake(self._admission, policy, acceptance, committer, sync_dispatcher, emit)
        self._reader, self._committer, self._emit = reader, committer, emit
        self._served = 0
        self._left = anyio.Event()

    async def run(self, inbox: Inbox[RouterMessage]) -> None:
        async with anyio.create_task_group() as group:
            singly, together = Crew(group, self._serve_one), Crew(group, self._serve_waiting)
            inbox.ready()
            async for batch in inbox.batches(BATCH):
                await self._room_for(len(batch), inbox)
                waiting: list[RouteTask] = []
                for message in batch:
                    if isinstance(message, RouteTask) and not self._intake.is_sync(message.request):
                        waiting.append(message)
                    else:
                        singly.give(message)
                if waiting:
                    together.give(waiting)
            singly.dismiss()
            together.dismiss()

    async def _room_for(self, coming: int, inbox: Inbox[RouterMessage]) -> None:
        """Waiting for those who are served, each of whom has a deadline, is not being stuck."""
        while self._served and self._served + coming > self._acceptance.at_once:
            self._left = anyio.Event()
            with anyio.move_on_after(PATIENCE_S):
                await self._left.wait()
            inbox.progress()
        self._served += coming

    def _leave(self, served: int) -> None:
        self._served -= served
        self._left.set()

    async def _serve_waiting(self, messages: Sequence[RouteTask]) -> None:
        """Requests that waited at the same moment share a commit, and nothing else."""
        try:
            for message, answer in zip(messages, await self._intake.route_waiting(messages), strict=True):
                if isinstance(answer, Routed):
                    message.reply.send(answer)
                else:
                    message.reply.fail(answer)
        finally:
            self._leave(len(messages))

    async def _serve_one(self, message: RouterMessage) -> None:
        try:
            await self._serve(message)
        finally:
            self._leave(1)

    async def _serve(self, message: RouterMessage) -> None:
        try:
            match message:
                case RouteTask():
                    message.reply.send(await self._intake.route(message))
                case RouteTasks():
                    message.reply.send(await self._intake.route_all(message))
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
        now = self._admission.moment()
        task = self._admission.task(message.request, message.principal, now.at)
        decision, consent_id = self._admission.plan(task, None, None, now.tick).decision, task.consent.consent_id
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
        if dead.payload_removed:
            raise PayloadRemoved("The task's payload is not kept any more; send it anew.")
        task = self._admission.again(dead.task)
        key = Key(REPLAYS, dead.task.task_id, dead.task.task_id)
        return await self._intake.accept(task, None, key, principal.subject)
