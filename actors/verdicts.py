"""What the end of an attempt makes of its task, and the audit entry that says so, for agents called and asking alike.

Nothing here waits or writes; whoever has the transition commits it.
"""

from msgspec import Struct
from msgspec.json import encode

from orchestrator.actors.pull_leases import is_pulled
from orchestrator.domain.audit import AuditDraft, about
from orchestrator.domain.decision import Decision
from orchestrator.domain.disclosure import result_detail
from orchestrator.domain.lifecycle import Progress, Step
from orchestrator.domain.policy import Policy
from orchestrator.domain.retry import backoff
from orchestrator.kernel.environment import Environment
from orchestrator.outbound.ports import Busy, Declined, Ending, Garbled, Refused, Succeeded, TimedOut
from orchestrator.storage.commands import Result, TaskRecord, Transition


class RetryRules(Struct, frozen=True):
    """First back-off and its cap, in seconds."""

    base_s: float
    cap_s: float


class Verdicts:
    """Judges attempts that reached their agent."""

    def __init__(self, environment: Environment, policy: Policy, rules: RetryRules) -> None:
        self._environment, self._policy, self._rules = environment, policy, rules

    def ended(self, record: TaskRecord, ending: Ending) -> Transition:
        """After the leased attempt of `record` ended so: done, tried again later, or given up."""
        now, progress, result = self._environment.now(), record.progress, None
        if isinstance(ending, Succeeded):
            step, after = Step.SUCCEED, progress.succeed()
            result = Result(progress.attempt, progress.agent_id or "", ending.output, ending.model_version, now)
        else:
            step, after = self._failed(record, ending, now)
        audit = draft(step.value, record, after, now, result=result)
        return Transition(record, after, audit, result)

    def lapsed(self, record: TaskRecord) -> Transition:
        """After its lease is over: a pull agent was too slow, as one that is called may be; another holder is gone."""
        if is_pulled(record.progress):
            return self.ended(record, TimedOut())
        return lost(record, self._environment.now())

    def _failed(self, record: TaskRecord, ending: Ending, now: float) -> tuple[Step, Progress]:
        task, progress = record.task, record.progress
        if now >= task.deadline_at:
            return Step.EXPIRE, progress.end(Step.EXPIRE, "deadline")
        wait = backoff(progress.failures + 1, self._rules.base_s, self._rules.cap_s, self._environment.random.random())
        # The settings may have forgotten the type since.
        kind = self._policy.task_types.get(task.task_type)
        retries = (kind.max_retries or 0) if kind is not None else 0
        retryable = not isinstance(ending, Declined) or ending.retryable
        return progress.fail(reason_of(ending), retryable=retryable, max_retries=retries, due_at=now + wait)


def reason_of(ending: Ending | None) -> str:
    """A word for the ending; never one of the agent's own."""
    match ending:
        case Succeeded():
            return "succeeded"
        case Declined(retryable):
            return "agent_error" if retryable else "agent_error_permanent"
        case Refused(reason):
            return reason
        case TimedOut():
            return "timeout"
        case Busy():
            return "busy"
        case Garbled(reason):
            return reason
        case None:
            return "not_sent"


def draft(
    event: str,
    record: TaskRecord,
    progress: Progress,
    now: float,
    decision: Decision | None = None,
    result: Result | None = None,
    principal: str | None = None,
) -> AuditDraft:
    """The audit entry of a transition of `record` to `progress`; of a result it holds a hash."""
    return about(
        event,
        now,
        record.task,
        progress,
        router_decision=None if decision is None else encode(decision).decode(),
        model_version=None if result is None else result.model_version,
        detail=None if result is None else result_detail(result.output),
        principal=principal,
    )


def lost(record: TaskRecord, now: float) -> Transition:
    """The holder of the lease is gone."""
    step, progress = record.progress.lose()
    return Transition(record, progress, draft(step.value, record, progress, now))
