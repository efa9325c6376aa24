#!/usr/bin/env python3
"""Verifies an exported audit trail with nothing but Python's standard library (3.11 or newer), on any machine.

    python3 verify_audit.py audit.ndjson [--against receipts.ndjson] [--public-key key.pem]…

It shares no line with the program that wrote the trail; it follows what docs/audit.md says of the format. Exit code 0:
the trail holds, 1: it does not, 2: a file cannot be used.
"""

import argparse
import base64
import binascii
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

FIELDS = [
    *("writer", "seq", "audit_id", "event", "created_at", "task_id", "case_id", "router_decision", "agent_id"),
    *("model_version", "consent_id", "status", "attempt", "reason", "detail", "principal", "prev_hash", "entry_hash"),
]
MEMBERS = {
    "checkpoint": {"heads", "public_key", "signature"},
    "anchor": {"begins", "kept_s", "public_key", "signature"},
}
LISTS = {"checkpoint": "heads", "anchor": "begins"}
GENESIS = "0" * 64
LONGEST_UNSIGNED = 1024
HASH = re.compile(r"[0-9a-f]{64}")


class Unusable(Exception):
    """A file that cannot be read as what it should be."""


# Ed25519, verification only (RFC 8032, section 5.1), in extended coordinates (section 5.1.4).

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)

Point = tuple[int, int, int, int]


