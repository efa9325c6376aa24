"""Receipts and signatures find what the chain alone cannot: history written anew by who can write everything."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from signed_trail import (
    KEY,
    OTHER,
    PUBLIC,
    SCRIPT,
    SIGNER,
    USUAL,
    VECTORS,
    VERIFIERS,
    Trail,
    a_draft,
    a_trail,
    by_product,
    cut_trail,
    flipped,
    rechained,
)

from orchestrator.crypto.signing import InvalidKey, Signer, public_key_of, verifies
from orchestrator.domain.audit import GENESIS, AuditEntry, head_of
from orchestrator.domain.evidence import LONGEST_UNSIGNED, InvalidReceipt, receipt_of

pytestmark = pytest.mark.parametrize("verifier", VERIFIERS)


def test_untouched(verifier):
    """Nothing is wrong, with receipts and key or without."""
    trail, receipts = a_trail()
    assert verifier(trail.exported()) == []
    assert verifier(trail.exported(), receipts, PUBLIC) == []


def test_end_cut_off(verifier):
    """With its head put right the chain still holds: only a receipt of what is gone finds it, and each one does."""
    trail, receipts = a_trail()
    whole = trail.exported()
    for length in range(1, len(whole)):
        left = whole[:length]
        gone = [receipt for receipt in receipts if receipt not in [head_of(entry) for entry in left]]
        for receipt in gone[:3]:
            assert any("cut off" in what for what in verifier(left, [receipt], PUBLIC))


def test_end_cut_off_unsigned(verifier):
    """Without receipts, what no checkpoint testifies to can vanish unseen: this is why receipts are given."""
    trail, _ = a_trail()
    assert trail.exported()[-1].event != "checkpoint"
    assert verifier(trail.exported()[:-1], (), PUBLIC) == []


def test_end_of_another_writer_cut_off(verifier):
    """A checkpoint in one chain testifies to the others: what it names cannot be cut off."""
    trail = Trail()
    for number in range(4):
        trail.write("edge-2", a_draft(number))
    trail.write("main", a_draft(9))
    trail.sign("main")
    left = [entry for entry in trail.exported() if (entry.writer, entry.seq) != ("edge-2", 4)]
    assert any("cut off" in what for what in verifier(left))
    gone = [entry for entry in trail.exported() if entry.writer != "edge-2"]
    assert any("cut off" in what for what in verifier(gone))


@pytest.mark.parametrize("change", ["changed", "removed", "doubled", "inserted", "swapped"])
def test_history_rewritten(verifier, change):
    """All hashes made anew after a change: a signature finds it before its checkpoint, a receipt finds it anywhere."""
    trail, receipts = a_trail(12)
    whole = trail.exported()
    signed = {"edge-2": 7, "main": 6}
    for place, entry in enumerate(whole[:-1]):
        forged = replace(entry, reason="forged", event="accepted")
        if change in ("doubled", "swapped") and entry.writer != whole[place + 1].writer:
            continue  # At the end of a chain: there is nothing to swap with, and one more is no contradiction.
        entries = rechained(
            {
                "changed": [*whole[:place], forged, *whole[place + 1 :]],
                "removed": [*whole[:place], *whole[place + 1 :]],
                "doubled": [*whole[: place + 1], *whole[place:]],
                "inserted": [*whole[:place], forged, *whole[place:]],
                "swapped": [*whole[:place], *reversed(whole[place : place + 2]), *whole[place + 2 :]],
            }[change]
        )
        if entry.seq < signed[entry.writer]:
            assert verifier(entries, (), PUBLIC)
        later = [r for r in receipts if r.writer == entry.writer and r.seq >= entry.seq + (change == "doubled")]
        if later:
            assert verifier(entries, later[-1:])


def test_rewritten_without_checkpoints(verifier):
    """Who takes them all out has to leave a long chain unsigned: found by who knows that there is a key."""
    trail = Trail()
    for number in range(LONGEST_UNSIGNED + 1):
        trail.write("main", a_draft(number))
    assert verifier(trail.exported()) == []
    assert ["no checkpoint testifies" in what for what in verifier(trail.exported(), (), PUBLIC)] == [True]
    assert verifier(trail.exported()[:-1], (), PUBLIC) == []


def test_signed_with_another_key(verifier):
    """A thief's own key signs well, and does not count for who has the right one."""
    trail = Trail()
    trail.write("main", a_draft(1))
    trail.sign("main", OTHER)
    assert verifier(trail.exported()) == []
    assert ["another key" in what for what in verifier(trail.exported(), (), PUBLIC)] == [True]


