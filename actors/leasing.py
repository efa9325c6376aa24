"""From a hint that a task waits to the lease of it: read, decided anew, given a slot, leased by compare-and-set.

Shared by all who take work from the queue; how the task then gets done is their own affair.
"""

from collections.abc import Collection, Sequence
from enum import Enum

import anyio
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.actors.at_hand import AtHand
from orchestrator.actors.attempts import Attempts
from orchestrator.actors.committing import Committer
from orchestrator.actors.reading import read
from orchestrator.actors.verdicts import draft
from orchestrator.domain.decision import Decision
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.lifecycle import Progress, State, Step
from orchestrator.domain.task import demand_of
from orchestrator.kernel.environment import Environment
from orchestrator.storage.commands import Failed, Moved, Outcome, TaskRecord, Transition
from orchestrator.storage.ports import LedgerReader, Queue, Ticket

HOLD_S = 1.0


class Job(Struct, frozen=True):
    """A task that was read, decided and given a slot; only its lease is missing."""

    record: TaskRecord
    decision: Decision
    agent_id: str


class NoJob(Enum):
    """Why a task is not leased now."""

    GONE = "somebody else has it, or it is over"
    WAITS = "nobody who may do it is free"


class Leasing:
    """`asking` are the pull agents that ask; None where the task is for those that are called."""

    def __init__(
        self,
        attempts: Attempts,
        environment: Environment,
        reader: LedgerReader,
        at_hand: AtHand,
        queue: Queue,
        committer: Committer,
    ) -> None:
        self._attempts, self._environment = attempts, environment
        self._reader, self._at_hand, self._queue, self._committer = reader, at_hand, queue, committer

    async def prepare(self, ticket: Ticket, asking: Collection[str] | None = None) -> Job | Ticket | None:
        """The job of a ticket; the ticket to wait with when nobody is free, None when the task is gone."""
        try:
            record = self._at_hand.find(ticket.task_id) or await read(self._reader.task(ticket.task_id))
        except OrchestratorError:
            await anyio.sleep(HOLD_S)
            return ticket
        return self._said(ticket, record, await self.place(record, asking))

    def _said(self, ticket: Ticket, record: TaskRecord | None, placed: Job | NoJob) -> Job | Ticket | None:
        match placed:
            case Job() as job:
                return job
            case NoJob.GONE:
                return None
            case NoJob.WAITS:
                # Consent that expired since acceptance puts the task in another line than the ledger says.
                lane = ticket.lane if record is None else demand_of(record.task, self._environment.now()).lane
                return replace(ticket, lane=lane)

    async def prepare_all(self, tickets: Sequence[Ticket]) -> list[Job | Ticket | None]:
        """What `prepare` says of each, for those that are called: one read at most, one word to the registry."""
        try:
            records = await self._records([ticket.task_id for ticket in tickets])
        except OrchestratorError:
            await anyio.sleep(HOLD_S)
            return list(tickets)
        # In the order of the tickets: those before others get the slots.
        known = [records[ticket.task_id] for ticket in tickets if ticket.task_id in records]
        placed = await self._place_all(await self._open(known))
        return [
            self._said(ticket, records.get(ticket.task_id), placed.get(ticket.task_id, NoJob.GONE))
            for ticket in tickets
        ]

    async def _records(self, task_ids: Sequence[str]) -> dict[str, TaskRecord]:
        """By their ids; without those that the ledger does not know."""
        copies = {task_id: self._at_hand.find(task_id) for task_id in task_ids}
        records = {task_id: copy for task_id, copy in copies.items() if copy is not None}
        unknown = [task_id for task_id, copy in copies.items() if copy is None]
        found = await read(self._reader.records(unknown)) if unknown else ()
        return records | {record.task.task_id: record for record in found}

    async def _place_all(self, records: Sequence[TaskRecord]) -> dict[str, Job | NoJob]:
        decisions = self._attempts.decide_each(records)
        wanted = [(record.task, decision.ranking) for record, decision in zip(records, decisions, strict=True)]
        agents = await self._attempts.reserve_each(wanted)
        placed: dict[str, Job | NoJob] = {}
        for record, decision, agent_id in zip(records, decisions, agents, strict=True):
            if decision.refused:
                await self._refuse(record, decision)
            placed[record.task.task_id] = _placed(record, decision, agent_id)
        return placed

    async def place_known(self, task_id: str, asking: Collection[str]) -> Job | None:
        """A slot for that very task, of the first that asks and may do it. Raises AuditUnavailable."""
        job = await self.place(await read(self._reader.task(task_id)), asking, leading=False)
        return job if isinstance(job, Job) else None

    async def place(
        self, record: TaskRecord | None, asking: Collection[str] | None = None, *, leading: bool = True
    ) -> Job | NoJob:
        """A slot for the task of `record` as it is now, if it is ready and somebody is free; it may end here as well.

        `leading`: who asks gets it only where the decision has one of them before all that are called.
        """
        if record is None or not await self._open([record]):
            return NoJob.GONE
        decision = self._attempts.decide(record, asking or ())
        agent_id = await self._attempts.reserve(record.task, _ranking(decision, asking, leading))
        if decision.refused:
            await self._refuse(record, decision)
        return _placed(record, decision, agent_id)

    async def _open(self, records: Sequence[TaskRecord]) -> Sequence[TaskRecord]:
        """Those that are ready; where its time is over a task ends here."""
        now, is_open = self._environment.now(), list[TaskRecord]()
        for record in records:
            if record.progress.state is not State.QUEUED or record.progress.due_at is not None:
                continue
            if now < record.task.deadline_at:
                is_open.append(record)
            else:
                await self._end(record, Step.EXPIRE, "deadline")
        return is_open

    async def _refuse(self, record: TaskRecord, decision: Decision) -> None:
        await self._end(record, Step.DENY, "consent", decision)

    async def lease(self, job: Job, leased: Progress, ticket: Ticket | None = None) -> TaskRecord | None:
        """The task once it is `leased`: should it be queued anew, it is announced anew. Else its ticket is given back.

        Whoever takes the ticket of a task that somebody else has meanwhile will see that.
        """
        record: TaskRecord | None = None
        try:
            record = await self._try(job.record, leased, Step.LEASE, job.decision)
        finally:
            if ticket is not None:
                if record is None:
                    self._queue.give_back(ticket)
                else:
                    self._queue.done(ticket)
        return record

    async def lease_all(self, leases: Sequence[tuple[Job, Progress, Ticket]]) -> list[TaskRecord | None]:
        """The same for each of several jobs, with one commit."""
        records: Sequence[TaskRecord | None] = [None] * len(leases)
        try:
            now = self._environment.now()
            changes = [_change(job.record, leased, Step.LEASE, now, job.decision) for job, leased, _ in leases]
            records = await self._try_all(changes)
        finally:
            for (_, _, ticket), record in zip(leases, records, strict=True):
                if record is None:
                    self._queue.give_back(ticket)
                else:
                    self._queue.done(ticket)
        return list(records)

    async def _end(self, record: TaskRecord, step: Step, reason: str, decision: Decision | None = None) -> None:
        await self._try(record, record.progress.end(step, reason), step, decision)

    async def _try(
        self, record: TaskRecord, progress: Progress, step: Step, decision: Decision | None
    ) -> TaskRecord | None:
        (moved,) = await self._try_all([_change(record, progress, step, self._environment.now(), decision)])
        return moved

    async def _try_all(self, changes: Sequence[Transition]) -> list[TaskRecord | None]:
        """The tasks after their transitions; None where somebody was faster, or if it cannot be written: then after a
        while."""
        try:
            outcomes = await self._committer.commit_all(changes)
        except OrchestratorError:
            outcomes: Sequence[Outcome] = [Failed("")] * len(changes)
        for change, outcome in zip(changes, outcomes, strict=True):
            if not isinstance(outcome, Moved):
                self._at_hand.drop(change.record.task.task_id)
        if any(isinstance(outcome, Failed) for outcome in outcomes):
            await anyio.sleep(HOLD_S)
        return [outcome.record if isinstance(outcome, Moved) else None for outcome in outcomes]


def _ranking(decision: Decision, asking: Collection[str] | None, leading: bool) -> tuple[str, ...]:
    """Of those who may be given the task now: the ones that are called, or the ones that ask."""
    if asking is None:
        return decision.ranking
    if leading and decision.agent_id not in asking:
        return ()
    return tuple(agent_id for agent_id in decision.ranking if agent_id in asking)


def _placed(record: TaskRecord, decision: Decision, agent_id: str | None) -> Job | NoJob:
    if decision.refused:
        return NoJob.GONE
    return NoJob.WAITS if agent_id is None else Job(record, decision, agent_id)


def _change(record: TaskRecord, progress: Progress, step: Step, now: float, decision: Decision | None) -> Transition:
    return Transition(record, progress, draft(step.value, record, progress, now, decision))
