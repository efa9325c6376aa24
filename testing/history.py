"""What the audit tells of a life, held against the ledger."""

from orchestrator.domain.audit import AuditEntry, flaws
from orchestrator.domain.lifecycle import TRANSITIONS, Step
from orchestrator.domain.lifecycle import State as TaskState
from orchestrator.storage.commands import TaskRecord
from orchestrator.storage.ports import AuditPage, AuditQuery, LedgerReader


async def trail(reader: LedgerReader) -> list[AuditEntry]:
    """The audit in the order of its writing, checked: each chain against its head, and all for private words."""
    heads = await reader.audit_heads()
    for head in heads:
        assert list(flaws([entry async for entry in reader.audit_chain(head.writer)], head)) == []
    page, entries = AuditPage([], 0), list[AuditEntry]()
    while page.next is not None:
        page = await reader.audit(AuditQuery(after=page.next, limit=1000))
        entries += page.entries
    assert len(entries) == sum(head.seq for head in heads)
    assert not [entry for entry in entries if "private" in repr(entry)]
    return entries


async def check_history(reader: LedgerReader) -> list[TaskRecord]:
    """All tasks that the audit knows, after checking that it tells of each one's life exactly as the ledger holds it.

    Each has been accepted once, each entry is a step that the table allows from where the one before it ended, attempts
    count up one by one, and the last entry is the state in the ledger.
    """
    lives: dict[str, tuple[TaskState, int]] = {}
    for entry in await trail(reader):
        if entry.task_id is None or entry.status is None:
            continue  # It is about no task, or tells of something that is no step of it.
        state, attempt = TaskState(entry.status), entry.attempt or 0
        if entry.event == "accepted":
            assert entry.task_id not in lives, f"{entry} accepts a task that was accepted before"
        else:
            before, last = lives[entry.task_id]
            step = Step(entry.event)
            assert TRANSITIONS[before][step] is state, f"{entry} does not follow {before}"
            assert attempt == last + (step in (Step.LEASE, Step.MOVE)), f"{entry} does not follow attempt {last}"
        lives[entry.task_id] = (state, attempt)
    records: list[TaskRecord] = []
    for task_id, (state, attempt) in lives.items():
        record = await reader.task(task_id)
        assert record is not None, f"{task_id} is in the audit only"
        assert (record.progress.state, record.progress.attempt) == (state, attempt), (
            f"{record} is not as its audit says"
        )
        assert (record.result is not None) == (state is TaskState.SUCCEEDED), f"{record} and its result disagree"
        records.append(record)
    return records
