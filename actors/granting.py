"""Leasing a task to a pull agent that asks, and taking it back when nobody heard of it."""

from collections.abc import Iterable

import anyio

from orchestrator.actors.attempts import Attempts
from orchestrator.actors.committing import Committer
from orchestrator.actors.leasing import Job, Leasing
from orchestrator.actors.messages import Granted
from orchestrator.actors.pull_leases import MARGIN_S, Hold, is_pulled
from orchestrator.actors.reading import read
from orchestrator.actors.verdicts import draft
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.lifecycle import Step
from orchestrator.domain.policy import Policy
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.monotonic import monotonic
from orchestrator.storage.commands import TaskRecord, Transition
from orchestrator.storage.ports import LedgerReader, Ticket

CLEAN_UP_S = 1.0


class Granting:
    """The slot of a job is reserved for as long as its lease is being written; from then on the lease counts."""

    def __init__(
        self,
        attempts: Attempts,
        leasing: Leasing,
        environment: Environment,
        policy: Policy,
        reader: LedgerReader,
        committer: Committer,
    ) -> None:
        self._attempts, self._leasing = attempts, leasing
        self._environment, self._policy = environment, policy
        self._reader, self._committer = reader, committer

    async def grant(self, job: Job, ticket: Ticket | None) -> Granted | None:
        """The job's task, leased to its agent; None when somebody was faster, or the agent may not have it any more.

        If it is cancelled, the task goes back to the queue, uncounted.
        """
        task, before = job.record.task, job.record.progress
        now = self._environment.now()
        until = min(now + self._policy.task_types[task.task_type].timeout_s, task.deadline_at)
        hold = Hold(job.agent_id, before.attempt + 1, self._environment.token(16))
        leased = before.lease(job.agent_id, hold.owner, until + MARGIN_S)
        record: TaskRecord | None = None
        try:
            record = await self._leasing.lease(job, leased, ticket)
        except BaseException:
            with anyio.move_on_after(CLEAN_UP_S, shield=True):
                await self._give_back(TaskRecord(job.record.seq, task, leased, now))
            raise
        await self._attempts.release(job.agent_id)
        if record is None:
            return None
        call = self._attempts.outgoing(record, job.agent_id, self._environment.now())
        if call is None:
            await self._give_back(record)
            return None
        return Granted(call, hold, until, task.deadline_at)

    async def take_back(self, granted: Iterable[Granted]) -> None:
        """What was leased to somebody who did not hear of it is queued again. What cannot be, lapses."""
        for one in granted:
            try:
                record = await read(self._reader.task(one.call.task_id))
            except OrchestratorError:
                return
            if record is not None and is_pulled(record.progress) and one.hold.fits(record.progress):
                await self._give_back(record)

    async def _give_back(self, record: TaskRecord) -> None:
        progress = record.progress.give_back("not_sent")
        audit = draft(Step.GIVE_BACK.value, record, progress, self._environment.now())
        # One try: what is not written lapses.
        await self._committer.persist([Transition(record, progress, audit)], monotonic())