def test_another_past_under_the_same_key(verifier):
    """Who holds the key can sign one that holds. What lies elsewhere finds it: a receipt, or a checkpoint's place."""
    trail, receipts = a_trail()
    forged = Trail()
    for entry in trail.entries:
        if entry.event == "checkpoint":
            forged.sign("main")
        else:
            forged.write(entry.writer, replace(a_draft(0), case_id="another"))
    assert verifier(forged.exported(), (), PUBLIC) == []
    checkpoints = [head_of(entry) for entry in trail.exported() if entry.event == "checkpoint"]
    for place in (*receipts, *checkpoints):
        assert any("history was rewritten" in what for what in verifier(forged.exported(), [place], PUBLIC))


def test_signed_with_a_new_key(verifier):
    """Who has both public keys finds nothing wrong; who has one of them is told what the other one signed."""
    trail, receipts = a_trail()
    trail.sign("main", OTHER)
    assert verifier(trail.exported(), receipts, PUBLIC, OTHER.public_key) == []
    assert ["another key" in what for what in verifier(trail.exported(), (), PUBLIC)] == [True]
    assert sum("another key" in what for what in verifier(trail.exported(), (), OTHER.public_key)) == 3


@pytest.mark.parametrize("field", ["created_at", "heads", "public_key", "signature"])
def test_every_byte_of_a_checkpoint(verifier, field):
    """Whatever bit of it is changed, and the chain made to fit: the signature does not."""
    trail = Trail()
    trail.write("edge-2", a_draft(0))
    trail.write("main", a_draft(1))
    trail.sign("main")
    trail.write("main", a_draft(2))
    whole = trail.exported()
    signed = next(entry for entry in whole if entry.event == "checkpoint")
    assert signed.detail is not None
    step = 1 if verifier is by_product else 9
    value = signed.created_at if field == "created_at" else json.dumps(json.loads(signed.detail)[field])
    for text in list(flipped(value))[::step]:
        if field == "created_at":
            forged = replace(signed, created_at=text)
        else:
            before = f'"{field}":' + value.replace(": ", ":").replace(", ", ",")
            assert before in signed.detail
            forged = replace(signed, detail=signed.detail.replace(before, f'"{field}":' + text))
        if field == "heads" and forged.detail == signed.detail:
            continue
        entries = rechained([forged if entry is signed else entry for entry in whole])
        assert verifier(entries, (), PUBLIC), text


@pytest.mark.parametrize("field", ["writer", "seq", "entry_hash"])
def test_every_byte_of_a_receipt(verifier, field):
    """A receipt that was altered never passes for one of this trail."""
    trail, receipts = a_trail(9)
    for receipt in receipts[::4]:
        value = str(getattr(receipt, field))
        for text in flipped(value):
            if field == "seq":
                altered = replace(receipt, seq=int(text)) if text.isdigit() else None
            else:
                altered = replace(receipt, **{field: text})
            if altered is not None and altered.seq > 0 and altered not in receipts:
                assert verifier(trail.exported(), [altered])


@pytest.mark.parametrize("detail", [None, "", "null", "[]", "{}", '{"heads":[]}', '{"heads":[1]}', "{"])
def test_checkpoint_that_says_nothing(verifier, detail):
    """It is named, and breaks nothing."""
    trail, _ = a_trail()
    entries = [replace(e, detail=detail) if e.event == "checkpoint" else e for e in trail.exported()]
    assert "it is no checkpoint that can be read" in str(verifier(rechained(entries)))


def test_contradicting_receipts(verifier):
    """Two trails shown to two clients: at most one of their receipts can hold."""
    trail, receipts = a_trail()
    other = replace(receipts[3], entry_hash="ab" * 32)
    assert len(verifier(trail.exported(), [receipts[3], other])) == 1


@pytest.mark.parametrize(
    ("file", "made"), [("trail.ndjson", a_trail), ("cut_trail.ndjson", lambda: cut_trail(*USUAL))], ids=["whole", "cut"]
)
def test_vectors(verifier, file, made):
    """The trails that are kept for all versions, and for verifiers in other languages, still hold.

    One of them begins at an anchor.
    """
    lines = (VECTORS / file).read_bytes().splitlines()
    receipts = [receipt_of(line) for line in (VECTORS / "receipts.ndjson").read_bytes().splitlines()]
    key = public_key_of((VECTORS / "public_key.pem").read_text())
    trail, expected, *_ = made()
    assert [msgspec.json.encode(entry) for entry in trail.exported()] == lines
    assert (receipts, key) == (expected, PUBLIC)
    assert verifier([msgspec.json.decode(line, type=AuditEntry) for line in lines], receipts, key) == []


