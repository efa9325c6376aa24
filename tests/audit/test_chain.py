"""Nothing of a chain can be changed, removed, moved or slipped in unseen, and the first such place is named."""

import json
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import asdict, replace

from orchestrator.domain.audit import (
    GENESIS,
    AuditDraft,
    AuditEntry,
    ChainCheck,
    Flaw,
    Head,
    audit_id,
    entry_hash,
    flaws,
    link,
    rfc3339,
)

LENGTH = 60
FIELDS = AuditEntry.__struct_fields__


@dataclass(frozen=True)
class Chain:
    """Entries and the head that they end at."""

    entries: list[AuditEntry]
    head: Head

    def with_entry(self, place: int, entry: AuditEntry) -> list[AuditEntry]:
        """The entries, one of them another."""
        return [*self.entries[:place], entry, *self.entries[place + 1 :]]

    def first_flaw(self, entries: list[AuditEntry]) -> Flaw:
        """The first place where these entries do not hold; there must be one."""
        return next(flaws(entries, self.head))


def a_draft(number: int) -> AuditDraft:
    """Every other one says all that can be said, the others as little as possible."""
    if number % 2:
        return AuditDraft(event="note", created_at=number)
    return AuditDraft(
        event="accepted",
        created_at=1_700_000_000 + number / 7,
        task_id=f"task-{number}",
        case_id="Fall Zoë 🩺",
        router_decision='{"ranking":["agent-1"]}',
        agent_id="agent-1",
        model_version="1.0",
        consent_id="consent-1",
        status="queued",
        attempt=number,
        reason='a "reason"\n',
    )


@pytest.fixture(scope="module")
def chain():
    entries: list[AuditEntry] = []
    head = Head("main")
    for number in range(LENGTH):
        entries.append(link(head, a_draft(number)))
        head = Head("main", entries[-1].seq, entries[-1].entry_hash)
    return Chain(entries, head)


def changes(value: Any) -> list[Any]:
    """What a field may be changed to: each character by one bit, a character more or less, another type, nothing."""
    if value is None:
        return ["", 0, "null"]
    if isinstance(value, int):
        return [value ^ 1, value + 2**40, -value - 1, str(value), float(value), None]
    flipped = [value[:i] + chr(ord(c) ^ 1) + value[i + 1 :] for i, c in enumerate(value)]
    return [*flipped, value + " ", value[:-1] if value else "x", value + "\0", None, value.encode()]


def test_whole_chain(chain):
    """Nothing is wrong with it, entry by entry or in one go."""
    assert list(flaws(chain.entries, chain.head)) == []
    check = ChainCheck(chain.head)
    assert [flaw for entry in chain.entries for flaw in check.add(entry)] == []
    assert list(check.end()) == []


def test_empty_chain():
    """It ends where it begins."""
    assert list(flaws([], Head("main"))) == []


@pytest.mark.parametrize("field", FIELDS)
def test_changed_field(chain, field):
    """Whatever is changed in any entry, it is found and the entry is named."""
    for place, entry in enumerate(chain.entries):
        for value in changes(getattr(entry, field)):
            flaw = chain.first_flaw(chain.with_entry(place, replace(entry, **{field: value})))
            if field == "entry_hash":
                # The entry is named that no longer fits its own hash.
                assert flaw.seq == entry.seq
            elif field == "seq":
                assert flaw.seq in (value, entry.seq)
            else:
                assert flaw.seq == entry.seq
                assert field == "audit_id" or flaw.audit_id == entry.audit_id


@pytest.mark.parametrize(
    "field", [field for field in FIELDS if field not in ("entry_hash", "writer", "seq", "audit_id")]
)
def test_changed_field_with_a_new_hash(chain, field):
    """Who computes the hash anew breaks the entry after it, or the head."""
    for place, entry in enumerate(chain.entries):
        changed = replace(entry, **{field: changes(getattr(entry, field))[0]})
        changed = replace(changed, entry_hash=entry_hash(changed))
        flaw = chain.first_flaw(chain.with_entry(place, changed))
        assert flaw.seq in (entry.seq, entry.seq + 1)


def test_changed_id_with_a_new_hash(chain):
    """The id follows from the place: the entry itself is named, whatever its hash says."""
    for place, entry in enumerate(chain.entries):
        changed = replace(entry, audit_id=audit_id("main", 99))
        changed = replace(changed, entry_hash=entry_hash(changed))
        assert chain.first_flaw(chain.with_entry(place, changed)).what == "its id was changed"


def test_removed_entry(chain):
    """The gap is named by what follows it, or by what the head says is missing."""
    for place, entry in enumerate(chain.entries):
        flaw = chain.first_flaw(chain.entries[:place] + chain.entries[place + 1 :])
        assert flaw.seq == (entry.seq if entry.seq == LENGTH else entry.seq + 1)
    assert chain.first_flaw([]).seq == 1


def test_removed_and_renumbered(chain):
    """Closing the gap by new numbers is found at the first of them."""
    for place in range(LENGTH - 1):
        later = [replace(e, seq=e.seq - 1, audit_id=audit_id("main", e.seq - 1)) for e in chain.entries[place + 1 :]]
        assert chain.first_flaw(chain.entries[:place] + later).seq == place + 1


