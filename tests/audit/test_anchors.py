"""The beginning of a trail is removed by an anchor and no other way: both verifiers start there, and miss nothing."""

import json

import pytest
from msgspec.structs import replace
from signed_trail import (
    KEPT_S,
    NOW,
    OTHER,
    PUBLIC,
    SCRIPT,
    USUAL,
    VERIFIERS,
    Trail,
    a_draft,
    a_trail,
    by_product,
    cut_trail,
    flipped,
    rechained,
)

from orchestrator.crypto.signing import verifies
from orchestrator.domain.audit import GENESIS, AuditEntry, Head, flaws, head_before, head_of
from orchestrator.domain.evidence import LONGEST_UNSIGNED, Evidence

for_both = pytest.mark.parametrize("verifier", VERIFIERS)


def begins_of(entries: list[AuditEntry]) -> dict[str, Head]:
    return {entry.writer: head_before(entry) for entry in reversed(entries)}


@for_both
def test_removed_in_order(verifier):
    """Nothing is wrong, with all receipts and the key or without, wherever the chains were cut."""
    for edge in range(1, 11):
        trail, receipts, _ = cut_trail(("edge-2", edge), ("main", 3))
        assert begins_of(trail.exported())["edge-2"].seq == edge
        assert verifier(trail.exported()) == []
        assert verifier(trail.exported(), receipts, PUBLIC) == []


@for_both
def test_removed_again(verifier):
    """The last anchor names all beginnings: those before it may be removed too, and more is written behind it."""
    trail, receipts, (edge, _) = cut_trail(*USUAL)
    last = head_of(trail.exported()[-1])
    trail.write("main", a_draft(30))
    trail.cut("main", edge, last, now=NOW + 50)
    trail.write("edge-2", a_draft(31))
    assert [e.event for e in trail.exported() if e.writer == "main"] == ["accepted", "anchor"]
    assert verifier(trail.exported(), receipts, PUBLIC) == []


@for_both
def test_removed_without_an_anchor(verifier):
    """However many entries, in a chain that was never cut, and in one that was cut before."""
    whole, _ = a_trail()
    cut, _, _ = cut_trail(*USUAL)
    for trail in (whole, cut):
        for writer in ("edge-2", "main"):
            chain = [entry for entry in trail.exported() if entry.writer == writer]
            for number in range(1, len(chain)):
                left = [entry for entry in trail.exported() if entry not in chain[:number]]
                first = chain[number]
                found = verifier(left, (), PUBLIC)
                if any(entry.event == "anchor" for entry in left) or trail is whole:
                    assert any(w.startswith(f"{first.audit_id}: what stood before it is missing") for w in found)
                assert found


@for_both
def test_gap_behind_the_anchor(verifier):
    """An entry behind the beginning is missing: it is found there."""
    trail, _, _ = cut_trail(*USUAL)
    for gone in trail.exported():
        chain = [entry for entry in trail.exported() if entry.writer == gone.writer]
        if gone not in (chain[0], chain[-1]):
            left = [entry for entry in trail.exported() if entry is not gone]
            assert f"audit-{gone.writer}-{gone.seq + 1}: it follows entry {gone.seq - 1}" in str(verifier(left))


@for_both
def test_anchor_that_is_gone(verifier):
    """With all hashes made to fit, nothing testifies to the beginning any more."""
    trail, _, begins = cut_trail(*USUAL)
    trail.write("main", a_draft(30))
    left = rechained([entry for entry in trail.exported() if entry.event != "anchor"], *begins)
    assert sum("no anchor testifies to its removal" in what for what in verifier(left)) == 2


@for_both
def test_last_anchor_that_is_gone(verifier):
    """The one before it testifies to a beginning that is there no more."""
    trail, _, (edge, main) = cut_trail(*USUAL)
    later = next(head_of(entry) for entry in trail.exported() if (entry.writer, entry.seq) == ("edge-2", 9))
    trail.cut("main", later, main, now=NOW + 50)
    assert verifier(trail.exported(), (), PUBLIC) == []
    assert [entry.event for entry in trail.exported()][-2:] == ["anchor", "anchor"]
    (what,) = verifier(trail.exported()[:-1], (), PUBLIC)
    assert what.startswith("audit-edge-2-10: what stood before it is missing")
    assert edge.seq < later.seq


