"""What comes from agents that have a task: its result, or word that they are still at it. Only its holder is heard."""

from orchestrator.actors.attempts import LEASE_MARGIN_S
from orchestrator.actors.committing import Committer
from orchestrator.actors.feed import Headway, TaskFeed
from orchestrator.actors.messages import Extended, ExtendLease, GiveResult
from orchestrator.actors.pull_leases import CALLED, MARGIN_S, Hold, PullLeases, is_pulled
from orchestrator.actors.reading import read
from orchestrator.actors.verdicts import Verdicts, draft
from orchestrator.domain.errors import NotFound, OrchestratorError, Overloaded, StaleLease
from orchestrator.domain.lifecycle import Progress, State, Step
from orchestrator.domain.policy import Policy
from orchestrator.kernel.environment import Environment
from orchestrator.outbound.ports import Declined, Succeeded
from orchestrator.storage.commands import Moved, TaskRecord, Transition
from orchestrator.storage.ports import LedgerReader

TRIES = 3
RENEWED_BY = 1 / 3
"""What share of an attempt's time must be gone before a lease is written anew: word may come as often as it likes."""


class HandingIn:
    """Answers each message, with an OrchestratorError where it must be."""

    def __init__(
        self,
        environment: Environment,
        policy: Policy,
        verdicts: Verdicts,
        reader: LedgerReader,
        committer: Committer,
        leases: PullLeases,
        feed: TaskFeed,
    ) -> None:
        self._environment, self._policy, self._verdicts = environment, policy, verdicts
        self._reader, self._committer = reader, committer
        self._leases, self._feed = leases, feed

    async def serve(self, message: GiveResult | ExtendLease) -> None:
        """Answers `message`."""
        try:
            if isinstance(message, GiveResult):
                message.reply.send(await self._result(message.task_id, message.hold, message.ending))
            else:
                message.reply.send(await self._extend(message))
        except OrchestratorError as error:
            message.reply.fail(error)

    async def _result(self, task_id: str, hold: Hold, ending: Succeeded | Declined) -> TaskRecord:
        for _ in range(TRIES):
            record = await self._record(task_id)
            if not hold.fits(record.progress) or not (is_pulled(record.progress) or _says(record.progress, ending)):
                raise _stale()
            if not is_pulled(record.progress):
                return record
            self._know(record)
            outcome = await self._committer.commit(self._verdicts.ended(record, ending))
            if isinstance(outcome, Moved):
                return outcome.record
        raise Overloaded("The task changes too fast; try again.", retry_after=1)

    async def _extend(self, message: ExtendLease) -> Extended:
        hold, now = message.hold, self._environment.now()
        record = await self._record(message.task_id)
        progress = record.progress
        if not (_is_called(progress, hold) or (is_pulled(progress) and hold.fits(progress) and now < _told(progress))):
            raise _stale()
        if message.done is not None or message.note is not None:
            self._feed.advance(message.task_id, Headway(hold.attempt, message.done, message.note, hold.agent_id))
        # Whoever is called has the time of the call, which nobody can stretch.
        return await self._renewed(record, now) if is_pulled(progress) else Extended(record, _told(progress))

    async def _renewed(self, record: TaskRecord, now: float) -> Extended:
        task, until = record.task, _told(record.progress)
        kind = self._policy.task_types.get(task.task_type)
        wanted = until if kind is None else min(now + kind.timeout_s, task.deadline_at)
        if kind is None or wanted - until < kind.timeout_s * RENEWED_BY:
            return Extended(record, until)
        self._know(record)
        progress = record.progress.extend(wanted + MARGIN_S)
        audit = draft(Step.EXTEND.value, record, progress, now)
        outcome = await self._committer.commit(Transition(record, progress, audit))
        if not isinstance(outcome, Moved):
            raise _stale()
        return Extended(outcome.record, wanted)

    def _know(self, record: TaskRecord) -> None:
        """Another replica may have leased it: then nobody here knows yet since when."""
        self._leases.committed(record)

    async def _record(self, task_id: str) -> TaskRecord:
        record = await read(self._reader.task(task_id))
        if record is None:
            raise NotFound("There is no such task.")
        return record


def _told(progress: Progress) -> float:
    """Until when the holder of the lease was told that it may work, in seconds since the epoch."""
    return (progress.lease_until or 0.0) - (MARGIN_S if is_pulled(progress) else LEASE_MARGIN_S)


def _says(progress: Progress, ending: Succeeded | Declined) -> bool:
    """Whether the task stands as this ending has left it."""
    after = (State.SUCCEEDED,) if isinstance(ending, Succeeded) else (State.RETRY_WAIT, State.DEAD)
    return progress.state in after


def _is_called(progress: Progress, hold: Hold) -> bool:
    """Whether the agent is at that attempt because it was called: then it has no nonce to show."""
    called = progress.state is State.LEASED and (progress.owner or "").startswith(CALLED)
    return called and not hold.nonce and (progress.attempt, progress.agent_id) == (hold.attempt, hold.agent_id)


def _stale() -> StaleLease:
    return StaleLease("The lease is over, or was never this agent's. What was done under it is not wanted any more.")
