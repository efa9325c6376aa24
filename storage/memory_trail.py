"""The audit trail of the ledger in memory: one chain."""

from collections.abc import AsyncGenerator, Iterable, Iterator

from orchestrator.domain.audit import AuditDraft, AuditEntry, Head, head_before, head_of, link
from orchestrator.domain.retention import Begin, Entry
from orchestrator.storage.browsing import AuditSearch, Found
from orchestrator.storage.commands import ERASED, TaskRecord
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

    def accepted(self, task_id: str) -> Head | None:
        """The place of the entry of the task's acceptance; None where that was removed."""
        found = (entry for entry in self._entries if entry.task_id == task_id and entry.event == "accepted")
        return next(map(head_of, found), None)

    def remove(self, begins: Iterable[Head]) -> int:
        """Up to these places, behind each of which its chain must go on. How many entries that were; 0: nothing."""
        up_to = {begin.writer: begin for begin in begins}
        if not {*up_to.values()} <= {head_before(entry) for entry in self._entries}:
            return 0
        kept = [entry for entry in self._entries if entry.writer not in up_to or entry.seq > up_to[entry.writer].seq]
        removed, self._entries = len(self._entries) - len(kept), kept
        return removed

    def oldest(self, limit: int) -> list[AuditEntry]:
        return self._entries[:limit]

    def goes_on(self, task_id: str, since: str) -> bool:
        """Whether something but its erasure was written of the task from then on."""
        return any(
            entry.task_id == task_id and entry.created_at >= since and entry.event != ERASED for entry in self._entries
        )

    def latest(self) -> str | None:
        """When the latest entry was written; None where there is none."""
        return max((entry.created_at for entry in self._entries), default=None)


class TrailReader:
    """What a ledger in memory is asked about its trail."""

    _trail: MemoryTrail
    _tasks: dict[str, TaskRecord]

    async def audit(self, query: AuditQuery) -> AuditPage:
        return self._trail.page(query)

    async def newest(self, search: AuditSearch) -> Found:
        return self._trail.newest(search)

    async def events(self) -> list[str]:
        return self._trail.events()

    async def last_checkpoint(self) -> AuditEntry | None:
        return self._trail.last_checkpoint()

    async def audit_chain(self, writer: str) -> AsyncGenerator[AuditEntry]:
        for entry in self._trail.chain(writer):
            yield entry

    async def latest(self) -> float:
        return instant(self._trail.latest())

    async def audit_heads(self) -> list[Head]:
        return [self._trail.head] if self._trail.head.seq else []

    async def oldest(self, before: str, limit: int) -> list[Entry]:
        return [
            Entry(e.writer, e.seq, e.event, e.created_at, e.prev_hash, e.entry_hash, self._is_held(e.task_id, before))
            for e in self._trail.oldest(limit)
        ]

    def _is_held(self, task_id: str | None, before: str) -> bool:
        record = self._tasks.get(task_id or "")
        is_open = record is not None and not record.progress.state.final
        return is_open or (task_id is not None and self._trail.goes_on(task_id, before))

    async def begins(self) -> list[Begin]:
        first = self._trail.oldest(1)
        return [Begin(head_before(entry), entry.created_at) for entry in first if entry.seq > 1]
