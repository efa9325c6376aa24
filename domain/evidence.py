"""What testifies to a trail from outside of it, receipts and signatures; and where the trail contradicts them."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator

import msgspec
from msgspec import Struct

from orchestrator.domain.audit import GENESIS, AuditEntry, Flaw, Head, audit_id
from orchestrator.domain.checkpoint import EVENT, Verifies, checkpoint_of, is_signed

LONGEST_UNSIGNED = 1024
"""Entries at the end of a chain that may stand without a checkpoint after them: they are signed every 256."""

_HASH = re.compile(r"[0-9a-f]{64}")


class InvalidReceipt(ValueError):
    """A line is no receipt, and no answer that holds one."""


class Claim(Struct, frozen=True):
    """That `head.entry_hash` stands at `head.seq`, and who says so."""

    head: Head
    source: str


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
    """First `collect` from all entries, then `check` all entries, then ask for the `end`."""

    def __init__(self, verifies: Verifies, public_keys: Collection[str] = ()) -> None:
        """Only signatures under one of `public_keys` count; without any, each under the key that it names itself."""
        self._verifies, self._keys = verifies, frozenset(public_keys)
        self._claims: defaultdict[tuple[str, int], list[Claim]] = defaultdict(list)
        self.signed: dict[str, int] = {}
        """How many entries of each writer are under a signature."""
        self.signers: set[str] = set()

    @property
    def writers(self) -> set[str]:
        """Whose chains it has something to say about."""
        return {writer for writer, _ in self._claims}

    def receipt(self, place: Head, source: str) -> None:
        """Somebody was given this."""
        self._claim(Claim(place, source))

    def collect(self, entry: AuditEntry) -> Iterator[Flaw]:
        """Takes up what an entry testifies to, and says what is wrong with its signature."""
        if entry.event != EVENT:
            return
        found = checkpoint_of(entry)
        if found is None:
            yield _flaw(entry, "it is no checkpoint that can be read")
        elif self._keys and found.public_key not in self._keys:
            yield _flaw(entry, "its checkpoint is signed with another key")
        elif not is_signed(entry, found, self._verifies):
            yield _flaw(entry, "the signature of its checkpoint is not valid")
        else:
            self.signers.add(found.public_key)
            for head in found.heads:
                self.signed[head.writer] = max(self.signed.get(head.writer, 0), head.seq)
                self._claim(Claim(head, f"the checkpoint {entry.audit_id}"))

    def check(self, entry: AuditEntry) -> Iterator[Flaw]:
        """What testifies against this entry."""
        for claim in self._claims.pop((entry.writer, entry.seq), ()):
            if claim.head.entry_hash != entry.entry_hash:
                yield _flaw(entry, f"{claim.source} testifies to another entry here: history was rewritten")

    def end(self, heads: Collection[Head]) -> Iterator[Flaw]:
        """What is testified to and is nowhere; and where a chain has been without a signature for too long."""
        for (writer, seq), claims in sorted(self._claims.items()):
            what = f"{claims[0].source} testifies to this entry, and it is not there: the end was cut off"
            yield Flaw(writer, seq, audit_id(writer, seq), what)
        for head in heads if self._keys else ():
            signed = self.signed.get(head.writer, 0)
            if head.seq - signed > LONGEST_UNSIGNED:
                what = f"no checkpoint testifies to the chain from here on to entry {head.seq}"
                yield Flaw(head.writer, signed + 1, audit_id(head.writer, signed + 1), what)

    def _claim(self, claim: Claim) -> None:
        if claim.head.seq > 0:
            self._claims[claim.head.writer, claim.head.seq].append(claim)


def _flaw(entry: AuditEntry, what: str) -> Flaw:
    return Flaw(entry.writer, entry.seq, entry.audit_id, what)
