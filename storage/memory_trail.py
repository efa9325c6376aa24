"""The audit trail of the ledger in memory: one chain."""

from collections.abc import AsyncIterator, Iterator

from orchestrator.domain.audit import AuditDraft, AuditEntry, Head, head_of, link
from orchestrator.storage.browsing import AuditSearch, Found
from orchestrator.storage.ports import AuditPage, AuditQuery
from orchestrator.storage.rows import instant


class MemoryTrail:
    """Entries in the order of their writing; an entry's `seq` is its cursor."""

    def __init__(self, writer: str) -> None:
        self._entries: list[AuditEntry] = []
        self.head = Head(writer)

    def log(self, draft: AuditDraft) -> Head:
        """Adds an entry, whose place is the new head."""
        entry = link(self.head, draft)
        self._entries.append(entry)
        self.head = head_of(entry)
        return self.head

    def page(self, query: AuditQuery) -> AuditPage:
        found = [e for e in self._entries if e.seq > query.after and query.fits(e)][: query.limit]
        return AuditPage(found, found[-1].seq if found and len(found) == query.limit else None)

    def newest(self, search: AuditSearch) -> Found:
        found = [e for e in reversed(self._entries) if e.seq < search.before and search.fits(e)][: search.limit]
        return Found(found, found[-1].seq if found and len(found) == search.limit else None)

    def events(self) -> list[str]:
        return sorted({entry.event for entry in self._entries})

    def last_checkpoint(self) -> AuditEntry | None:
        return next((entry for entry in reversed(self._entries) if entry.event == "checkpoint"), None)

    def chain(self, writer: str) -> Iterator[AuditEntry]:
        return (entry for entry in self._entries if entry.writer == writer)

    def accepted(self, task_id: str) -> Head:
        """The place of the entry of the task's acceptance."""
        return head_of(next(entry for entry in self._entries if entry.task_id == task_id))

    def latest(self) -> str | None:
        """When the latest entry was written; None where there is none."""
        return max((entry.created_at for entry in self._entries), default=None)


class TrailReader:
    """What a ledger in memory is asked about its trail."""

    _trail: MemoryTrail

    async def audit(self, query: AuditQuery) -> AuditPage:
        return self._trail.page(query)

    async def newest(self, search: AuditSearch) -> Found:
        return self._trail.newest(search)

    async def events(self) -> list[str]:
        return self._trail.events()

    async def last_checkpoint(self) -> AuditEntry | None:
        return self._trail.last_checkpoint()

    async def audit_chain(self, writer: str) -> AsyncIterator[AuditEntry]:
        for entry in self._trail.chain(writer):
            yield entry

    async def latest(self) -> float:
        return instant(self._trail.latest())

    async def audit_heads(self) -> list[Head]:
        return [self._trail.head] if self._trail.head.seq else []
