"""Signed checkpoints: entries of the trail that name the ends of all chains, under a signature.

Who can write to the database can make every hash anew, but not these signatures. A checkpoint is itself an entry, so it
cannot be taken out of its chain; its `detail` holds the heads, the public key and the signature (Ed25519, RFC 8032).
"""

import json
from collections.abc import Callable, Iterable

import msgspec
from msgspec import Struct

from orchestrator.domain.audit import AuditDraft, AuditEntry, Head, rfc3339

EVENT = "checkpoint"
_PREFIX = b"\x02"
"""Sets what is signed apart from what is hashed for an entry, which begins with 0x01."""

Sign = Callable[[bytes], str]
"""Gives the signature of a message in hex digits."""
Verifies = Callable[[str, bytes, str], bool]
"""Whether public key (hex), message and signature (hex) belong together."""


class Checkpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """What the entry's `detail` says. Keys and signatures are hex digits."""

    heads: tuple[Head, ...]
    public_key: str
    signature: str


def statement(created_at: str, heads: Iterable[Head]) -> bytes:
    """What is signed: 0x02 and the canonical JSON of `[created_at, [[writer, seq, entry_hash], …]]`."""
    value = [created_at, [[head.writer, head.seq, head.entry_hash] for head in heads]]
    canonical = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _PREFIX + canonical.encode("utf-8", "surrogatepass")


def checkpoint(heads: Iterable[Head], now: float, public_key: str, sign: Sign) -> AuditDraft:
    """The entry that testifies to `heads` at `now`, in seconds since the epoch."""
    named = tuple(heads)
    found = Checkpoint(named, public_key, sign(statement(rfc3339(now), named)))
    return AuditDraft(event=EVENT, created_at=now, detail=msgspec.json.encode(found).decode())


def checkpoint_of(entry: AuditEntry) -> Checkpoint | None:
    """The checkpoint that an entry of that event holds; None where it holds none that can be read."""
    try:
        return msgspec.json.decode(entry.detail or "", type=Checkpoint)
    except (msgspec.DecodeError, UnicodeError):
        return None


def is_signed(entry: AuditEntry, found: Checkpoint, verifies: Verifies) -> bool:
    """Whether the signature is that of this entry's time and heads."""
    return verifies(found.public_key, statement(entry.created_at, found.heads), found.signature)
