"""In which order who asked and who listens hear of a commit."""

from functools import partial

import anyio
import pytest

from orchestrator.actors.audit_writer import AuditWriter
from orchestrator.actors.messages import Commit
from orchestrator.domain.audit import AuditDraft
from orchestrator.domain.lifecycle import NEW
from orchestrator.domain.task import Consent, Priority, Task
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.kernel.watch import Watch
from orchestrator.storage.commands import Accept, Outcome, TaskRecord
from orchestrator.storage.memory import MemoryLedger

pytestmark = pytest.mark.anyio


def an_acceptance() -> Accept:
    task = Task(
        task_id="task-1", case_id="case-1", task_type="embed", payload={}, priority=Priority.LOW,
        consent=Consent(), meta={}, raw_media=False, created_at=0.0, deadline_at=1.0,
    )  # fmt: skip
    return Accept(task, NEW, "embed|--|", AuditDraft(event="accepted", created_at=0.0))


async def heard(*, broken_off: bool) -> list[str]:
    """Who heard of a commit, in turn, where the writer is cancelled as soon as it has answered, or is not."""
    order: list[str] = []

    def on_commit(record: TaskRecord, lane: str | None) -> None:
        order.append(f"{record.task.task_id} in {lane}")

    mailbox = Mailbox[Commit]("audit_writer", 8)
    writer = AuditWriter(MemoryLedger(), on_commit, Watch(True), Watch(0), lambda _: None)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(writer.run, Inbox(mailbox))
            make = partial(Commit, commands=[an_acceptance()])
            _: list[Outcome] = await mailbox.ref.ask(make, within=5.0)
            order.append("answered")
            if not broken_off:
                await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    return order


@pytest.mark.parametrize("broken_off", [False, True])
async def test_whoever_asked_hears_of_it_first(broken_off: bool):
    """An answer is not held up by what follows from the commit, which follows whatever becomes of the writer."""
    assert await heard(broken_off=broken_off) == ["answered", "task-1 in embed|--|"]
