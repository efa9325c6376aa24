"""Signed checkpoints: entries of the trail that name the ends of all chains, under a signature.

Who can write to the database can make every hash anew, but not these signatures. A checkpoint is itself an entry, so it
cannot be taken out of its chain; its `detail` holds the heads, the public key and the signature (Ed25519, RFC 8032).
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct

from orchestrator.domain.audit import AuditDraft, Head, rfc3339

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

    def statement(self, created_at: str) -> bytes:
        """What was signed, if it was at that time."""
        return statement(created_at, self.heads)


def statement(created_at: str, heads: Iterable[Head]) -> bytes:
    """What is signed: 0x02 and the canonical JSON of `[created_at, [[writer, seq, entry_hash], …]]`."""
    return canonical(_PREFIX, created_at, places(heads))


def checkpoint(heads: Iterable[Head], now: float, public_key: str, sign: Sign) -> AuditDraft:
    """The entry that testifies to `heads` at `now`, in seconds since the epoch."""
    named = tuple(heads)
    found = Checkpoint(named, public_key, sign(statement(rfc3339(now), named)))
    return AuditDraft(event=EVENT, created_at=now, detail=msgspec.json.encode(found).decode())


def canonical(prefix: bytes, *values: Any) -> bytes:
    """The prefix and the values as a JSON array that any language writes alike."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return prefix + text.encode("utf-8", "surrogatepass")


def places(heads: Iterable[Head]) -> list[list[str | int]]:
    """Places in the trail as they are signed."""
    return [[head.writer, head.seq, head.entry_hash] for head in heads]
