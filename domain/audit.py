"""The audit trail: entries chained by hash, so that none can be changed, removed, moved or slipped in unseen.

An entry's hash covers every field of it and the hash before it, behind the byte 0x01 (as RFC 6962 §2.1 sets what is
hashed apart by a first byte). Fields are strings and integers, in one canonical JSON array: any language can verify.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from orchestrator.domain.lifecycle import Progress
from orchestrator.domain.task import Task

GENESIS = "0" * 64
_PREFIX = b"\x01"
_encode = msgspec.json.Encoder().encode
_canonical = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=repr).encode


class AuditDraft(Struct, frozen=True, kw_only=True):
    """What a decision or transition has to say for itself; the ledger gives it its place in the chain.

    `router_decision` is the Decision as JSON text, `detail` what only this kind of event has to say, as JSON text.
    `created_at` is in seconds since the epoch.
    """

    event: str
    created_at: float
    task_id: str | None = None
    case_id: str | None = None
    router_decision: str | None = None
    agent_id: str | None = None
    model_version: str | None = None
    consent_id: str | None = None
    status: str | None = None
    attempt: int | None = None
    reason: str | None = None
    detail: str | None = None
    principal: str | None = None
    """Who asked for it; None for what the orchestrator did by itself."""


def about(
    event: str,
    at: float,
    task: Task,
    progress: Progress,
    *,
    router_decision: str | None = None,
    model_version: str | None = None,
    reason: str | None = None,
    detail: str | None = None,
    principal: str | None = None,
) -> AuditDraft:
    """What is said of a task that is at `progress` now; the reason is that of the progress, if no other is given."""
    return AuditDraft(
        event=event,
        created_at=at,
        task_id=task.task_id,
        case_id=task.case_id,
        router_decision=router_decision,
        agent_id=progress.agent_id,
        model_version=model_version,
        consent_id=task.consent.consent_id,
        status=progress.state.value,
        attempt=progress.attempt,
        reason=reason or progress.reason,
        detail=detail,
        principal=principal,
    )


class AuditEntry(Struct, frozen=True):
    """One link. `seq` counts from 1 without gaps in the chain of its `writer`; `created_at` is RFC 3339 in UTC."""

    writer: str
    seq: int
    audit_id: str
    event: str
    created_at: str
    task_id: str | None
    case_id: str | None
    router_decision: str | None
    agent_id: str | None
    model_version: str | None
    consent_id: str | None
    status: str | None
    attempt: int | None
    reason: str | None
    detail: str | None
    principal: str | None
    prev_hash: str
    entry_hash: str


class Head(Struct, frozen=True):
    """The end of a writer's chain: how many entries there are and the last one's hash.

    Given to a client as its receipt, it proves for ever that the chain once was so long and ended so.
    """

    writer: str
    seq: int = 0
    entry_hash: str = GENESIS


class Flaw(Struct, frozen=True):
    """The first place where a chain does not hold."""

    writer: str
    seq: int
    audit_id: str | None
    what: str


def link(head: Head, draft: AuditDraft) -> AuditEntry:
    """The entry that `draft` becomes after `head`."""
    return AuditEntry(*linked(head, draft))


def linked(head: Head, draft: AuditDraft) -> tuple[Any, ...]:
    """The same as the fields of the entry, in their order."""
    writer, seq = head.writer, head.seq + 1
    # From here on a draft's fields are those of an entry, in the same order.
    said = astuple(draft)
    fields = (writer, seq, audit_id(writer, seq), said[0], rfc3339(said[1]), *said[2:], head.entry_hash)
    # The same bytes as in `entry_hash` for what a draft may hold, in a tenth of the time.
    return (*fields, sha256(_PREFIX + _encode(fields)).hexdigest())


def head_of(entry: AuditEntry) -> Head:
    """The end of a chain whose last entry this is."""
    return Head(entry.writer, entry.seq, entry.entry_hash)


def head_before(entry: AuditEntry) -> Head:
    """The end of the chain that this entry continues."""
    return Head(entry.writer, entry.seq - 1, entry.prev_hash)


def audit_id(writer: str, seq: int) -> str:
    """The name of the `seq`-th entry of `writer`."""
    return f"audit-{writer}-{seq}"


def entry_hash(entry: AuditEntry) -> str:
    """SHA-256 (hex) over 0x01 and the canonical JSON array of all fields but the hash, in the order of the class."""
    fields = [getattr(entry, name) for name in entry.__struct_fields__ if name != "entry_hash"]
    # Both fallbacks are for entries that were tampered with: whatever stands in them is found, and nothing breaks.
    canonical = _canonical(fields)
    return sha256(_PREFIX + canonical.encode("utf-8", "surrogatepass")).hexdigest()


class ChainCheck:
    """Follows one chain to the end that `head` names. Give it the entries by `seq`, then ask for the end."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self.begin = self._before = Head(head.writer)
        """The place behind which the chain begins: where that is not `seq` 0, an anchor has to testify to it."""
        self._begun = False

    def add(self, entry: AuditEntry) -> Iterator[Flaw]:
        """What is wrong with `entry` where it stands."""
        if not self._begun:
            self._begun = True
            # Of a row that was tampered with the number may be anything.
            if type(entry.seq) is int and entry.seq > 1:
                self.begin = self._before = head_before(entry)
        what = _broken_link(self._before, entry)
        if what is None and entry.seq == self._head.seq + 1:
            what = f"it stands beyond the chain's head, which says {self._head.seq}"
        self._before = head_of(entry)
        if what:
            yield Flaw(entry.writer, entry.seq, entry.audit_id, what)

    def end(self) -> Iterator[Flaw]:
        """What is wrong with where the chain ends."""
        before, head = self._before, self._head
        if before.seq < head.seq:
            missing = before.seq + 1
            what = f"the chain ends after entry {before.seq}, its head says {head.seq}"
            yield Flaw(head.writer, missing, audit_id(head.writer, missing), what)
        elif before.seq == head.seq and before != head:
            yield Flaw(head.writer, before.seq, audit_id(head.writer, before.seq), "the last entry is not the head's")


