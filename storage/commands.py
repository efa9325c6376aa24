"""The language of the ledger: the few commands that change it, and what each can come to.

A command is decided before it is sent; the ledger applies it by compare-and-set, with its audit entry, or not at all.
"""

from typing import Any

from msgspec import Struct

from orchestrator.domain.agent import Agent, Sighting
from orchestrator.domain.api_key import ApiKey
from orchestrator.domain.audit import AuditDraft, Head
from orchestrator.domain.discretion import discreet
from orchestrator.domain.lifecycle import Progress
from orchestrator.domain.task import Priority, Task

ERASED = "erased"
"""The event, and the reason of a task that ended by it."""


class Key(Struct, frozen=True):
    """An idempotency key within its scope, and the fingerprint of the request that it stands for."""

    scope: str
    key: str
    fingerprint: str
    expires_at: float | None = None

    __repr__ = discreet


class Result(Struct, frozen=True):
    """What an agent gave back, as decoded JSON, in its `attempt`."""

    attempt: int
    agent_id: str
    output: Any
    model_version: str | None
    finished_at: float

    __repr__ = discreet


class TaskRecord(Struct, frozen=True):
    """A task as the ledger holds it. `seq` is its place in the order of acceptance.

    `key` is its data key, wrapped, where the ledger is encrypted. `revoked` says whether the consent that it names is,
    where a single task was read by its id. Of a task that is `erased` payload, meta and result are gone by request;
    what else was removed was kept for as long as it should be. What is gone is empty, or None.
    """

    seq: int
    task: Task
    progress: Progress
    updated_at: float
    result: Result | None = None
    revoked: bool = False
    key: bytes | None = None
    erased: bool = False
    payload_removed: bool = False
    result_removed: bool = False


class Accept(Struct, frozen=True):
    """Stores a new task. `lane` is where it waits; `limit` bounds the open tasks of its class (0 is no bound).

    With a `callback_url`, a webhook comes due when the task ends; `override` is a further audit entry, where the glass
    was broken.

    Comes to Accepted, Duplicate, Reused, Denied or Full.
    """

    task: Task
    progress: Progress
    lane: str
    audit: AuditDraft
    key: Key | None = None
    limit: int = 0
    callback_url: str | None = None
    override: AuditDraft | None = None


class Transition(Struct, frozen=True):
    """Moves the task of `record` from the state and attempt it was read in (waiting or ready) to `progress`.

    Comes to Moved, or Stale when the task is elsewhere by now, or was finished already. A `result` is stored with it.
    """

    record: TaskRecord
    progress: Progress
    audit: AuditDraft
    result: Result | None = None


class Note(Struct, frozen=True):
    """Only an audit entry: a decision that leaves no task behind. Comes to Noted."""

    audit: AuditDraft


class RevokeConsent(Struct, frozen=True):
    """Ends a consent for ever. Every unfinished task that names it is denied, each with its own audit entry.

    Comes to Revoked; from then on an Accept that names it comes to Denied.
    """

    consent_id: str
    audit: AuditDraft


class Erase(Struct, frozen=True):
    """Destroys what tasks hold: payload, meta, result and data key. One that is not finished is cancelled before.

    The task of that id, or `limit` tasks of that case that are not erased yet. Comes to Erased.
    """

    audit: AuditDraft
    """Of it, `created_at` and `principal` go into each task's entry."""
    task_id: str | None = None
    case_id: str | None = None
    limit: int = 200


class Rewrap(Struct, frozen=True):
    """Puts the data keys of `limit` tasks after `seq` `after` under the current master key. Comes to Rewrapped."""

    after: int = 0
    limit: int = 1000


class SaveAgent(Struct, frozen=True):
    """Stores or replaces an agent. Comes to Noted."""

    agent: Agent
    audit: AuditDraft


class ForgetAgent(Struct, frozen=True):
    """Removes an agent. Comes to Noted."""

    agent_id: str
    audit: AuditDraft


class SaveApiKey(Struct, frozen=True):
    """Stores or replaces an API key. Comes to Noted."""

    key: ApiKey
    audit: AuditDraft


class ForgetApiKey(Struct, frozen=True):
    """Removes an API key: from here on it opens nothing. Comes to Noted."""

    key_id: str
    audit: AuditDraft


class TellSightings(Struct, frozen=True):
    """What this replica has heard of agents; of those that are not stored, nothing is kept. Comes to Noted."""

    sightings: tuple[Sighting, ...]


class ExpireKeys(Struct, frozen=True):
    """Removes the idempotency keys whose published expiry is over at `now`. Comes to Noted."""

    now: float


