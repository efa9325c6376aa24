"""What retention sees of a task's record, and what it leaves of it: for ledgers that hold records as such."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.json import encode
from msgspec.structs import replace

from orchestrator.domain.lifecycle import State
from orchestrator.domain.retention import Ended
from orchestrator.storage.commands import Remove, TaskRecord


def seen(record: TaskRecord, *, replayed: bool, awaited: bool, keyed: bool) -> Ended:
    """A task that has ended; what cannot be told from its record comes beside it."""
    return Ended(
        record.task.task_id,
        record.seq,
        record.updated_at,
        payload=_has_payload(record),
        result=record.result is not None,
        dead_letter=record.progress.state is State.DEAD and _has_payload(record) and not replayed,
        awaited=awaited,
        keyed=keyed,
        size=sum(len(encode(value)) for value in _stored(record)),
    )


def _stored(record: TaskRecord) -> Iterator[Any]:
    yield from (record.task.payload, record.task.meta)
    if record.result is not None:
        yield record.result.output


def may(command: Remove, tasks: Mapping[str, TaskRecord]) -> bool:
    """Whether all that is to go is there, of tasks that have ended."""
    named = {*command.payloads, *command.results, *command.tasks}
    return (
        all(name in tasks and tasks[name].progress.state.final for name in named)
        and all(_has_payload(tasks[name]) for name in command.payloads)
        and all(tasks[name].result is not None for name in command.results)
    )


def left(record: TaskRecord, command: Remove) -> TaskRecord:
    """The record after payload or result, or both, are gone."""
    task = record.task
    if task.task_id in command.payloads:
        record = replace(record, task=replace(task, payload={}, meta={}), payload_removed=True)
    if task.task_id in command.results:
        record = replace(record, result=None, result_removed=True)
    return record


def _has_payload(record: TaskRecord) -> bool:
    return not (record.erased or record.payload_removed)