class TestSignatures:
    """Of RFC 8032, section 7.1, and of chance: the script's arithmetic is that of the library."""

    RFC = (
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    )

    @pytest.mark.parametrize("vector", RFC, ids=range(1, 4))
    def test_of_the_standard(self, verifier, vector):
        """Each is valid, and not for another message, key or signature."""
        check = verifies if verifier is by_product else SCRIPT.verifies
        key, message, signature = vector
        assert check(key, bytes.fromhex(message), signature)
        assert not check(key, bytes.fromhex(message) + b"x", signature)
        assert not check(PUBLIC if key != PUBLIC else OTHER.public_key, bytes.fromhex(message), signature)
        for text in list(flipped(signature))[::8]:
            assert not check(key, bytes.fromhex(message), text)

    def test_malleated(self, verifier):
        """The same signature with the group's order added is refused (section 5.1.7)."""
        check = verifies if verifier is by_product else SCRIPT.verifies
        signature = bytes.fromhex(SIGNER.sign(b"m"))
        more = int.from_bytes(signature[32:], "little") + SCRIPT.L
        assert check(PUBLIC, b"m", signature.hex())
        assert not check(PUBLIC, b"m", (signature[:32] + more.to_bytes(32, "little")).hex())

    @pytest.mark.parametrize("text", ["", "00", "zz" * 32, "ff" * 32, "00" * 31, "é" * 64])
    def test_of_no_kind(self, verifier, text):
        """What is no key or no signature verifies nothing, and breaks nothing."""
        check = verifies if verifier is by_product else SCRIPT.verifies
        assert not check(text, b"m", SIGNER.sign(b"m"))
        assert not check(PUBLIC, b"m", text)


@given(message=st.binary(max_size=200), flip=st.none() | st.integers(0, 511))
def test_any_message(verifier, message, flip):
    """Both agree on what is signed, and on what is not."""
    signature = bytearray(bytes.fromhex(SIGNER.sign(message)))
    if flip is not None:
        signature[flip // 8] ^= 1 << flip % 8
    check = verifies if verifier is by_product else SCRIPT.verifies
    assert check(PUBLIC, message, signature.hex()) == (flip is None)


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"{", b"[]", b"1", b"null", b"{}", b"\xff", b'{"writer":"a"}', b'{"receipt":{"writer":"a"}}'),
        b'{"receipt":5}',
        b'{"writer":"a","seq":1,"entry_hash":"x"}',
        b'{"writer":"a","seq":0,"entry_hash":"%s"}' % (b"ab" * 32),
        b'{"writer":"a","seq":true,"entry_hash":"%s"}' % (b"ab" * 32),
        b'{"writer":"a","seq":1,"entry_hash":"%s"}' % GENESIS.encode(),
    ],
)
def test_line_that_is_no_receipt(verifier, line, tmp_path):
    """It is refused, not passed over: nobody should believe that it was checked."""
    if verifier is by_product:
        with pytest.raises(InvalidReceipt):
            receipt_of(line)
    elif line:
        file = tmp_path / "receipts"
        file.write_bytes(line)
        with pytest.raises(SCRIPT.Unusable):
            list(SCRIPT.receipts(str(file)))


def test_receipt_in_an_answer(verifier, tmp_path):
    """Whoever keeps the answers as they came keeps the receipts."""
    receipt = b'{"writer":"main","seq":3,"entry_hash":"%s"}' % (b"ab" * 32)
    answer = b'{"task_id":"task-1","status":"queued","receipt":%s}' % receipt
    file = tmp_path / "receipts"
    file.write_bytes(answer + b"\n\n")
    found = receipt_of(answer) if verifier is by_product else next(SCRIPT.receipts(str(file)))[1]
    assert (found.writer, found.seq, found.entry_hash) == ("main", 3, "ab" * 32)


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END-----", "ab" * 31, "ñ"])
def test_file_that_is_no_key(verifier, text, tmp_path):
    """It is refused in one line."""
    file = tmp_path / "key"
    file.write_text(text)
    with pytest.raises(InvalidKey if verifier is by_product else SCRIPT.Unusable):
        public_key_of(text) if verifier is by_product else SCRIPT.public_key_of(str(file))


def test_private_key_that_is_none(verifier):
    """Neither is another kind of key, and what is said of it quotes nothing of it."""
    for text in ("", "secret words", KEY.replace("MC4CAQAw", "MC4CAQAx")):
        with pytest.raises(InvalidKey) as error:
            Signer(text)
        assert "secret" not in str(error.value)
    assert "MC4" not in repr(SIGNER)
