"""What happens to one task, entry by entry. The audit is the source, so that nothing between two looks is missed."""

from collections.abc import Callable
from typing import Self

import anyio

from orchestrator.actors.feed import TaskFeed
from orchestrator.actors.reading import read
from orchestrator.actors.releasing import released
from orchestrator.domain.audit import AuditEntry
from orchestrator.domain.errors import NotFound
from orchestrator.storage.commands import TaskRecord
from orchestrator.storage.ports import AuditQuery, LedgerReader

PAGE = 100


class Timeline:
    """Enter it, then take turns: `task`, `news`, `changed`. Entries of a task are numbered from 1.

    A final state that `task` shows has its entry in the `news` that are asked for next.
    """

    def __init__(self, reader: LedgerReader, feed: TaskFeed, task_id: str, seen: int, now: Callable[[], float]) -> None:
        """`seen` is the number of the last entry that is known already; `now` is the wall clock."""
        self._reader, self._task_id, self._now = reader, task_id, now
        self._watcher = feed.watch(task_id)
        self._seen = seen
        self._after = self._in_page = 0
        self.number = 0
        """The number of the last entry that was read."""

    async def __aenter__(self) -> Self:
        self._watcher.__enter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watcher.__exit__()

    async def task(self) -> TaskRecord:
        """The task as it is now. Raises NotFound or AuditUnavailable."""
        record = await read(self._reader.task(self._task_id))
        if record is None:
            raise NotFound("There is no such task.")
        return released(record, self._now())

    async def news(self) -> list[tuple[int, AuditEntry]]:
        """What was written since the last look. Raises AuditUnavailable."""
        found: list[tuple[int, AuditEntry]] = []
        while True:
            query = AuditQuery(task_id=self._task_id, after=self._after, limit=PAGE)
            page = await read(self._reader.audit(query))
            for entry in page.entries[self._in_page :]:
                self.number += 1
                if self.number > self._seen:
                    found.append((self.number, entry))
            if page.next is None:
                self._in_page = len(page.entries)
                return found
            self._after, self._in_page = page.next, 0

    async def changed(self, within: float) -> None:
        """Waits for the next change, at most `within` seconds: one whose news was lost is found by looking again."""
        with anyio.move_on_after(within):
            await self._watcher.changed()