def flaws(entries: Iterable[AuditEntry], head: Head) -> Iterator[Flaw]:
    """Where the chain of `head.writer`, given in the order of `seq`, does not hold. Nothing means that it is whole."""
    check, begun = ChainCheck(head), False
    for entry in entries:
        wrong = list(check.add(entry))
        if check.begin.seq and not begun:
            yield unanchored(check.begin)
        begun = True
        yield from wrong
    yield from check.end()


def unanchored(begin: Head) -> Flaw:
    """What is wrong with a chain that begins behind `begin`, where no anchor testifies to that."""
    what = "what stood before it is missing, and no anchor testifies to its removal"
    return Flaw(begin.writer, begin.seq + 1, audit_id(begin.writer, begin.seq + 1), what)


def _broken_link(before: Head, entry: AuditEntry) -> str | None:
    if entry.writer != before.writer:
        return "it belongs to another writer"
    if entry.seq != before.seq + 1:
        return f"it follows entry {before.seq}: what stood between is missing or moved"
    if entry.audit_id != audit_id(entry.writer, entry.seq):
        return "its id was changed"
    if entry.prev_hash != before.entry_hash:
        return "it does not continue the entry before it"
    if entry.entry_hash != entry_hash(entry):
        return "its content was changed"
    return None


@lru_cache(maxsize=64)
def rfc3339(seconds: float) -> str:
    """An instant (seconds since the epoch) as RFC 3339 in UTC with microseconds, the even one of two that are as near.

    Raises ValueError, OverflowError or OSError for what lies beyond the years 1 to 9999.
    """
    # Kept for a while: what is decided together has one time.
    second = seconds // 1
    micros = round((seconds - second) * 1_000_000)
    if micros == 1_000_000:
        second, micros = second + 1, 0
    return f"{_to_the_second(second)}.{micros:06d}Z"


@lru_cache(maxsize=64)
def _to_the_second(seconds: float) -> str:
    """Instants come thick and fast, many in each second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
