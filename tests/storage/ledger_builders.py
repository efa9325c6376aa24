"""Commands as the actors send them, made short; and a few questions that tests often put to a ledger."""

from collections.abc import Sequence
from typing import Any, TypeVar

from orchestrator.domain.audit import AuditDraft, AuditEntry, flaws
from orchestrator.domain.lifecycle import Progress, State, Step
from orchestrator.domain.task import Consent, Priority, Task
from orchestrator.storage.commands import Accept, Accepted, Command, Key, Moved, Outcome, Result, TaskRecord, Transition
from orchestrator.storage.ports import Depths, Ledger, LedgerReader

T = TypeVar("T")

READY = Progress()
NOW = 1_700_000_000.0
LANE = "embed|--|"


def task_id(number: int) -> str:
    """The id of the `number`-th task."""
    return f"task-{number:032x}"


def a_task(number: int = 1, **fields: Any) -> Task:
    """A task without anything special."""
    usual: dict[str, Any] = {
        "task_id": task_id(number),
        "case_id": "case-1",
        "task_type": "embed",
        "payload": {"text": "hello"},
        "priority": Priority.NORMAL,
        "consent": Consent(),
        "meta": {},
        "raw_media": False,
        "created_at": NOW,
        "deadline_at": NOW + 3600.0,
    }
    return Task(**(usual | fields))


def draft(event: str, task: Task | None = None, progress: Progress | None = None, at: float = NOW) -> AuditDraft:
    """What the audit is told of it."""
    return AuditDraft(
        event=event,
        created_at=at,
        task_id=task.task_id if task else None,
        case_id=task.case_id if task else None,
        agent_id=progress.agent_id if progress else None,
        status=progress.state.value if progress else None,
        attempt=progress.attempt if progress else None,
    )


def accept(
    number: int = 1,
    *,
    key: Key | None = None,
    limit: int = 0,
    lane: str = LANE,
    progress: Progress = READY,
    at: float = NOW,
    **fields: Any,
) -> Accept:
    """Accepts the `number`-th task at `at`; `fields` are the task's."""
    task = a_task(number, **fields)
    return Accept(task, progress, lane, draft("accepted", task, progress, at), key, limit)


def a_key(key: str = "key-1", fingerprint: str = "body-1", scope: str = "", expires_at: float | None = None) -> Key:
    """An idempotency key."""
    return Key(scope, key, fingerprint, expires_at)


def advanced(progress: Progress, step: Step, at: float = NOW) -> Progress:
    """The progress after `step`, which the lifecycle must allow. A retry is due, and a lease lapses, ten seconds on."""
    match step:
        case Step.LEASE | Step.MOVE:
            return progress.lease("agent-1", "boot-1", at + 10.0, step)
        case Step.EXTEND:
            return progress.extend(at + 20.0)
        case Step.SUCCEED:
            return progress.succeed()
        case Step.RETRY:
            return progress.fail("timeout", retryable=True, max_retries=10**6, due_at=at + 10.0)[1]
        case Step.GIVE_UP:
            return progress.fail("refused", retryable=False, max_retries=0, due_at=at)[1]
        case Step.GIVE_BACK:
            return progress.give_back("refused")
        case Step.LOSE:
            return progress.lose()[1]
        case Step.COME_DUE:
            return progress.come_due()
        case Step.CANCEL | Step.EXPIRE | Step.DENY:
            return progress.end(step)


def move(record: TaskRecord, step: Step, *, at: float = NOW, output: Any = None) -> Transition:
    """Moves the task from where `record` has it. A success brings `output` as its result."""
    progress = advanced(record.progress, step, at)
    audit = draft(step.value, record.task, progress, at)
    result = Result(progress.attempt, "agent-1", output, "model-1", at) if step is Step.SUCCEED else None
    return Transition(record, progress, audit, result)


async def one(ledger: Ledger, command: Command) -> Outcome:
    """What the command alone in its batch comes to."""
    (outcome,) = await ledger.commit([command])
    return outcome


async def stored(ledger: Ledger, *accepts: Accept) -> list[TaskRecord]:
    """Commits the tasks in one batch, and returns their records."""
    outcomes = await ledger.commit(accepts)
    assert [type(outcome) for outcome in outcomes] == [Accepted] * len(accepts)
    return [outcome.record for outcome in outcomes if isinstance(outcome, Accepted)]


async def moved(ledger: Ledger, record: TaskRecord, *steps: Step, at: float = NOW, output: Any = None) -> TaskRecord:
    """Takes the task through the steps, each in a batch of its own."""
    for step in steps:
        outcome = await one(ledger, move(record, step, at=at, output=output))
        assert isinstance(outcome, Moved)
        record = outcome.record
    return record


async def read(reader: LedgerReader, record: TaskRecord) -> TaskRecord:
    """The task as the ledger has it now."""
    found = await reader.task(record.task.task_id)
    assert found is not None
    return found


async def trail(reader: LedgerReader) -> list[AuditEntry]:
    """All entries, after checking that the chain is whole and that there is one only."""
    heads = await reader.audit_heads()
    assert len(heads) <= 1
    entries = [entry for head in heads async for entry in reader.audit_chain(head.writer)]
    assert [flaw for head in heads for flaw in flaws(entries, head)] == []
    return entries


async def recount(reader: LedgerReader) -> dict[Priority, Depths]:
    """What `depths` must say, counted task by task."""
    ready = dict.fromkeys(Priority, 0)
    unfinished = dict.fromkeys(Priority, 0)
    for state in State:
        for record in [] if state.final else await reader.tasks(state, limit=10**6):
            unfinished[record.task.priority] += 1
            ready[record.task.priority] += state is State.QUEUED and record.progress.due_at is None
    return {priority: Depths(ready[priority], unfinished[priority]) for priority in Priority}


def kinds(outcomes: Sequence[object]) -> list[str]:
    """The names of the outcomes' classes."""
    return [type(outcome).__name__ for outcome in outcomes]
