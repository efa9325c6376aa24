"""What testifies to a trail from outside of it, receipts and signatures; and where the trail contradicts them."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator

import msgspec
from msgspec import Struct

from orchestrator.domain import anchor, checkpoint
from orchestrator.domain.anchor import Anchor
from orchestrator.domain.audit import GENESIS, AuditEntry, Flaw, Head, audit_id, unanchored
from orchestrator.domain.checkpoint import Checkpoint, Verifies

LONGEST_UNSIGNED = 1024
"""Entries at the end of a chain that may stand without a checkpoint after them: they are signed every 256."""

_HASH = re.compile(r"[0-9a-f]{64}")
_SIGNED: dict[str, type[Checkpoint | Anchor]] = {checkpoint.EVENT: Checkpoint, anchor.EVENT: Anchor}
"""The events whose entries carry a signature, and what their `detail` says."""


class InvalidReceipt(ValueError):
    """A line is no receipt, and no answer that holds one."""


class Claim(Struct, frozen=True):
    """That `head.entry_hash` stands at `head.seq`, and who says so."""

    head: Head
    source: str
    received: bool = False
    """Whether somebody was given it, who shows it now."""


class Removed(Struct, frozen=True):
    """A chain begins behind `place`, says an anchor of the time `at`, when entries were kept for `kept_s` seconds."""

    place: Head
    anchor: str
    at: str
    kept_s: int


class _Line(Struct, frozen=True):
    """A receipt by itself, or an answer with one in it; the other fields of the answer are of no interest."""

    receipt: Head | None = None
    writer: str = ""
    seq: int = 0
    entry_hash: str = ""


def receipt_of(line: bytes) -> Head:
    """The receipt that a line of JSON is, or that an answer to a task holds. Raises InvalidReceipt."""
    try:
        found = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, UnicodeError):
        raise InvalidReceipt("it is no JSON of the right form") from None
    place = found.receipt or Head(found.writer, found.seq, found.entry_hash)
    if not place.writer or place.seq < 1 or place.entry_hash == GENESIS or not _HASH.fullmatch(place.entry_hash):
        raise InvalidReceipt("it is neither a receipt nor an answer with one")
    return place


class Evidence:
    """First `collect` from all entries and tell where each chain `begins`, then `check` all, then ask for the `end`."""

    def __init__(self, verifies: Verifies, public_keys: Collection[str] = ()) -> None:
        """Only signatures under one of `public_keys` count; without any, each under the key that it names itself."""
        self._verifies, self._keys = verifies, frozenset(public_keys)
        self._claims: defaultdict[tuple[str, int], list[Claim]] = defaultdict(list)
        self._begins: dict[str, Head] = {}
        self._anchored: dict[str, list[Removed]] = {}
        """What the anchors with the highest number say of each writer's chain."""
        self.signed: dict[str, int] = {}
        """Up to which entry each writer's chain is under a signature."""
        self.signers: set[str] = set()
        self.removed: dict[str, Removed] = {}
        """Of each writer whose chain begins where an anchor says: that anchor. Known at the end."""
        self.untold = 0
        """How many receipts are of entries that were removed: nothing tells whether they hold. Known at the end."""

    @property
    def writers(self) -> set[str]:
        """Whose chains it has something to say about."""
        return {writer for writer, _ in self._claims}

    def receipt(self, place: Head, source: str) -> None:
        """Somebody was given this."""
        self._claim(Claim(place, source, received=True))

    def begins(self, place: Head) -> None:
        """The entries of that writer that are there begin behind this place."""
        self._begins[place.writer] = place

    def collect(self, entry: AuditEntry) -> Iterator[Flaw]:
        """Takes up what an entry testifies to, and says what is wrong with its signature."""
        kind = _SIGNED.get(entry.event)
        if kind is None:
            return
        try:
            found = msgspec.json.decode(entry.detail or "", type=kind)
        except (msgspec.DecodeError, UnicodeError):
            yield _flaw(entry, f"it is no {entry.event} that can be read")
            return
        if self._keys and found.public_key not in self._keys:
            yield _flaw(entry, f"its {entry.event} is signed with another key")
        elif not self._verifies(found.public_key, found.statement(entry.created_at), found.signature):
            yield _flaw(entry, f"the signature of its {entry.event} is not valid")
        else:
            self._take_up(entry, found)

    def check(self, entry: AuditEntry) -> Iterator[Flaw]:
        """What testifies against this entry."""
        for claim in self._claims.pop((entry.writer, entry.seq), ()):
            if claim.head.entry_hash != entry.entry_hash:
                yield _flaw(entry, f"{claim.source} testifies to another entry here: history was rewritten")

    def end(self, heads: Collection[Head]) -> Iterator[Flaw]:
        """What is testified to and is nowhere; and where a chain has been without a signature for too long."""
        for writer in sorted({*self._begins, *self._anchored}):
            yield from self._beginning(writer)
        for (writer, seq), claims in sorted(self._claims.items()):
            yield from self._missing(Head(writer, seq), claims)
        for head in heads if self._keys else ():
            signed = self.signed.get(head.writer, 0)
            if head.seq - signed > LONGEST_UNSIGNED:
                what = f"no checkpoint testifies to the chain from here on to entry {head.seq}"
                yield Flaw(head.writer, signed + 1, audit_id(head.writer, signed + 1), what)

    def _take_up(self, entry: AuditEntry, found: Checkpoint | Anchor) -> None:
        self.signers.add(found.public_key)
        places = found.heads if isinstance(found, Checkpoint) else found.begins
        for place in places:
            self.signed[place.writer] = max(self.signed.get(place.writer, 0), place.seq)
            if isinstance(found, Checkpoint):
                self._claim(Claim(place, f"the checkpoint {entry.audit_id}"))
            else:
                self._anchor(Removed(place, entry.audit_id, entry.created_at, found.kept_s))

    def _anchor(self, said: Removed) -> None:
        known = self._anchored.setdefault(said.place.writer, [])
        if known and said.place.seq > known[0].place.seq:
            known.clear()
        if not known or said.place.seq == known[0].place.seq:
            known.append(said)

    def _beginning(self, writer: str) -> Iterator[Flaw]:
        """What is wrong with where a chain begins."""
        begin, anchors = self._begins.get(writer), self._anchored.get(writer, [])
        up_to = anchors[0].place.seq if anchors else 0
        if begin is None or begin.seq < up_to:
            found = "the chain behind it is gone" if begin is None else "it is there, or something in its place"
            what = f"{_told(anchors)} testifies that it was removed: {found}"
            yield Flaw(writer, up_to, audit_id(writer, up_to), what)
        elif begin.seq > up_to:
            yield unanchored(begin)
        elif any(said.place != begin for said in anchors):
            what = f"it does not continue the entry to whose removal {_told(anchors)} testifies"
            yield Flaw(writer, up_to + 1, audit_id(writer, up_to + 1), what)
        elif anchors:
            self.removed[writer] = anchors[0]

    def _missing(self, place: Head, claims: list[Claim]) -> Iterator[Flaw]:
        """What is wrong where an entry that is testified to is not there: it may have been removed in order."""
        removed, begin = self.removed.get(place.writer), self._begins.get(place.writer)
        if begin is None or place.seq > begin.seq:
            what = f"{claims[0].source} testifies to this entry, and it is not there: the end was cut off"
            yield Flaw(place.writer, place.seq, audit_id(place.writer, place.seq), what)
        elif removed is None:
            return  # That it is missing is told at the beginning that no anchor explains.
        elif place.seq < removed.place.seq:
            self.untold += sum(claim.received for claim in claims)
        else:
            for claim in claims:
                if claim.head != removed.place:
                    what = f"{claim.source} testifies to another entry than {removed.anchor}, which removed it"
                    yield Flaw(place.writer, place.seq, audit_id(place.writer, place.seq), what)

    def _claim(self, claim: Claim) -> None:
        if claim.head.seq > 0:
            self._claims[claim.head.writer, claim.head.seq].append(claim)


def _told(anchors: list[Removed]) -> str:
    return f"the anchor {anchors[0].anchor}"


def _flaw(entry: AuditEntry, what: str) -> Flaw:
    return Flaw(entry.writer, entry.seq, entry.audit_id, what)
