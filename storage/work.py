"""What a batch of commands writes, worked out before a database is asked: rows, outcomes, and the counts after it."""

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.domain.agent import Sighting
from orchestrator.domain.audit import AuditDraft, Head, linked
from orchestrator.domain.lifecycle import NEW, Progress, State
from orchestrator.domain.task import Priority
from orchestrator.storage import rows
from orchestrator.storage.commands import (
    Accept,
    Accepted,
    Command,
    EndWebhook,
    Erase,
    ExpireKeys,
    ForgetAgent,
    ForgetApiKey,
    Moved,
    Note,
    Noted,
    Outcome,
    RelayAgain,
    Relayed,
    Remove,
    RemoveEntries,
    RevokeConsent,
    Rewrap,
    SaveAgent,
    SaveApiKey,
    TaskRecord,
    TellSightings,
    Transition,
    TryWebhook,
)
from orchestrator.storage.disguise import Disguise, Worn
from orchestrator.storage.sealing import PLAIN, Codec


class Book(Struct, frozen=True):
    """What a writer knows of the ledger while it writes a batch; replaced only when the batch is committed."""

    head: Head
    disguise: Disguise
    last_seq: int = 0
    ready: dict[Priority, int] = field(default_factory=lambda: of_each_class({}))
    open: dict[Priority, int] = field(default_factory=lambda: of_each_class({}))
    """Of each class; a `Counter` would take as long to be copied as all else that a batch of one task begins with."""
    outbox: bool = False
    """Whether streams are to be told of what is ready, and of what is dead."""
    callbacks: bool = True
    """Whether anybody may wait to be told that a task has ended: where nobody does, nobody is looked for."""
    codec: Codec = PLAIN


def of_each_class(found: Mapping[Priority, int]) -> dict[Priority, int]:
    """The same of every class: none of those that are not found."""
    return {priority: found.get(priority, 0) for priority in Priority}


AnyBook = TypeVar("AnyBook", bound=Book)
"""A store may know more than others do."""


class Unexpected(Exception):
    """The bulk did not come out as it would if every command were to succeed."""


def is_full(book: Book, command: Accept) -> bool:
    """Whether the class of the command's task holds as many open tasks as it may."""
    return bool(command.limit) and book.open[command.task.priority] >= command.limit


