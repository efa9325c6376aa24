"""What the rest of the system may ask of storage. Every ledger passes `tests/storage/conformance.py` unchanged."""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from orchestrator.domain.agent import Agent, Sighting
from orchestrator.domain.api_key import ApiKey
from orchestrator.domain.audit import AuditEntry, Head
from orchestrator.domain.lifecycle import State
from orchestrator.domain.task import Priority
from orchestrator.storage.browsing import Browsing, Selection
from orchestrator.storage.commands import Command, Outcome, TaskRecord, Webhook
from orchestrator.storage.retaining import RetentionReader


class LedgerError(Exception):
    """Base of what a ledger raises."""


class NotCommitted(LedgerError):
    """The batch is certainly not stored: the disk is full, the database is busy or away. Trying again is safe."""


class CommitUnknown(LedgerError):
    """Whether the batch is stored cannot be told: the process must stop and recover from what the disk holds."""


class LedgerLocked(LedgerError):
    """Another process owns this ledger."""


class LedgerCorrupt(LedgerError):
    """The file is not a ledger, or is damaged."""


class Unreadable(LedgerError):
    """The ledger cannot be opened or read now."""


class SchemaTooNew(LedgerError):
    """The ledger was written by a newer version of this program."""


class Ticket(Struct, frozen=True):
    """A hint that a task waits: never the only copy of anything."""

    task_id: str
    priority: Priority
    lane: str
    seq: int
    queued_at: float


class Outgoing(Struct, frozen=True):
    """An entry of the outbox: what a stream is to be told. `priority` is None for a dead letter.

    An entry of a class's stream goes when its task is not ready any more, so what is left is still to be told.
    It is None for a task that was withdrawn, too.
    """

    position: int
    task_id: str
    priority: Priority | None
    task_type: str
    reason: str | None


class AuditQuery(Selection, frozen=True):
    """Audit entries that stand after a cursor."""

    after: int = 0
    limit: int = 100


class AuditPage(Struct, frozen=True):
    """Entries in the order of their writing; `next` is the cursor of the page after this one, if there may be one."""

    entries: list[AuditEntry]
    next: int | None = None


class Depths(Struct, frozen=True):
    """Tasks of a class that are ready to run, and all of it that are not finished."""

    ready: int = 0
    open: int = 0


class LedgerReader(Browsing, RetentionReader, Protocol):
    """Reads what is committed. Never waits for a writer."""

    async def task(self, task_id: str) -> TaskRecord | None:
        """The task with its progress, and its result when there is one."""
        ...

    async def tasks(
        self, state: State, *, principal: str | None = None, after: int = 0, limit: int = 100
    ) -> list[TaskRecord]:
        """Tasks in a state (of one principal), in the order of acceptance, after `seq` `after`; without results."""
        ...

    async def revoked(self, consent_id: str) -> bool:
        """Whether the consent was revoked."""
        ...

    async def agents(self) -> list[Agent]:
        """All agents stored."""
        ...

    async def api_keys(self) -> list[ApiKey]:
        """All API keys, by their ids."""
        ...

    async def api_key(self, key_id: str) -> ApiKey | None:
        """The API key of that id."""
        ...

    async def sightings(self) -> list[Sighting]:
        """What replicas have told each other of the agents that are stored."""
        ...

    async def audit(self, query: AuditQuery) -> AuditPage:
        """Entries that fit."""
        ...

    def audit_chain(self, writer: str) -> AsyncGenerator[AuditEntry]:
        """The whole chain of a writer in the order of `seq`, streamed."""
        ...

    async def latest(self) -> float:
        """The latest time in the audit, in seconds since the epoch; 0 without an entry."""
        ...

    async def audit_heads(self) -> list[Head]:
        """The end of each writer's chain."""
        ...

    async def lanes(self) -> list[tuple[Priority, str]]:
        """The lanes in which tasks are ready."""
        ...

    async def ready(self, priority: Priority, lane: str, *, after: int, limit: int) -> list[Ticket]:
        """Tasks ready in a lane, in the order of acceptance, after `seq` `after`."""
        ...

    async def tickets(self, task_ids: Sequence[str]) -> list[Ticket]:
        """The tickets of those of the tasks that are ready, in no order."""
        ...

    async def records(self, task_ids: Sequence[str]) -> list[TaskRecord]:
        """Those of the tasks that exist, in no order; without results."""
        ...

    async def outbox(self, priority: Priority | None, limit: int) -> list[Outgoing]:
        """What the stream of that class (None: that of the dead letters) is to be told, in the order of its writing.

        Of a shared ledger: what this replica wrote, and what others wrote some seconds ago and did not relay.
        """
        ...

    async def withdrawn(self, limit: int) -> list[Outgoing]:
        """Tasks that ended by no word of an agent, or were erased, and that streams may still hold; as above."""
        ...

    async def webhooks(self, now: float, limit: int) -> list[Webhook]:
        """Webhooks of ended tasks that are due at `now`, the longest due first."""
        ...

    async def due(self, now: float, limit: int) -> list[TaskRecord]:
        """Waiting tasks whose time has come at `now`, the longest due first."""
        ...

    async def next_due(self) -> float | None:
        """When the next waiting task comes due, seconds since the epoch."""
        ...

    async def lapsed(self, now: float, limit: int) -> list[TaskRecord]:
        """Leased tasks whose lease is over at `now`, the longest over first."""
        ...

    async def leased(self, owner: str, limit: int) -> list[TaskRecord]:
        """Leased tasks whose owner's name starts with `owner`, in the order in which their leases end."""
        ...

    async def overdue(self, now: float, limit: int) -> list[TaskRecord]:
        """Tasks that wait, unleased, beyond their deadline at `now`, the longest overdue first."""
        ...