class Remove(Struct, frozen=True):
    """Removes the payload (and meta) of ended tasks, the result, or all that is stored but for the audit's entries.

    What is removed is overwritten, and with the last of it goes the task's data key. Comes to Noted, or Stale where
    something of it is not there (any more), or a task has not ended; then nothing was removed. Whoever asks has looked
    whether it may go (`domain/retention.py`).
    """

    audit: AuditDraft
    payloads: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


class RemoveEntries(Struct, frozen=True):
    """Removes the entries of the trail up to the places that `audit`, an anchor, testifies to.

    It names each chain that does not begin with its first entry then. Comes to EntriesRemoved, or Stale where a chain
    does not go on behind its place, or begins there or later by now; then nothing was written. Whoever asks has looked
    whether they may go (`domain/retention.py`).
    """

    audit: AuditDraft


class Relayed(Struct, frozen=True):
    """Removes entries of the outbox: they are in their streams by now. Comes to Noted."""

    positions: tuple[int, ...]


class RelayAgain(Struct, frozen=True):
    """Puts ready tasks back into the outbox, where a stream was lost; those that are in it stay. Comes to Requeued.

    It takes `limit` tasks at a time, after the place that the one before it came to.
    """

    limit: int
    after: tuple[str, str, int] = ("", "", 0)


class Webhook(Struct, frozen=True):
    """Somebody who is to be told that a task has ended; `attempts` counts how often that was tried."""

    task_id: str
    url: str
    attempts: int


class TryWebhook(Struct, frozen=True):
    """Counts one more attempt at `webhook`, as it was read, and sets when the next is due, should this one fail.

    Comes to Noted, or Stale when somebody else took it.
    """

    webhook: Webhook
    due_at: float


class EndWebhook(Struct, frozen=True):
    """Removes the webhook of a task: it arrived, or was given up. Comes to Noted, or Stale when it is gone already."""

    task_id: str
    audit: AuditDraft


Command = (
    Accept
    | Transition
    | Note
    | RevokeConsent
    | Erase
    | Rewrap
    | SaveAgent
    | ForgetAgent
    | TellSightings
    | SaveApiKey
    | ForgetApiKey
    | ExpireKeys
    | Remove
    | RemoveEntries
    | Relayed
    | RelayAgain
    | TryWebhook
    | EndWebhook
)


class Accepted(Struct, frozen=True):
    """The task is stored as `record`; `receipt` is the place of its audit entry, as with all outcomes that have one."""

    record: TaskRecord
    receipt: Head


class Duplicate(Struct, frozen=True):
    """The key stands for the same request already; `record` is its task, `receipt` that of its acceptance.

    There is none where the entry of the acceptance was removed.
    """

    record: TaskRecord
    receipt: Head | None


class Reused(Struct, frozen=True):
    """The key stands for another request."""


class Full(Struct, frozen=True):
    """The class holds as many open tasks as it may."""

    priority: Priority


class Denied(Struct, frozen=True):
    """The consent that the task names was revoked: only the refusal's audit entry is stored."""

    receipt: Head


class Revoked(Struct, frozen=True):
    """The consent holds no more. `records` are the tasks denied for it, without what they hold; no `receipt` if it was
    revoked before.
    """

    records: tuple[TaskRecord, ...] = ()
    receipt: Head | None = None


class Erased(Struct, frozen=True):
    """`records` are the tasks after it; no `receipt` if there was nothing (any more) to erase."""

    records: tuple[TaskRecord, ...] = ()
    receipt: Head | None = None


class Rewrapped(Struct, frozen=True):
    """So many keys were changed; `last` is the `seq` to go on after, None at the end."""

    changed: int
    last: int | None


class Moved(Struct, frozen=True):
    """The transition took place; `record` is the task after it."""

    record: TaskRecord
    receipt: Head


class Stale(Struct, frozen=True):
    """The task was not where the command expected it (or does not exist); nothing changed."""


class Noted(Struct, frozen=True):
    """Stored; without a `receipt` where the command has no audit entry."""

    receipt: Head | None = None


class EntriesRemoved(Struct, frozen=True):
    """So many entries of the audit are gone; `receipt` is the place of the anchor that testifies to that."""

    receipt: Head
    entries: int


class Requeued(Struct, frozen=True):
    """The tasks are in the outbox; `last` is the place after which more may follow."""

    last: tuple[str, str, int] | None


class Failed(Struct, frozen=True):
    """This command alone could not be applied; `error` is the class of the database's error."""

    error: str


Outcome = (
    Accepted
    | Duplicate
    | Reused
    | Full
    | Denied
    | Revoked
    | Erased
    | Rewrapped
    | Moved
    | Stale
    | Noted
    | EntriesRemoved
    | Requeued
    | Failed
)