@for_both
def test_anchor_of_a_thief(verifier):
    """Signed with a key of their own it does not count for who has the right one; nothing else is wrong with it."""
    trail, _ = a_trail()
    (begin,) = [head_of(entry) for entry in trail.exported() if (entry.writer, entry.seq) == ("edge-2", 5)]
    trail.cut("main", begin, signer=OTHER)
    assert verifier(trail.exported()) == []
    found = verifier(trail.exported(), (), PUBLIC)
    assert any("its anchor is signed with another key" in what for what in found)
    assert any(what.startswith("audit-edge-2-6: what stood before it is missing") for what in found)


@for_both
def test_anchor_that_was_moved(verifier):
    """To another place, another time, or another chain's beginning, with all hashes made to fit: it does not hold."""
    trail, _, begins = cut_trail(*USUAL)
    whole = trail.exported()
    signed = next(entry for entry in whole if entry.event == "anchor")
    others = [entry for entry in whole if entry is not signed]
    place = next(number for number, entry in enumerate(others) if entry.writer == "main")
    assert verifier(rechained([*others[:place], signed, *others[place:]], *begins), (), PUBLIC)
    later = replace(signed, created_at="2026-01-01T00:00:00.000000Z")
    for entry in (later, replace(signed, detail=(signed.detail or "").replace('"seq":4', '"seq":5'))):
        assert "the signature of its anchor is not valid" in str(verifier(rechained([*others, entry], *begins)))


@for_both
def test_beginning_that_does_not_fit(verifier):
    """The first entry that is left continues another one than the anchor says, with all hashes made to fit."""
    trail, _, (edge, main) = cut_trail(*USUAL)
    forged = rechained(trail.exported(), replace(edge, entry_hash="ab" * 32), main)
    assert any(what.startswith("audit-edge-2-5: it does not continue the entry") for what in verifier(forged))


@for_both
def test_entries_that_are_there_again(verifier):
    """What an anchor says was removed is there, as it was or made anew; or the chain behind it is gone."""
    before, _ = a_trail()
    trail, _, _ = cut_trail(*USUAL)
    back = [entry for entry in before.exported() if entry.writer == "edge-2" and entry.seq <= 4]
    for number in range(4):
        entries = [*back[number:], *trail.exported()]
        assert "audit-edge-2-4: the anchor audit-main-11 testifies that it was removed" in str(verifier(entries))
    gone = [entry for entry in trail.exported() if entry.writer != "edge-2"]
    assert any("the chain behind it is gone" in what for what in verifier(gone))


@for_both
def test_history_rewritten_behind_the_anchor(verifier):
    """A checkpoint that is left testifies as ever, and so does each receipt."""
    trail, receipts, begins = cut_trail(("edge-2", 2), ("main", 1))
    whole = trail.exported()
    for place, entry in enumerate(whole):
        if entry.event == "accepted":
            forged = rechained([*whole[:place], replace(entry, reason="forged"), *whole[place + 1 :]], *begins)
            later = [r for r in receipts if r.writer == entry.writer and r.seq >= entry.seq]
            assert verifier(forged, later[-1:], PUBLIC)
            if (entry.writer, entry.seq) < ("edge-2", 11):
                assert any("history was rewritten" in what for what in verifier(forged, (), PUBLIC))


@for_both
@pytest.mark.parametrize("field", ["created_at", "kept_s", "begins", "public_key", "signature"])
def test_every_byte_of_an_anchor(verifier, field):
    """Whatever bit of it is changed, and the chain made to fit: the signature does not."""
    trail, _, begins = cut_trail(*USUAL)
    whole = trail.exported()
    signed = next(entry for entry in whole if entry.event == "anchor")
    assert signed.detail is not None
    value = signed.created_at if field == "created_at" else json.dumps(json.loads(signed.detail)[field])
    for text in list(flipped(value))[:: 1 if verifier is by_product else 9]:
        before = f'"{field}":' + value.replace(": ", ":").replace(", ", ",")
        assert field == "created_at" or before in signed.detail
        forged = replace(signed, detail=signed.detail.replace(before, f'"{field}":' + text))
        if field == "created_at":
            forged = replace(signed, created_at=text)
        elif forged.detail == signed.detail or (field == "begins" and json.loads(value) == _json(text)):
            continue
        entries = rechained([forged if entry is signed else entry for entry in whole], *begins)
        assert verifier(entries, (), PUBLIC), text


