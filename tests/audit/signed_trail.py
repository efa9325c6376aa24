"""A trail of two writers with checkpoints, as it is exported; and both verifiers, the product's and the stand-alone."""

import importlib.util
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from orchestrator.crypto.signing import Signer, verifies
from orchestrator.domain.anchor import anchor
from orchestrator.domain.audit import AuditDraft, AuditEntry, ChainCheck, Head, entry_hash, head_of, link
from orchestrator.domain.checkpoint import checkpoint
from orchestrator.domain.evidence import Evidence

ROOT = Path(__file__).resolve().parents[2]
VECTORS = Path(__file__).with_name("vectors")
KEY = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
"""
"""The secret key of the first test vector of RFC 8032, section 7.1."""
SIGNER = Signer(KEY)
PUBLIC = SIGNER.public_key
OTHER = Signer(KEY.replace("J1h", "J1i"))
"""Somebody else's."""
NOW = 1_700_000_000.0
KEPT_S = 31_536_000


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("verify_audit", ROOT / "scripts" / "verify_audit.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


SCRIPT = load_script()


@dataclass
class Trail:
    """Entries of all writers, chain by chain as they are exported, and the heads."""

    entries: list[AuditEntry] = field(default_factory=list)
    heads: dict[str, Head] = field(default_factory=dict)

    def write(self, writer: str, draft: AuditDraft) -> Head:
        entry = link(self.heads.get(writer, Head(writer)), draft)
        self.entries.append(entry)
        self.heads[writer] = head_of(entry)
        return self.heads[writer]

    def sign(self, writer: str, signer: Signer = SIGNER, now: float = NOW) -> Head:
        heads = [self.heads[name] for name in sorted(self.heads)]
        return self.write(writer, checkpoint(heads, now, signer.public_key, signer.sign))

    def cut(self, writer: str, *begins: Head, signer: Signer = SIGNER, now: float = NOW) -> Head:
        """An anchor in the chain of `writer`; all up to the places that it names is removed."""
        up_to = {begin.writer: begin.seq for begin in begins}
        end = self.write(writer, anchor(begins, KEPT_S, now, signer.public_key, signer.sign))
        self.entries = [entry for entry in self.entries if entry.seq > up_to.get(entry.writer, 0)]
        return end

    def exported(self) -> list[AuditEntry]:
        return sorted(self.entries, key=lambda entry: (entry.writer, entry.seq))


def a_draft(number: int) -> AuditDraft:
    return AuditDraft(
        event="accepted", created_at=NOW + number, task_id=f"task-{number}", case_id="Zoë 🩺", attempt=0, reason='"\n'
    )


def a_trail(length: int = 20) -> tuple[Trail, list[Head]]:
    """Two chains, three checkpoints and unsigned ends; and a receipt for each entry."""
    trail, receipts = Trail(), list[Head]()
    for number in range(length):
        receipts.append(trail.write("edge-2" if number % 3 else "main", a_draft(number)))
        if number % (length // 3) == length // 3 - 1:
            trail.sign("main", now=NOW + number)
    return trail, receipts


USUAL = (("edge-2", 4), ("main", 3))
"""Up to where the chains of a trail are cut, if nothing else matters."""


def cut_trail(*up_to: tuple[str, int]) -> tuple[Trail, list[Head], list[Head]]:
    """A trail that was cut up to these places, its receipts, and where its chains begin."""
    trail, receipts = a_trail()
    begins = [head_of(entry) for entry in trail.exported() if (entry.writer, entry.seq) in up_to]
    trail.cut("main", *begins)
    return trail, receipts, begins


def rechained(entries: Iterable[AuditEntry], *begins: Head) -> list[AuditEntry]:
    """As somebody makes them who can write everything: each entry fits the one before it, or where its chain begins."""
    found, heads = list[AuditEntry](), {begin.writer: begin for begin in begins}
    for entry in entries:
        before = heads.get(entry.writer, Head(entry.writer))
        numbered = replace(entry, seq=before.seq + 1, audit_id=f"audit-{entry.writer}-{before.seq + 1}")
        linked = replace(numbered, prev_hash=before.entry_hash)
        found.append(replace(linked, entry_hash=entry_hash(linked)))
        heads[entry.writer] = head_of(found[-1])
    return found


def by_product(entries: list[AuditEntry], receipts: Iterable[Head] = (), *keys: str) -> list[str]:
    """What the product finds wrong, when the heads that are kept agree with the entries."""
    evidence = Evidence(verifies, keys)
    for receipt in receipts:
        evidence.receipt(receipt, "a receipt")
    chains: dict[str, list[AuditEntry]] = {}
    for entry in entries:
        chains.setdefault(entry.writer, []).append(entry)
    heads = [head_of(chain[-1]) for chain in chains.values()]
    checks = {head.writer: ChainCheck(head) for head in heads}
    wrong = [f for e in entries for f in (*checks[e.writer].add(e), *evidence.collect(e))]
    wrong += [flaw for check in checks.values() for flaw in check.end()]
    for check in checks.values():
        evidence.begins(check.begin)
    wrong += [flaw for entry in entries for flaw in evidence.check(entry)]
    return [f"{flaw.audit_id}: {flaw.what}" for flaw in [*wrong, *evidence.end(heads)]]


def by_script(entries: list[AuditEntry], receipts: Iterable[Head] = (), *keys: str) -> list[str]:
    """What the stand-alone verifier finds wrong."""
    trail, wrong = SCRIPT.Trail(*keys), list[str]()
    for receipt in receipts:
        trail.claim(SCRIPT.Place(*msgspec.structs.astuple(receipt)), "a receipt")
    lines = [json.loads(msgspec.json.encode(entry)) for entry in entries]
    for step in (trail.collect, trail.check):
        wrong += [f"{line['audit_id']}: {what}" for line in lines for what in step(line)]
    return [*wrong, *trail.end()]


VERIFIERS = [pytest.param(by_product, id="product"), pytest.param(by_script, id="script")]


def flipped(text: str) -> Iterator[str]:
    """The text with one bit of each of its characters the other way round."""
    for place, character in enumerate(text):
        yield text[:place] + chr(ord(character) ^ 1) + text[place + 1 :]
