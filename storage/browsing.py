"""What people look through: tasks and audit entries, newest first, page by page, without payloads and results."""

from collections.abc import Iterable
from enum import Enum
from typing import Protocol

from msgspec import Struct

from orchestrator.domain.audit import AuditEntry
from orchestrator.domain.lifecycle import State
from orchestrator.domain.task import Priority
from orchestrator.storage.commands import TaskRecord

WINDOW = 10_000
"""Through so many tasks one page is looked for: what is rare costs more pages, never a long search."""
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


class By(Enum):
    """What entries of the audit are found by: the narrowest that is asked for."""

    TASK = "task"
    CASE = "case"
    EVENT = "event"
    POSITION = "position"


class Selection(Struct, frozen=True):
    """Which audit entries: of a task, of a case, of an event, from `since` on (in the form of `created_at`)."""

    task_id: str | None = None
    case_id: str | None = None
    event: str | None = None
    since: str | None = None

    def narrowed(self) -> tuple[By, tuple[str | None, ...]]:
        """What they are found by, and the values of that statement, where None narrows nothing."""
        if self.task_id is not None:
            return By.TASK, (self.task_id, self.case_id, self.event)
        if self.case_id is not None:
            return By.CASE, (self.case_id, self.event)
        if self.event is not None:
            return By.EVENT, (self.event,)
        return By.POSITION, ()

    def fits(self, entry: AuditEntry) -> bool:
        """Whether `entry` is one of them."""
        return (
            self.task_id in (None, entry.task_id)
            and self.case_id in (None, entry.case_id)
            and self.event in (None, entry.event)
            and entry.created_at >= (self.since or "")
        )


class AuditSearch(Selection, frozen=True):
    """Those of them that stand before the cursor."""

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

    async def events(self) -> list[str]:
        """The events of which there are entries, by their names."""
        ...

    async def last_checkpoint(self) -> AuditEntry | None:
        """The newest checkpoint, if there is one."""
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