def _json(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return None


@for_both
@pytest.mark.parametrize(
    "detail", [None, "", "null", "[]", "{}", '{"begins":[]}', '{"begins":[],"public_key":"","signature":""}', "{"]
)
def test_anchor_that_says_nothing(verifier, detail):
    """It is named, and breaks nothing."""
    trail, _, begins = cut_trail(*USUAL)
    entries = [replace(e, detail=detail) if e.event == "anchor" else e for e in trail.exported()]
    assert "it is no anchor that can be read" in str(verifier(rechained(entries, *begins)))


@for_both
def test_checkpoint_in_the_place_of_an_anchor(verifier):
    """What is signed for one event is not valid for the other."""
    trail, _ = a_trail()
    begin = next(head_of(entry) for entry in trail.exported() if (entry.writer, entry.seq) == ("edge-2", 4))
    left = [entry for entry in trail.exported() if (entry.writer, entry.seq) > ("edge-2", 4)]
    for event, extra in (("anchor", {"kept_s": KEPT_S}), ("anchor", {})):
        signed = next(entry for entry in left if entry.event == "checkpoint")
        said = json.loads(signed.detail or "")
        said = {"begins": said["heads"], "public_key": said["public_key"], "signature": said["signature"], **extra}
        forged = [replace(e, event=event, detail=json.dumps(said)) if e is signed else e for e in left]
        assert any("its anchor" in what or "no anchor" in what for what in verifier(rechained(forged, begin)))


@for_both
def test_receipts_of_removed_entries(verifier):
    """That of the last one is checked against the anchor; one that is further back tells nothing, either way."""
    trail, _, (edge, main) = cut_trail(*USUAL)
    assert verifier(trail.exported(), [edge, main], PUBLIC) == []
    forged = replace(edge, entry_hash="ab" * 32)
    (what,) = verifier(trail.exported(), [edge, forged], PUBLIC)
    assert what == "audit-edge-2-4: a receipt testifies to another entry than audit-main-11, which removed it"
    assert verifier(trail.exported(), [Head("edge-2", 3, "ab" * 32)], PUBLIC) == []


@for_both
def test_long_chain_of_which_little_is_left(verifier):
    """An anchor is a signature as well: what it removed needs no checkpoint, what comes behind it does."""
    trail = Trail()
    for number in range(LONGEST_UNSIGNED + 10):
        trail.write("main", a_draft(number))
    trail.cut("main", head_of(trail.entries[-2]))
    for number in range(LONGEST_UNSIGNED - 2):
        trail.write("main", a_draft(number))
    assert verifier(trail.exported(), (), PUBLIC) == []
    trail.write("main", a_draft(0))
    assert "no checkpoint testifies" in str(verifier(trail.exported(), (), PUBLIC))


def test_chain_by_itself():
    """Where nobody looks for anchors, a chain that begins late does not hold."""
    trail, _, _ = cut_trail(*USUAL)
    chain = [entry for entry in trail.exported() if entry.writer == "edge-2"]
    (flaw,) = flaws(chain, head_of(chain[-1]))
    assert (flaw.writer, flaw.seq) == ("edge-2", 5)


def test_what_is_told_of_it():
    """Both say the same: which anchor, since when, and how many receipts nobody can check any more."""
    trail, receipts, (edge, main) = cut_trail(*USUAL)
    evidence, script = Evidence(verifies, [PUBLIC]), SCRIPT.Trail(PUBLIC)
    for receipt in receipts:
        evidence.receipt(receipt, "a receipt")
        script.claim(SCRIPT.Place(receipt.writer, receipt.seq, receipt.entry_hash), "a receipt")
    entries = trail.exported()
    for begin in begins_of(entries).values():
        evidence.begins(begin)
    found = [flaw for step in (evidence.collect, evidence.check) for entry in entries for flaw in step(entry)]
    assert [*found, *evidence.end([])] == []
    lines = [json.loads(json.dumps({name: getattr(e, name) for name in e.__struct_fields__})) for e in entries]
    assert [what for step in (script.collect, script.check) for line in lines for what in step(line)] == []
    assert list(script.end()) == []
    told = {writer: (r.place.seq, r.anchor, r.at, r.kept_s) for writer, r in evidence.removed.items()}
    assert told == {writer: (r.place.seq, r.anchor, r.at, r.kept_s) for writer, r in script.removed.items()}
    assert told == {w: (s, "audit-main-11", "2023-11-14T22:13:20.000000Z", KEPT_S) for w, s in USUAL}
    before = [r for r in receipts if r.seq < {"edge-2": edge.seq, "main": main.seq}[r.writer]]
    assert evidence.untold == script.untold == len(before) > 0
    assert GENESIS not in {begin.entry_hash for begin in (edge, main)}
