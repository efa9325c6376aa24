"""The door through which results leave: every record that goes to a caller has passed it."""

from msgspec.structs import replace

from orchestrator.domain.release import withheld
from orchestrator.storage.commands import TaskRecord


def released(record: TaskRecord, now: float) -> TaskRecord:
    """The record as a caller may have it at `now`: where consent does not hold, the reason in place of the result."""
    if record.result is None:
        return record
    reason = withheld(record.task, now, revoked=record.revoked)
    if reason is None:
        return record
    return replace(record, result=None, progress=replace(record.progress, reason=reason))
