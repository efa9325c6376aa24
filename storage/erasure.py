"""What is done to tasks whose data is destroyed: how they end if they have not, what the audit says, what is left."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from orchestrator.domain.audit import AuditDraft, about
from orchestrator.domain.lifecycle import Progress, Step
from orchestrator.storage.commands import ERASED, Erase, Erased, Moved, Note, Noted, Outcome, TaskRecord, Transition


def meant(record: TaskRecord, command: Erase) -> bool:
    """Whether the command is about that task, which is not erased yet."""
    if command.task_id is not None:
        return not record.erased and record.task.task_id == command.task_id
    return not record.erased and record.task.case_id == command.case_id


def steps(records: Iterable[TaskRecord], command: Erase) -> list[Transition | Note]:
    """What goes before: a task that is not finished is cancelled, so that what runs is fenced; each gets its entry."""
    return [step for record in records for step in _steps(record, command.audit)]


def _steps(record: TaskRecord, asked: AuditDraft) -> Iterator[Transition | Note]:
    progress = record.progress
    if not progress.state.final:
        progress = progress.end(Step.CANCEL, ERASED)
        yield Transition(record, progress, _audit(Step.CANCEL.value, record, progress, asked))
    yield Note(_audit(ERASED, record, progress, asked))


def _audit(event: str, record: TaskRecord, progress: Progress, asked: AuditDraft) -> AuditDraft:
    return about(event, asked.created_at, record.task, progress, reason=ERASED, principal=asked.principal)


def erased(records: Iterable[TaskRecord], outcomes: Sequence[Outcome]) -> Erased:
    """What an Erase comes to that found `records`, and whose steps came to `outcomes`."""
    moved = {outcome.record.task.task_id: outcome.record for outcome in outcomes if isinstance(outcome, Moved)}
    left = [_left(moved.get(record.task.task_id, record)) for record in records]
    last = outcomes[-1] if outcomes else None
    return Erased(tuple(left), last.receipt if isinstance(last, Noted) else None)


def _left(record: TaskRecord) -> TaskRecord:
    task = replace(record.task, payload={}, meta={})
    return replace(record, task=task, result=None, key=None, erased=True, payload_removed=False, result_removed=False)