class Work(Generic[AnyBook]):
    """The rows that a batch writes, gathered by table, and the book as it will be."""

    def __init__(self, book: AnyBook) -> None:
        self._book = book
        self.head, self.last_seq = book.head, book.last_seq
        self.ready, self.open = book.ready.copy(), book.open.copy()
        self.keys: list[tuple[TaskRecord, Worn]] = []
        self.tasks: list[rows.Row] = []
        self.accepted: list[TaskRecord] = []
        """What is in `tasks`, in the same order."""
        self.moves: list[rows.Row] = []
        self.results: list[rows.Row] = []
        self.agents: list[rows.Row] = []
        self.gone: dict[str, None] = {}
        self.sightings: dict[str, Sighting] = {}
        self.api_keys: list[rows.Row] = []
        self.gone_api_keys: dict[str, None] = {}
        self.expiries: list[float] = []
        self._outbox: dict[tuple[str, str], bool] = {}
        self.relayed: list[int] = []
        self.webhooks: list[rows.Row] = []
        self.callbacks: list[rows.Row] = []
        self._called_back = book.callbacks
        self.tries: list[rows.Row] = []
        self.told_off: list[rows.Row] = []
        self.consents: set[str] = set()
        """Named by new tasks: the bulk comes out well only if none of them was revoked."""
        self.audit: list[rows.Row] = []
        """Rows of AUDIT_COLUMNS."""

    def book(self) -> AnyBook:
        """The book after the batch."""
        return replace(
            self._book,
            head=self.head,
            last_seq=self.last_seq,
            ready=self.ready,
            open=self.open,
            callbacks=self._called_back,
        )

    def told(self, *, wanted: bool) -> list[tuple[str, str]]:
        """Streams and tasks: what the outbox is to hold after the batch, or what it is not to hold any more."""
        return [place for place, is_wanted in self._outbox.items() if is_wanted is wanted]

    def add(self, command: Command) -> Outcome:
        """What the command comes to if all goes well.

        Raises Unexpected where it cannot, and what a codec raises over values that cannot be stored.
        """
        match command:
            case Accept():
                return self._accept(command)
            case Transition():
                return self._move(command)
            case Note():
                return Noted(self._log(command.audit))
            case SaveAgent(agent):
                self.agents.append(rows.agent_row(agent))
                # The bulk saves first: who is saved after having been forgotten stays.
                self.gone.pop(agent.agent_id, None)
                return Noted(self._log(command.audit))
            case ForgetAgent(agent_id):
                self.gone[agent_id] = None
                return Noted(self._log(command.audit))
            case TellSightings(sightings):
                for told in sightings:
                    self.sightings[told.agent_id] = told.after(self.sightings.get(told.agent_id))
                return Noted()
            case SaveApiKey(key):
                self.api_keys.append(rows.api_key_row(key))
                self.gone_api_keys.pop(key.key_id, None)
                return Noted(self._log(command.audit))
            case ForgetApiKey(key_id):
                self.gone_api_keys[key_id] = None
                return Noted(self._log(command.audit))
            case ExpireKeys():
                if self.keys:
                    raise Unexpected  # The bulk expires first; a key that stands before must be there to expire.
                self.expiries.append(command.now)
                return Noted()
            case Relayed(positions):
                self.relayed.extend(positions)
                return Noted()
            case TryWebhook(webhook, due_at):
                self.tries.append((due_at, webhook.task_id, webhook.attempts))
                return Noted()
            case EndWebhook(task_id):
                self.told_off.append((task_id,))
                return Noted(self._log(command.audit))
            case RelayAgain() | RevokeConsent() | Erase() | Remove() | RemoveEntries() | Rewrap():
                raise Unexpected  # What it comes to is known only when it is done, on its own.

    def _accept(self, command: Accept) -> Accepted:
        task, progress, codec = command.task, command.progress, self._book.codec
        task_id, priority, consent_id = task.task_id, task.priority, task.consent.consent_id
        if command.limit and self.open[priority] >= command.limit:
            raise Unexpected
        if consent_id is not None:
            self.consents.add(consent_id)
        self.last_seq += 1
        record = TaskRecord(self.last_seq, task, progress, command.audit.created_at, key=codec.new_key(task_id))
        self.tasks.append(rows.task_row(record, command.lane, codec))
        self.accepted.append(record)
        if command.key is not None:
            self.keys.append((record, self._book.disguise.wear(command.key)))
        if command.callback_url is not None:
            self.webhooks.append((task_id, command.callback_url))
            self._called_back = True
        if progress is NEW:
            self.ready[priority] += 1
            self.open[priority] += 1
        else:
            self._count(priority, None, progress)
        self._tell(task_id, priority, None, progress)
        if command.override is not None:
            self._log(command.override)
        return Accepted(record, self._log(command.audit))

    def _move(self, command: Transition) -> Moved:
        record, updated_at = command.record, command.audit.created_at
        before = record.progress
        if before.state.final:
            raise Unexpected
        where = (record.task.task_id, before.state.value, before.attempt, before.due_at)
        self.moves.append((*rows.progress_row(command.progress), updated_at, *where))
        if self._called_back and command.progress.state.final:
            self.callbacks.append((updated_at, record.task.task_id))
        if command.result is not None:
            self.results.append(rows.result_row(record, command.result, self._book.codec))
        self._count(record.task.priority, before, command.progress)
        self._tell(record.task.task_id, record.task.priority, before, command.progress)
        moved = TaskRecord(record.seq, record.task, command.progress, updated_at, command.result, key=record.key)
        return Moved(moved, self._log(command.audit))

    def _log(self, draft: AuditDraft) -> Head:
        entry, head = linked(self.head, draft), self.head
        self.audit.append(entry)
        self.head = Head(head.writer, head.seq + 1, entry[-1])
        return self.head

    def _tell(self, task_id: str, priority: Priority, before: Progress | None, after: Progress) -> None:
        if self._book.outbox:
            for stream, wanted in telling(priority, before, after):
                # Taken out first: told anew, it stands last.
                self._outbox.pop((stream, task_id), None)
                self._outbox[stream, task_id] = wanted

    def _count(self, priority: Priority, before: Progress | None, after: Progress) -> None:
        self.ready[priority] += _is_ready(after) - _is_ready(before)
        self.open[priority] += _is_open(after) - _is_open(before)


def stream_of(priority: Priority | None) -> str:
    """What the outbox calls the stream of a class, or that of the dead letters."""
    return rows.DEAD_LETTERS if priority is None else priority.value


def telling(priority: Priority, before: Progress | None, after: Progress) -> Iterator[tuple[str, bool]]:
    """The streams, by the names of the outbox, that are to be told of this step of a task, or need not be any more."""
    if _is_ready(after) != _is_ready(before):
        yield stream_of(priority), _is_ready(after)
    if after.state is State.DEAD:
        yield stream_of(None), True
    if after.state.withdrawn:
        yield rows.WITHDRAWN, True


def _is_ready(progress: Progress | None) -> bool:
    return progress is not None and progress.state is State.QUEUED and progress.due_at is None


def _is_open(progress: Progress | None) -> bool:
    return progress is not None and not progress.state.final