def add(one: Point, two: Point) -> Point:
    a = (one[1] - one[0]) * (two[1] - two[0]) % P
    b = (one[1] + one[0]) * (two[1] + two[0]) % P
    c = 2 * one[3] * two[3] * D % P
    d = 2 * one[2] * two[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def times(factor: int, point: Point) -> Point:
    total: Point = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            total = add(total, point)
        point = add(point, point)
        factor >>= 1
    return total


def same(one: Point, two: Point) -> bool:
    return (one[0] * two[2] - two[0] * one[2]) % P == 0 and (one[1] * two[2] - two[1] * one[2]) % P == 0


def decompressed(text: bytes) -> Point | None:
    """The point that 32 bytes stand for; None where they stand for none (section 5.1.3)."""
    number = int.from_bytes(text, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


BASE = cast("Point", decompressed((4 * pow(5, P - 2, P) % P).to_bytes(32, "little")))


def verifies(public_key: str, message: bytes, signature: str) -> bool:
    """Whether the signature (hex) is that of the message under the public key (hex)."""
    try:
        key, signed = bytes.fromhex(public_key), bytes.fromhex(signature)
    except ValueError:
        return False
    if len(key) != 32 or len(signed) != 64:
        return False
    a, r, s = decompressed(key), decompressed(signed[:32]), int.from_bytes(signed[32:], "little")
    if a is None or r is None or s >= L:
        return False
    digest = hashlib.sha512(signed[:32] + key + message).digest()
    return same(times(s, BASE), add(r, times(int.from_bytes(digest, "little") % L, a)))


# The chain, and what testifies to it.


class Place(NamedTuple):
    writer: str
    seq: int
    entry_hash: str


Entry = dict[str, Any]
Key = tuple[str, int]


def canonical(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def entry_hash(entry: Entry) -> str:
    return hashlib.sha256(b"\x01" + canonical([entry[name] for name in FIELDS[:-1]])).hexdigest()


def entries(path: str) -> Iterator[Entry]:
    """The entries of an export, with what is JSON in them as the text that is hashed."""
    for number, line in lines(path):
        yield entry_of(line, f"{path}:{number}")


def entry_of(line: bytes, source: str) -> Entry:
    entry = members(parsed(line))
    if set(entry) != set(FIELDS):
        raise Unusable(f"{source}: it is no audit entry")
    if not isinstance(entry["writer"], str) or type(entry["seq"]) is not int:
        raise Unusable(f"{source}: its writer and its number are not what they should be")
    return entry


def lines(path: str) -> Iterator[tuple[int, bytes]]:
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from None


def parsed(line: Any) -> Any:
    """What JSON says; None for what is none."""
    try:
        # `Infinity` and its like are none: `int` refuses them.
        return json.loads(line, parse_constant=int)
    except (ValueError, RecursionError, TypeError):
        return None


def receipts(path: str) -> Iterator[tuple[int, Place]]:
    for number, line in lines(path):
        found = members(parsed(line))
        place = place_of(found.get("receipt") or found)
        if place is None or place.seq < 1 or place.entry_hash == GENESIS:
            raise Unusable(f"{path}:{number}: it is neither a receipt nor an answer with one")
        yield number, place


def members(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def place_of(value: Any) -> Place | None:
    found = members(value)
    writer, seq, digest = found.get("writer"), found.get("seq"), found.get("entry_hash")
    if not isinstance(writer, str) or not writer or type(seq) is not int or not isinstance(digest, str):
        return None
    return Place(writer, seq, digest) if HASH.fullmatch(digest) else None


def broken_link(before: Place, entry: Entry) -> str | None:
    if entry["seq"] != before.seq + 1:
        return f"it follows entry {before.seq}: what stood between is missing or moved"
    if entry["audit_id"] != f"audit-{entry['writer']}-{entry['seq']}":
        return "its id was changed"
    if entry["prev_hash"] != before.entry_hash:
        return "it does not continue the entry before it"
    if entry["entry_hash"] != entry_hash(entry):
        return "its content was changed"
    return None


class Claim(NamedTuple):
    entry_hash: str
    source: str
    received: bool


class Removal(NamedTuple):
    """What an anchor says of a chain: that all of it up to a place was removed."""

    place: Place
    anchor: str
    at: str
    kept_s: int


class Trail:
    """First `collect` all entries, then `check` all of them, then ask for the `end`; each tells what is wrong."""

    def __init__(self, *public_keys: str) -> None:
        self.public_keys = public_keys
        self.begins: dict[str, Place] = {}
        self.heads: dict[str, Place] = {}
        self.signed: dict[str, int] = {}
        self.signers: set[str] = set()
        self.removed: dict[str, Removal] = {}
        self.untold = 0
        self._anchored: dict[str, list[Removal]] = {}
        self._claims: dict[Key, list[Claim]] = {}

    @property
    def claimed(self) -> bool:
        return bool(self._claims)

    def claim(self, place: Place, source: str, *, received: bool = True) -> None:
        if place.seq > 0:
            claims = self._claims.setdefault((place.writer, place.seq), [])
            claims.append(Claim(place.entry_hash, source, received))

    def collect(self, entry: Entry) -> Iterator[str]:
        writer = entry["writer"]
        if writer not in self.begins:
            # Where a chain does not begin with its first entry, an anchor has to testify to that.
            first = Place(writer, 0, GENESIS)
            begin = Place(writer, entry["seq"] - 1, str(entry["prev_hash"]))
            self.begins[writer] = self.heads[writer] = begin if entry["seq"] > 1 else first
        what = broken_link(self.heads[writer], entry)
        self.heads[writer] = Place(writer, entry["seq"], str(entry["entry_hash"]))
        if what is None and entry["event"] in MEMBERS:
            what = self._testimony(entry, entry["event"])
        if what is not None:
            yield what

    def _testimony(self, entry: Entry, event: str) -> str | None:
        found = members(parsed(entry["detail"]))
        listed = found.get(LISTS[event])
        key, signature, kept_s = found.get("public_key"), found.get("signature"), found.get("kept_s", 0)
        named = [place_of(place) for place in cast("list[Any]", listed)] if isinstance(listed, list) else [None]
        places = [place for place in named if place is not None]
        if len(named) != len(places) or not (isinstance(key, str) and isinstance(signature, str)):
            return f"it is no {event} that can be read"
        if type(kept_s) is not int or set(found) != MEMBERS[event]:
            return f"it is no {event} that can be read"
        if self.public_keys and key not in self.public_keys:
            return f"its {event} is signed with another key"
        signed = [list(place) for place in places]
        if event == "checkpoint":
            statement = b"\x02" + canonical([entry["created_at"], signed])
        else:
            statement = b"\x03" + canonical([entry["created_at"], kept_s, signed])
        if not verifies(key, statement, signature):
            return f"the signature of its {event} is not valid"
        self.signers.add(key)
        for place in places:
            self.signed[place.writer] = max(self.signed.get(place.writer, 0), place.seq)
            if event == "checkpoint":
                self.claim(place, f"the checkpoint {entry['audit_id']}", received=False)
            else:
                self._anchor(Removal(place, entry["audit_id"], str(entry["created_at"]), kept_s))
        return None

    def _anchor(self, said: Removal) -> None:
        known = self._anchored.setdefault(said.place.writer, [said])
        if said.place.seq > known[0].place.seq:
            known[:] = [said]
        elif said.place.seq == known[0].place.seq:
            known.append(said)

    def check(self, entry: Entry) -> Iterator[str]:
        for claim in self._claims.pop((entry["writer"], entry["seq"]), []):
            if claim.entry_hash != entry["entry_hash"]:
                yield f"{claim.source} testifies to another entry here: history was rewritten"

    def end(self) -> Iterator[str]:
        for writer in sorted({*self.begins, *self._anchored}):
            yield from self._beginning(writer)
        for (writer, seq), claims in sorted(self._claims.items()):
            yield from (f"audit-{writer}-{seq}: {what}" for what in self._missing(writer, seq, claims))
        for writer, head in sorted(self.heads.items()) if self.public_keys else []:
            signed = self.signed.get(writer, 0)
            if head.seq - signed > LONGEST_UNSIGNED:
                what = f"no checkpoint testifies to the chain from here on to entry {head.seq}"
                yield f"audit-{writer}-{signed + 1}: {what}"

    def _beginning(self, writer: str) -> Iterator[str]:
        begin, anchors = self.begins.get(writer), self._anchored.get(writer, [])
        up_to, anchor = (anchors[0].place.seq, anchors[0].anchor) if anchors else (0, "")
        if begin is None or begin.seq < up_to:
            found = "the chain behind it is gone" if begin is None else "it is there, or something in its place"
            yield f"audit-{writer}-{up_to}: the anchor {anchor} testifies that it was removed: {found}"
        elif begin.seq > up_to:
            what = "what stood before it is missing, and no anchor testifies to its removal"
            yield f"audit-{writer}-{begin.seq + 1}: {what}"
        elif any(said.place != begin for said in anchors):
            what = f"it does not continue the entry to whose removal the anchor {anchor} testifies"
            yield f"audit-{writer}-{up_to + 1}: {what}"
        elif anchors:
            self.removed[writer] = anchors[0]

    def _missing(self, writer: str, seq: int, claims: list[Claim]) -> Iterator[str]:
        removed, begin = self.removed.get(writer), self.begins.get(writer)
        if begin is None or seq > begin.seq:
            yield f"{claims[0].source} testifies to this entry, and it is not there: the end was cut off"
        elif removed is None:
            return  # That it is missing is told at the beginning that no anchor explains.
        elif seq < removed.place.seq:
            self.untold += sum(claim.received for claim in claims)
        else:
            for claim in claims:
                if claim.entry_hash != removed.place.entry_hash:
                    yield f"{claim.source} testifies to another entry than {removed.anchor}, which removed it"


def summary(trail: Trail) -> Iterator[str]:
    for writer, head in sorted(trail.heads.items()):
        there = head.seq - trail.begins[writer].seq
        signed = max(0, trail.signed.get(writer, 0) - trail.begins[writer].seq)
        yield f"{writer}: {there} entries, {signed} of them signed, head {head.entry_hash}"
        if writer in trail.removed:
            place, anchor, at, kept_s = trail.removed[writer]
            kept = f"the anchor {anchor} of {at}; they were kept for {kept_s} s"
            yield f"{writer}: entries up to {place.seq} were removed, says {kept}"
    if trail.untold:
        yield f"receipts of removed entries, which nothing can check any more: {trail.untold}"
    for signer in sorted(trail.signers):
        yield f"signed with {signer}"


def verify(path: str, receipts_path: str | None, *public_keys: str) -> tuple[list[str], Trail]:
    """What is wrong, and what was found. Raises Unusable."""
    trail, wrong = Trail(*public_keys), list[str]()
    if receipts_path:
        for number, place in receipts(receipts_path):
            trail.claim(place, f"the receipt {receipts_path}:{number}")
        if not trail.claimed:
            raise Unusable(f"{receipts_path}: there is no receipt in it")
    for step in (trail.collect, trail.check):
        for entry in entries(path):
            wrong += [f"{entry['audit_id']}: {what}" for what in step(entry)]
    return wrong + list(trail.end()), trail


SPKI = bytes.fromhex("302a300506032b6570032100")
"""What stands before the key itself in DER (RFC 8410, section 4)."""


def public_key_of(path: str) -> str:
    """The key in hex digits, from those or from PEM."""
    text = b"".join(line for _, line in lines(path)).decode("ascii", "replace").strip()
    if "-----" in text:
        body = "".join(line for line in text.splitlines() if "-----" not in line)
        try:
            der = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            der = b""
        text = der[len(SPKI) :].hex() if der.startswith(SPKI) else ""
    if not HASH.fullmatch(text):
        raise Unusable(f"{path}: it is no Ed25519 public key, neither in PEM nor as 64 hex digits")
    return text


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Verifies an exported audit trail.")
    parser.add_argument("export", help="what `orchestrator audit export` wrote")
    parser.add_argument("--against", metavar="FILE", help="receipts, or answers with receipts, one JSON object a line")
    more = "whose checkpoints count; PEM or hex; again for each key that signed"
    parser.add_argument("--public-key", metavar="FILE", action="append", default=[], dest="keys", help=more)
    options = parser.parse_args(arguments)
    try:
        wrong, trail = verify(options.export, options.against, *map(public_key_of, options.keys))
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    for line in (*wrong, *summary(trail)):
        print(line)
    print("the trail does not hold" if wrong else "the trail holds")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
