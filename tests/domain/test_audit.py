"""The chain of audit entries: none can be changed, removed, moved or slipped in unseen."""

import json
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.domain.audit import GENESIS, AuditDraft, AuditEntry, Head, entry_hash, flaws, link, rfc3339

WRITER = "writer-1"


def chain(count: int, writer: str = WRITER) -> tuple[list[AuditEntry], Head]:
    head, entries = Head(writer), []
    for n in range(count):
        entry = link(head, AuditDraft(event="leased", created_at=1.5 + n, task_id=f"task-{n}", attempt=n, reason="é"))
        entries.append(entry)
        head = Head(writer, entry.seq, entry.entry_hash)
    return entries, head


def found(entries: list[AuditEntry], head: Head) -> list[str]:
    return [flaw.what for flaw in flaws(entries, head)]


@pytest.mark.parametrize("count", [0, 1, 2, 10])
def test_a_whole_chain(count):
    """Has no flaw."""
    assert found(*chain(count)) == []


def test_an_entry():
    """Follows the head: the next number, the hash before it, the time in UTC."""
    first, second = chain(2)[0]
    assert (first.seq, first.prev_hash, first.audit_id) == (1, GENESIS, "audit-writer-1-1")
    assert (second.seq, second.prev_hash, second.created_at) == (2, first.entry_hash, "1970-01-01T00:00:02.500000Z")


def test_another_implementation():
    """With nothing but JSON and SHA-256 the hash can be had again: it is over all fields in their order but itself."""
    entry = chain(3)[0][2]
    *fields, entry_hash = msgspec.structs.astuple(entry)
    canonical = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    assert sha256(b"\x01" + canonical.encode()).hexdigest() == entry_hash


CHANGES: dict[str, list[Any]] = {name: ["x", "", None, 7, b"x", "\ud800"] for name in AuditEntry.__struct_fields__}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_field(name):
    """Whichever it is, and whatever is put in its place, even what no ledger writes, it is found."""
    for value in CHANGES[name]:
        entries, head = chain(3)
        if getattr(entries[1], name) == value or (name == "seq" and not isinstance(value, int)):
            continue
        entries[1] = replace(entries[1], **{name: value})
        assert found(entries, head)


def test_a_changed_entry_with_its_hash_made_again():
    """Does not fit to the entry after it; the last one does not fit to the head."""
    entries, head = chain(3)
    for place in (1, 2):
        before = Head(WRITER, place, entries[place - 1].entry_hash)
        forged = link(before, AuditDraft(event="denied", created_at=9.0))
        assert found([*entries[:place], forged, *entries[place + 1 :]], head)


@pytest.mark.parametrize("place", range(5))
def test_an_entry_removed_doubled_or_moved(place):
    """Is found, wherever it stood."""
    entries, head = chain(5)
    assert found(entries[:place] + entries[place + 1 :], head)
    assert found([*entries[: place + 1], *entries[place:]], head)
    moved = entries[:place] + entries[place + 1 :]
    assert found([entries[place], *moved] if place else [*moved, entries[place]], head)


def test_a_chain_cut_off():
    """The head says that there was more, and from where on it is missing."""
    entries, head = chain(5)
    (flaw,) = flaws(entries[:3], head)
    assert (flaw.seq, flaw.what) == (4, "the chain ends after entry 3, its head says 5")
    assert found([], head)


def test_a_head_that_was_changed():
    """Entries that it does not know are found."""
    entries, _ = chain(5)
    assert found(entries, Head(WRITER, 4, entries[3].entry_hash))
    assert found(entries, Head(WRITER, 5, GENESIS))


def test_the_chain_of_another_writer():
    """Is no chain of this one."""
    entries, head = chain(3, "writer-2")
    assert "it belongs to another writer" in found(entries, Head(WRITER, 3, head.entry_hash))


@given(st.lists(st.integers(0, 5), max_size=8))
def test_any_selection(places):
    """Of all sequences of its entries the chain alone is whole."""
    entries, head = chain(6)
    assert bool(found([entries[place] for place in places], head)) == (places != [0, 1, 2, 3, 4, 5])


@given(st.floats(0, 253402300799))
def test_any_instant(seconds):
    """Times are written with the same width, so that they sort as text."""
    assert len(rfc3339(seconds)) == len("1970-01-01T00:00:00.000000Z")


@given(
    texts=st.lists(st.none() | st.text(st.characters(codec="utf-8")), min_size=6, max_size=6),
    attempt=st.none() | st.integers(0, 2**62),
)
def test_whoever_writes_an_entry_and_whoever_verifies_it(texts, attempt):
    """Both make the same bytes of it, whatever its texts hold: what was written is found whole."""
    task_id, case_id, decision, reason, detail, principal = texts
    draft = AuditDraft(
        event="accepted", created_at=1.25, task_id=task_id, case_id=case_id, router_decision=decision, attempt=attempt,
        reason=reason, detail=detail, principal=principal,
    )  # fmt: skip
    entry = link(Head("main"), draft)
    assert entry.entry_hash == entry_hash(entry)
