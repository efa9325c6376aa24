"""Signed anchors: entries of the trail that say where each chain begins, after what stood before was removed.

Who removes the beginning of a chain without one is found, since nothing else explains that it is missing. Each anchor
names the beginnings of all chains that were ever cut: the last one says all there is to say, those before it may go.
"""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from orchestrator.domain.audit import AuditDraft, Head, rfc3339
from orchestrator.domain.checkpoint import Sign, canonical, places

EVENT = "anchor"
_PREFIX = b"\x03"
"""Sets what is signed apart from checkpoints, which begin with 0x02."""


class Anchor(Struct, frozen=True, forbid_unknown_fields=True):
    """What the entry's `detail` says.

    `begins` are the last entries of each chain that were removed; `kept_s` is for how many seconds the setting was to
    keep entries. Keys and signatures are hex digits.
    """

    begins: tuple[Head, ...]
    kept_s: int
    public_key: str
    signature: str

    def statement(self, created_at: str) -> bytes:
        """What was signed, if it was at that time."""
        return statement(created_at, self.kept_s, self.begins)


def statement(created_at: str, kept_s: int, begins: Iterable[Head]) -> bytes:
    """What is signed: 0x03 and the canonical JSON of `[created_at, kept_s, [[writer, seq, entry_hash], …]]`."""
    return canonical(_PREFIX, created_at, kept_s, places(begins))


def anchor(begins: Iterable[Head], kept_s: int, now: float, public_key: str, sign: Sign) -> AuditDraft:
    """The entry that testifies to the removal up to `begins` at `now`, in seconds since the epoch."""
    named = tuple(begins)
    found = Anchor(named, kept_s, public_key, sign(statement(rfc3339(now), kept_s, named)))
    return AuditDraft(event=EVENT, created_at=now, reason="retention", detail=msgspec.json.encode(found).decode())


def begins_of(draft: AuditDraft) -> tuple[Head, ...]:
    """Up to where an anchor says that entries are removed. Raises ValueError for an entry that is none."""
    try:
        found = msgspec.json.decode(draft.detail or "", type=Anchor) if draft.event == EVENT else None
    except msgspec.DecodeError:
        found = None
    if found is None:
        raise ValueError("it is no anchor")
    return found.begins
