"""The audit trail of the ledger in memory: one chain."""

from collections.abc import Iterator

from orchestrator.domain.audit import AuditDraft, AuditEntry, Head, head_of, link
from orchestrator.storage.ports import AuditPage, AuditQuery


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
        found = [
            entry
            for entry in self._entries
            if entry.seq > query.after
            and (query.task_id is None or entry.task_id == query.task_id)
            and (query.case_id is None or entry.case_id == query.case_id)
            and entry.created_at >= (query.since or "")
        ][: query.limit]
        return AuditPage(found, found[-1].seq if found and len(found) == query.limit else None)

    def chain(self, writer: str) -> Iterator[AuditEntry]:
        return (entry for entry in self._entries if entry.writer == writer)

    def accepted(self, task_id: str) -> Head:
        """The place of the entry of the task's acceptance."""
        return head_of(next(entry for entry in self._entries if entry.task_id == task_id))

    def latest(self) -> str | None:
        """When the latest entry was written; None where there is none."""
        return max((entry.created_at for entry in self._entries), default=None)
