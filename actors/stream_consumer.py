"""Takes work from the queue in its order, and has it done by the agents that are free."""

from functools import partial

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.actors.attempts import Attempts, draft
from orchestrator.actors.committing import Committer
from orchestrator.actors.drain import Drain
from orchestrator.actors.messages import Directory
from orchestrator.actors.reading import read
from orchestrator.domain.decision import Decision
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.lifecycle import Progress, State, Step
from orchestrator.domain.policy import Policy, decide
from orchestrator.domain.task import Priority, demand_of, demand_of_lane
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.watch import Watch
from orchestrator.storage.commands import Moved, TaskRecord, Transition
from orchestrator.storage.ports import LedgerReader, Queue, Ticket

HOLD_S = 1.0


class Job(Struct, frozen=True):
    """A task that was read, decided and given a slot; only its lease is missing."""

    record: TaskRecord
    decision: Decision
    agent_id: str


class StreamConsumer:
    """Holds nothing that is not in the ledger: a ticket is a hint, the lease is the right to call."""

    def __init__(
        self,
        attempts: Attempts,
        environment: Environment,
        policy: Policy,
        directory: Watch[Directory],
        reader: LedgerReader,
        queue: Queue,
        committer: Committer,
        drain: Drain,
        *,
        slots: int,
    ) -> None:
        """`slots` bounds the calls at once; the last one of them is kept for urgent work."""
        self._attempts, self._environment, self._policy = attempts, environment, policy
        self._directory, self._reader, self._queue = directory, reader, queue
        self._committer, self._drain = committer, drain
        self._slots, self._busy = slots, 0

    async def run(self, inbox: Inbox[object]) -> None:
        await self._attempts.recover(self._reader)
        async with anyio.create_task_group() as calls:
            inbox.ready()
            await self._take_until_stopped(inbox, calls)
            await inbox.wait_stopping()
            self._drain.hurry(calls.cancel_scope)

    async def _take_until_stopped(self, inbox: Inbox[object], calls: TaskGroup) -> None:
        async with anyio.create_task_group() as taking:
            taking.start_soon(self._follow_directory)
            taking.start_soon(self._take_work, inbox, calls)
            taking.start_soon(self._stop_taking, taking)
            await inbox.wait_stopping()
            taking.cancel_scope.cancel()

    async def _stop_taking(self, taking: TaskGroup) -> None:
        await self._drain.wait()
        taking.cancel_scope.cancel()

    async def _follow_directory(self) -> None:
        while True:
            await self._directory.changed()
            self._queue.wake()

    async def _take_work(self, inbox: Inbox[object], calls: TaskGroup) -> None:
        while True:
            inbox.at_work(False)
            ticket = await self._queue.take(self._routable, self._slots_for)
            inbox.at_work(True)
            self._busy += 1
            try:
                job = await self._prepare(ticket)
            except BaseException:
                self._queue.give_back(ticket)
                self._free()
                raise
            match job:
                case Job():
                    calls.start_soon(self._drain.bounded, partial(self._perform, ticket, job))
                case Ticket():
                    self._queue.give_back(job)
                    self._free()
                case None:
                    self._queue.done(ticket)
                    self._free()

    def _free(self) -> None:
        self._busy -= 1
        self._queue.wake()

    def _slots_for(self, priority: Priority) -> int:
        return max(0, self._slots - self._busy - (priority is not Priority.URGENT))

    def _routable(self, ticket: Ticket) -> bool:
        """Whether some agent could take the tasks of the ticket's lane now."""
        urgent = ticket.priority is Priority.URGENT
        demand = demand_of_lane(ticket.lane, urgent=urgent)
        if demand.task_type not in self._policy.task_types:
            return False
        if demand.raw_media and not demand.consented:
            return True
        return bool(decide(demand, self._directory.value.values(), anyio.current_time(), self._policy).ranking)

    async def _prepare(self, ticket: Ticket) -> Job | Ticket | None:
        """Reads, decides anew, takes a slot; the ticket to wait with when none is free, None when the task is gone."""
        try:
            record = await read(self._reader.task(ticket.task_id))
        except OrchestratorError:
            await anyio.sleep(HOLD_S)
            return ticket
        if record is None or record.progress.state is not State.QUEUED or record.progress.due_at is not None:
            return None
        if self._environment.now() >= record.task.deadline_at:
            await self._end(record, Step.EXPIRE, "deadline")
            return None
        decision = self._attempts.decide(record)
        if decision.refused:
            await self._end(record, Step.DENY, "consent", decision)
            return None
        agent_id = await self._attempts.reserve(record.task, decision)
        if agent_id is None:
            # Consent that expired since acceptance puts the task in another line than the ledger says.
            lane = demand_of(record.task, self._environment.now()).lane
            return replace(ticket, lane=lane)
        return Job(record, decision, agent_id)

    async def _end(self, record: TaskRecord, step: Step, reason: str, decision: Decision | None = None) -> None:
        progress = record.progress.end(step, reason)
        await self._try(record, progress, step, decision)

    async def _try(
        self, record: TaskRecord, progress: Progress, step: Step, decision: Decision | None
    ) -> TaskRecord | None:
        """One transition; None when somebody was faster, or when it cannot be written: then after a while."""
        audit = draft(step.value, record, progress, self._environment.now(), decision)
        try:
            outcome = await self._committer.commit(Transition(record, progress, audit))
        except OrchestratorError:
            await anyio.sleep(HOLD_S)
            return None
        return outcome.record if isinstance(outcome, Moved) else None

    async def _perform(self, ticket: Ticket, job: Job) -> None:
        try:
            leased = await self._lease(ticket, job)
            if leased is None:
                await self._attempts.release(job.agent_id)
                return
            await self._attempts.see_through(leased)
        finally:
            self._free()

    async def _lease(self, ticket: Ticket, job: Job) -> TaskRecord | None:
        """The task once it is leased: should it be queued anew, it is announced anew. Else its ticket is given back.

        Whoever takes the ticket of a task that somebody else has meanwhile will see that.
        """
        leased: TaskRecord | None = None
        try:
            progress = self._attempts.leased(job.record.task, job.record.progress, job.agent_id)
            leased = await self._try(job.record, progress, Step.LEASE, job.decision)
        finally:
            if leased is None:
                self._queue.give_back(ticket)
            else:
                self._queue.done(ticket)
        return leased
