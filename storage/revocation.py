"""What follows from a consent that is revoked: for the tasks that name it, and for those that come to name it."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from orchestrator.domain.audit import about
from orchestrator.domain.lifecycle import State, Step
from orchestrator.storage.commands import (
    Accept,
    Denied,
    Moved,
    Note,
    Noted,
    Outcome,
    Revoked,
    TaskRecord,
    Transition,
)

REASON = "consent_revoked"


def denials(records: Iterable[TaskRecord], at: float) -> list[Transition]:
    """Denies unfinished tasks at `at`, in seconds since the epoch: what runs is fenced, what waits never runs."""
    return [_denial(record, at) for record in records]


def _denial(record: TaskRecord, at: float) -> Transition:
    progress = record.progress.end(Step.DENY, REASON)
    audit = about(Step.DENY.value, at, record.task, progress)
    return Transition(record, progress, audit)


def refusal(command: Accept) -> Note:
    """What is written in place of a task whose consent was revoked."""
    accepted, status = command.audit, State.DENIED.value
    return Note(replace(accepted, event="refused", task_id=None, status=status, attempt=None, reason=REASON))


def denied(outcome: Outcome) -> Denied:
    """What an Accept comes to whose `refusal` came to this."""
    if not isinstance(outcome, Noted) or outcome.receipt is None:
        raise TypeError("a note comes to its place in the audit")
    return Denied(outcome.receipt)


def revoked(outcomes: Sequence[Outcome]) -> Revoked:
    """What a revocation comes to whose denials, and then whose entry, came to these."""
    *moved, noted = outcomes
    receipt = noted.receipt if isinstance(noted, Noted) else None
    return Revoked(tuple(_bare(outcome.record) for outcome in moved if isinstance(outcome, Moved)), receipt)


def _bare(record: TaskRecord) -> TaskRecord:
    return replace(record, task=replace(record.task, payload={}, meta={}))
