"""What people look through: tasks and audit entries, newest first, page by page, without payloads and results."""

from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from orchestrator.domain.audit import AuditEntry
from orchestrator.domain.lifecycle import State
from orchestrator.domain.task import Priority
from orchestrator.storage.commands import TaskRecord

WINDOW = 10_000
"""Through so many tasks one page is looked for: what is rare costs more pages, never a long search."""
CHECKPOINTS_WITHIN = 5_000
"""Among so many of the newest entries the last checkpoint is looked for."""
NEWEST = 2**62


class Brief(Struct, frozen=True):
    """A task in a list."""

    seq: int
    task_id: str
    case_id: str
    task_type: str
    priority: Priority
    state: State
    attempt: int
    failures: int
    agent_id: str | None
    reason: str | None
    created_at: float
    principal: str


class TaskQuery(Struct, frozen=True):
    """Which tasks: in a state, of a case, of a principal; below the cursor `before`."""

    state: State | None = None
    case_id: str | None = None
    principal: str | None = None
    before: int = NEWEST
    limit: int = 50


class TaskPage(Struct, frozen=True):
    """The newest first; `next` is the cursor of the page after this one, if there may be one."""

    briefs: list[Brief]
    next: int | None = None


class AuditSearch(Struct, frozen=True):
    """Which audit entries: of a task, of a case, from `since` (in the form of `created_at`); below the cursor."""

    task_id: str | None = None
    case_id: str | None = None
    since: str | None = None
    before: int = NEWEST
    limit: int = 50


class Found(Struct, frozen=True):
    """Entries, the newest first; `next` is the cursor of the page after this one, if there may be one."""

    entries: list[AuditEntry]
    next: int | None = None


class Browsing(Protocol):
    """The part of a ledger that people look through."""

    async def briefs(self, query: TaskQuery) -> TaskPage:
        """Tasks that fit. Without a case it looks through WINDOW tasks at most, and says where to go on."""
        ...

    async def newest(self, search: AuditSearch) -> Found:
        """Audit entries that fit."""
        ...

    async def last_checkpoint(self) -> AuditEntry | None:
        """The newest checkpoint, if there is one among the newest entries."""
        ...


def page_of(briefs: list[Brief], query: TaskQuery, below: int) -> TaskPage:
    """The page with these briefs, where all from `below` on were looked through; 0 is all there are."""
    if len(briefs) == query.limit and briefs:
        return TaskPage(briefs, briefs[-1].seq)
    return TaskPage(briefs, below if below > 1 else None)


def brief_of(record: TaskRecord) -> Brief:
    """What the list shows of a task."""
    task, progress = record.task, record.progress
    return Brief(
        record.seq, task.task_id, task.case_id, task.task_type, task.priority, progress.state, progress.attempt,
        progress.failures, progress.agent_id, progress.reason, task.created_at, task.principal,
    )  # fmt: skip


def floor_of(query: TaskQuery, last: int) -> int:
    """From which `seq` on a page is looked for, where `last` is that of the newest task."""
    return 0 if query.case_id is not None else max(0, min(query.before, last + 1) - WINDOW)


def briefs_among(records: Iterable[TaskRecord], query: TaskQuery, last: int) -> TaskPage:
    """The page among `records`, which are in the order of their acceptance."""
    floor = floor_of(query, last)
    found = [
        brief_of(record)
        for record in reversed(list(records))
        if floor <= record.seq < query.before
        and query.state in (None, record.progress.state)
        and query.case_id in (None, record.task.case_id)
        and query.principal in (None, record.task.principal)
    ]
    return page_of(found[: query.limit], query, floor)
