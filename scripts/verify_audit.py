#!/usr/bin/env python3
"""Verifies an exported audit trail with nothing but Python's standard library (3.11 or newer), on any machine.

    python3 verify_audit.py audit.ndjson [--against receipts.ndjson] [--public-key key.pem]

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
        entry = members(parsed(line))
        if set(entry) != set(FIELDS):
            raise Unusable(f"{path}:{number}: it is no audit entry")
        if not isinstance(entry["writer"], str) or type(entry["seq"]) is not int:
            raise Unusable(f"{path}:{number}: its writer and its number are not what they should be")
        yield entry


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
        return json.loads(line)
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


class Trail:
    """First `collect` all entries, then `check` all of them, then ask for the `end`; each tells what is wrong."""

    def __init__(self, public_key: str | None) -> None:
        self.public_key = public_key
        self.heads: dict[str, Place] = {}
        self.signed: dict[str, int] = {}
        self.signers: set[str] = set()
        self._claims: dict[Key, list[tuple[str, str]]] = {}

    def claim(self, place: Place, source: str) -> None:
        if place.seq > 0:
            self._claims.setdefault((place.writer, place.seq), []).append((place.entry_hash, source))

    def collect(self, entry: Entry) -> Iterator[str]:
        before = self.heads.get(entry["writer"], Place(entry["writer"], 0, GENESIS))
        what = broken_link(before, entry)
        self.heads[entry["writer"]] = Place(entry["writer"], entry["seq"], str(entry["entry_hash"]))
        if what is None and entry["event"] == "checkpoint":
            what = self._testimony(entry)
        if what is not None:
            yield what

    def _testimony(self, entry: Entry) -> str | None:
        found = members(parsed(entry["detail"]))
        if not isinstance(found.get("heads"), list):
            return "it is no checkpoint that can be read"
        heads, key, signature = (
            [place_of(head) for head in found["heads"]],
            found.get("public_key"),
            found.get("signature"),
        )
        named = [head for head in heads if head is not None]
        if len(named) != len(heads) or not isinstance(key, str) or not isinstance(signature, str):
            return "it is no checkpoint that can be read"
        if self.public_key not in (None, key):
            return "its checkpoint is signed with another key"
        if not verifies(key, b"\x02" + canonical([entry["created_at"], [list(head) for head in named]]), signature):
            return "the signature of its checkpoint is not valid"
        self.signers.add(key)
        for head in named:
            self.signed[head.writer] = max(self.signed.get(head.writer, 0), head.seq)
            self.claim(head, f"the checkpoint {entry['audit_id']}")
        return None

    def check(self, entry: Entry) -> Iterator[str]:
        for digest, source in self._claims.pop((entry["writer"], entry["seq"]), []):
            if digest != entry["entry_hash"]:
                yield f"{source} testifies to another entry here: history was rewritten"

    def end(self) -> Iterator[str]:
        for (writer, seq), claims in sorted(self._claims.items()):
            what = f"{claims[0][1]} testifies to this entry, and it is not there: the end was cut off"
            yield f"audit-{writer}-{seq}: {what}"
        for writer, head in sorted(self.heads.items()) if self.public_key else []:
            signed = self.signed.get(writer, 0)
            if head.seq - signed > LONGEST_UNSIGNED:
                what = f"no checkpoint testifies to the chain from here on to entry {head.seq}"
                yield f"audit-{writer}-{signed + 1}: {what}"


def verify(path: str, receipts_path: str | None, public_key: str | None) -> tuple[list[str], Trail]:
    """What is wrong, and what was found. Raises Unusable."""
    trail, wrong = Trail(public_key), list[str]()
    if receipts_path:
        for number, place in receipts(receipts_path):
            trail.claim(place, f"the receipt {receipts_path}:{number}")
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
    parser.add_argument("--public-key", metavar="FILE", help="whose checkpoints count; PEM or hex")
    options = parser.parse_args(arguments)
    try:
        key = public_key_of(options.public_key) if options.public_key else None
        wrong, trail = verify(options.export, options.against, key)
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    for line in wrong:
        print(line)
    for writer, head in sorted(trail.heads.items()):
        print(f"{writer}: {head.seq} entries, {trail.signed.get(writer, 0)} of them signed, head {head.entry_hash}")
    for signer in sorted(trail.signers):
        print(f"signed with {signer}")
    print("the trail does not hold" if wrong else "the trail holds")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