def test_cut_off_end(chain):
    """However much is cut off, the first missing entry is named."""
    for place in range(LENGTH):
        flaw = chain.first_flaw(chain.entries[:place])
        assert (flaw.seq, flaw.audit_id) == (place + 1, audit_id("main", place + 1))


def test_swapped_entries(chain):
    """The first of the two places is named, with and without new numbers."""
    for place, (one, two) in enumerate(pairwise(chain.entries)):
        assert chain.first_flaw([*chain.entries[:place], two, one, *chain.entries[place + 2 :]]).seq == two.seq
        numbered = [replace(two, seq=one.seq, audit_id=one.audit_id), replace(one, seq=two.seq, audit_id=two.audit_id)]
        assert chain.first_flaw([*chain.entries[:place], *numbered, *chain.entries[place + 2 :]]).seq == one.seq


def test_duplicated_entry(chain):
    """It is named where it stands a second time."""
    for place, entry in enumerate(chain.entries):
        flaw = chain.first_flaw([*chain.entries[: place + 1], *chain.entries[place:]])
        assert (flaw.seq, flaw.audit_id) == (entry.seq, entry.audit_id)
        assert "follows" in flaw.what


def test_forged_entry(chain):
    """Chained correctly to what stands before it, it is betrayed by what stands after it, or by the head."""
    heads = [Head("main"), *(Head("main", entry.seq, entry.entry_hash) for entry in chain.entries)]
    for place, head in enumerate(heads):
        forged = link(head, replace(a_draft(7), event="forged"))
        flaw = chain.first_flaw([*chain.entries[:place], forged, *chain.entries[place:]])
        assert flaw.seq == forged.seq
        if place < LENGTH:
            flaw = chain.first_flaw(chain.with_entry(place, forged))
            assert flaw.seq in (forged.seq, forged.seq + 1)


def test_forged_entries_at_the_end(chain):
    """The first of them is named."""
    first = link(chain.head, a_draft(1))
    second = link(Head("main", first.seq, first.entry_hash), a_draft(2))
    assert chain.first_flaw([*chain.entries, first, second]).seq == first.seq


def test_entry_of_another_writer(chain):
    """It does not belong there."""
    other = link(Head("evil"), a_draft(1))
    assert chain.first_flaw([other, *chain.entries]).writer == "evil"
    assert chain.first_flaw([*chain.entries, other]).writer == "evil"


def test_chain_of_another_writer(chain):
    """A chain that is whole, but is not the one that was asked for, does not hold."""
    assert chain.first_flaw([link(Head("evil"), a_draft(1))]).seq == 1


def test_every_flaw_is_told(chain):
    """Checking goes on behind a flaw: each changed entry is named, and no sound one."""
    entries = list(chain.entries)
    for place in (3, 17, 59):
        entries[place] = replace(entries[place], reason="changed")
    assert [flaw.seq for flaw in flaws(entries, chain.head)] == [4, 18, 60]


def test_what_no_text_may_hold(chain):
    """Lone surrogates, bytes and other strangers are found, they do not break the check."""
    for value in ("\ud800", "\udcff", b"\xff", 1.5, float("nan"), ["note"], {"a": 1}, object()):
        flaw = chain.first_flaw(chain.with_entry(9, replace(chain.entries[9], reason=value)))
        assert flaw.seq == 10


def test_hash_in_another_program(chain):
    """Whoever can read JSON and knows SHA-256 can verify: one byte, then an array of all fields but the last."""
    for entry in chain.entries:
        fields = list(asdict(entry).values())[:-1]
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        assert sha256(b"\x01" + text.encode()).hexdigest() == entry.entry_hash


def test_hash_for_ever():
    """It never changes between versions, or old trails could not be verified."""
    entry = link(Head("main"), AuditDraft(event="accepted", created_at=1_700_000_000.25, case_id="Zoë", attempt=0))
    assert entry.prev_hash == GENESIS
    assert entry.created_at == "2023-11-14T22:13:20.250000Z"
    assert entry.entry_hash == "78f7b4ed7eab8840744c06911143cddf99cc4cc054e23253002ab50b1075747b"


def test_fields_do_not_run_into_each_other():
    """Moving text from one field to the next is another entry."""
    one = link(Head("main"), AuditDraft(event="e", created_at=0, task_id='a","b', case_id="c"))
    two = link(Head("main"), AuditDraft(event="e", created_at=0, task_id="a", case_id='b","c'))
    three = link(Head("main"), AuditDraft(event="e", created_at=0, task_id="null"))
    four = link(Head("main"), AuditDraft(event="e", created_at=0))
    assert len({entry.entry_hash for entry in (one, two, three, four)}) == 4


def test_times_sort_as_text():
    """Every instant has the same form, so that pages by time need no calendar."""
    instants = [0.0, 0.000001, 0.5, 1.0, 999.999999, 1_700_000_000.0, 1_700_000_000.1, 4_102_444_800.0]
    texts = [rfc3339(instant) for instant in instants]
    assert texts == sorted(texts)
    assert {len(text) for text in texts} == {27}