class Ledger(LedgerReader, Protocol):
    """The truth: tasks, results, keys, agents and the audit trail, each process's changes made by one writer."""

    @property
    def exclusive(self) -> bool:
        """Whether no other process works on it: then every lease found at a start is one of a process that is gone."""
        ...

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        """Applies the commands in one transaction; outcomes come in the same order.

        One bad command fails alone, as Failed. No commands at all is a probe: it writes, and says whether it could.
        Raises NotCommitted or CommitUnknown for the whole batch. Cancellation waits for the batch to end. Not for
        concurrent callers.
        """
        ...

    def depths(self) -> Mapping[Priority, Depths]:
        """How much waits in each class. Kept up to date, costs nothing to ask."""
        ...

    async def room(self) -> int | None:
        """Bytes that can still be written before disk or bound is full; None where that is not ours to know.

        Raises Unreadable.
        """
        ...

    async def close(self) -> None:
        """Checkpoints and lets go. Twice is safe."""
        ...


class StreamsUnavailable(Exception):
    """The streams cannot be reached now, or did not answer in time; what was to be done may have been done."""


class Message(Struct, frozen=True):
    """What a stream is told: that of a class, or of the dead letters (None). The fields hold no more than they must."""

    priority: Priority | None
    fields: dict[str, str]


class StreamEntry(Struct, frozen=True):
    """What a stream told us: that a task is ready. It stays ours, and in the stream, until it is removed."""

    priority: Priority
    entry_id: str
    task_id: str


class Streams(Protocol):
    """Carries work between processes, and may lose everything at any moment. All calls raise StreamsUnavailable."""

    async def add(self, messages: Sequence[Message]) -> None:
        """Puts each message at the end of its stream. Never tried twice: after an error it may be there or not."""
        ...

    async def lengths(self) -> Mapping[Priority | None, int]:
        """How many entries each stream holds, whether somebody works on them or not."""
        ...

    async def read(self, wanted: Mapping[Priority, int], wait_s: float) -> list[StreamEntry]:
        """New entries, at most so many of each class. Waits up to `wait_s` for the first one."""
        ...

    async def claim(self, limit: int) -> list[StreamEntry]:
        """Entries that somebody, maybe ourselves, took long ago or gave back; at most `limit` of each class."""
        ...

    async def give_back(self, entries: Sequence[StreamEntry]) -> None:
        """Others may claim the entries at once."""
        ...

    async def remove(self, entries: Sequence[StreamEntry]) -> None:
        """The entries are done with. Twice is safe."""
        ...

    async def forget(self, task_ids: Collection[str]) -> None:
        """No entry names one of the tasks any more, whoever has it. Reads through all of them. Twice is safe."""
        ...

    async def empty(self) -> None:
        """No class's stream holds anything any more, whoever has it. Twice is safe."""
        ...

    async def intact(self) -> bool:
        """Whether the streams are those that `vouch` was said of: nothing was lost since."""
        ...

    async def vouch(self) -> None:
        """All that is ready has been told to these streams, or stands in the outbox."""
        ...

    async def evicts(self) -> str | None:
        """The policy by which the streams may be thrown away when memory is short; None if they never are."""
        ...

    async def close(self) -> None:
        """Lets go. Twice is safe."""
        ...


class StreamIntake(Protocol):
    """The side of a queue at which what streams tell comes in."""

    def room(self) -> Mapping[Priority, int]:
        """How many more entries of each class are wanted now: none of a class that nobody has a slot for."""
        ...

    async def wanting(self) -> None:
        """Waits until there is room in some class."""
        ...

    def deliver(self, entries: Sequence[StreamEntry], tickets: Sequence[Ticket]) -> None:
        """Takes in entries, with the tickets of those of their tasks that are ready. Twice is safe."""
        ...

    def finished(self) -> list[StreamEntry]:
        """Entries that are done with since the last call."""
        ...

    async def finishing(self) -> None:
        """Waits until an entry is done with."""
        ...

    def held(self) -> list[StreamEntry]:
        """Entries that are in hand and not done with."""
        ...

    def attach(self) -> None:
        """The streams carry the work from now on. Twice is safe."""
        ...

    def detach(self) -> None:
        """The streams are away: the ledger itself is looked through for work. Twice is safe."""
        ...


class Queue(Protocol):
    """Which task is next. Entries are hints; the ledger's compare-and-set decides who gets the task."""

    def announce(self, ticket: Ticket) -> None:
        """A task is ready. Never waits, never fails; may be dropped, since the ledger knows it too."""
        ...

    async def take(self, routable: Callable[[Ticket], bool], free: Callable[[Priority], int] = ...) -> Ticket:
        """Waits for the next task by class and age of which `routable` (asked once for each lane) is true.

        `free` is how many slots the taker has for a class: of one for which it has none it wants nothing.
        """
        ...

    def take_now(self, routable: Callable[[Ticket], bool], free: Callable[[Priority], int] = ...) -> Ticket | None:
        """The next task that is in hand, as `take` would give it; None if there is none. Never waits."""
        ...

    def wake(self) -> None:
        """What is routable may have changed: whoever waits in `take` looks again."""
        ...

    def done(self, ticket: Ticket) -> None:
        """The task that was taken is leased or gone."""
        ...

    def give_back(self, ticket: Ticket) -> None:
        """The task that was taken could not be leased now; it waits again, in its place."""
        ...

    def forget(self, task_id: str) -> None:
        """The task is not ready any more, though nobody took it from here: its entry is no work."""
        ...

    def oldest(self) -> Mapping[Priority, float]:
        """Since when (seconds since the epoch) the longest waiting task that is known of each class has been ready."""
        ...
