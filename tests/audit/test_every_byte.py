"""A log of a thousand entries, and what somebody does to it who cannot make its hashes anew: all of it is found."""

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from random import Random

import msgspec
import pytest
from msgspec.structs import replace
from signed_trail import SCRIPT, VERIFIERS, Trail, a_draft

from orchestrator import auditing
from orchestrator.domain.audit import AuditEntry, ChainCheck, Head, head_before, link
from orchestrator.storage.commands import Note
from orchestrator.storage.opening import open_reader
from orchestrator.storage.ports import LedgerError
from orchestrator.storage.sqlite.ledger import SqliteLedger

LENGTH = 1_000
Refuses = Callable[[AuditEntry | None, bytes], bool]


def a_log() -> list[AuditEntry]:
    """Of one writer, a checkpoint after each hundred entries."""
    trail = Trail()
    for number in range(1, LENGTH + 1):
        if number % 100:
            trail.write("main", a_draft(number))
        else:
            trail.sign("main")
    return trail.exported()


def product_refuses(before: AuditEntry | None, line: bytes) -> bool:
    """Whether what stands behind `before` is wrong for the product. Raises msgspec.DecodeError for what is no entry."""
    check = ChainCheck(Head("main", LENGTH))
    assert before is None or list(check.add(before)) == []
    return list(check.add(msgspec.json.decode(line, type=AuditEntry))) != []


def script_refuses(before: AuditEntry | None, line: bytes) -> bool:
    """Whether it is for the stand-alone verifier. Raises its Unusable for what is no entry."""
    place = SCRIPT.Place("main", 0, SCRIPT.GENESIS)
    if before is not None:
        place = SCRIPT.Place(before.writer, before.seq, before.entry_hash)
    return SCRIPT.broken_link(place, SCRIPT.entry_of(line, "line")) is not None


def flipped(text: bytes, place: int) -> bytes:
    """With one bit of that byte the other way round: each of the eight in its turn, byte after byte."""
    return b"%s%c%s" % (text[:place], text[place] ^ 1 << place % 8, text[place + 1 :])


@pytest.mark.parametrize("refuses", [product_refuses, script_refuses])
def test_a_bit_of_any_byte(refuses: Refuses) -> None:
    """It is found where it was flipped: the entry does not hold behind the one before it, or is none any more."""
    log, bytes_tried = a_log(), 0
    for before, entry in zip([None, *log], log, strict=False):
        line = msgspec.json.encode(entry)
        assert not refuses(before, line)
        for place in range(len(line)):
            bytes_tried += 1
            try:
                assert all(refuses(before, part) for part in flipped(line, place).split(b"\n") if part), (entry, place)
            except (msgspec.DecodeError, UnicodeDecodeError, SCRIPT.Unusable):
                continue
    assert bytes_tried > 400 * LENGTH


def test_a_bit_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for the script as it is called, wherever in the export: also where a line ends."""
    whole, file, chance = (
        b"".join(msgspec.json.encode(entry) + b"\n" for entry in a_log()),
        tmp_path / "trail",
        Random(5),
    )
    file.write_bytes(whole)
    assert SCRIPT.main([str(file)]) == 0
    ends = [place for place, byte in enumerate(whole[:-1]) if byte == ord("\n")]
    for place in (*chance.sample(range(len(whole) - 1), 20), *chance.sample(ends, 4)):
        file.write_bytes(flipped(whole, place))
        assert SCRIPT.main([str(file)]) in (1, 2), place
    capsys.readouterr()


@pytest.mark.anyio
async def test_a_bit_of_the_database(tmp_path: Path) -> None:
    """What can be read is what was written, or the verdict says that it is not, or the database cannot be read."""
    file, chance, told = tmp_path / "ledger.db", Random(6), 0
    ledger = await SqliteLedger.opened(str(file))
    for start in range(0, LENGTH, 100):
        await ledger.commit([Note(a_draft(start + number)) for number in range(100)])
    await ledger.close()
    whole, (_, written) = file.read_bytes(), await seen(file)
    for place in chance.sample(range(len(whole)), 200):
        file.write_bytes(flipped(whole, place))
        try:
            flaws, found = await seen(file)
        except LedgerError:
            told += 1
        else:
            told += bool(flaws)
            assert flaws or found == written, place
    assert told > 50


async def seen(file: Path) -> tuple[int, list[AuditEntry]]:
    """How many flaws the product finds, and what it reads."""
    flaws = len((await auditing.verify(f"sqlite:///{file}")).flaws)
    reader = await open_reader(f"sqlite:///{file}")
    try:
        return flaws, [entry for head in await reader.audit_heads() async for entry in reader.audit_chain(head.writer)]
    finally:
        await reader.close()


def rows() -> list[AuditEntry]:
    """Two chains without a signature, whose entries come by turns."""
    trail = Trail()
    for number in range(60):
        trail.write("edge-2" if number % 3 else "main", a_draft(number))
    return trail.exported()


def is_last(entries: list[AuditEntry], place: int) -> bool:
    return place + 1 == len(entries) or entries[place + 1].writer != entries[place].writer


def changes(entries: list[AuditEntry]) -> Iterator[tuple[str, list[AuditEntry]]]:
    """Any row taken out, any doubled, any slipped in, any two changed about, with their numbers or without."""
    for place, entry in enumerate(entries):
        forged = link(head_before(entry), replace(a_draft(7), case_id="forged"))
        before, after = entries[:place], entries[place + 1 :]
        if not is_last(entries, place):
            # The end of a chain is for receipts and checkpoints to find.
            yield f"deleted {place}", [*before, *after]
            yield f"put in its place {place}", [*before, forged, *after]
        yield f"duplicated {place}", [*before, entry, entry, *after]
        yield f"inserted {place}", [*before, forged, entry, *after]
    for one, two in combinations(range(len(entries)), 2):
        if entries[one].writer == entries[two].writer:
            first, second = entries[one], entries[two]
            moved = [
                replace(second, seq=first.seq, audit_id=first.audit_id),
                replace(first, seq=second.seq, audit_id=second.audit_id),
            ]
            for (left, right), how in (((second, first), "reordered"), (moved, "renumbered")):
                yield f"{how} {one} {two}", [*entries[:one], left, *entries[one + 1 : two], right, *entries[two + 1 :]]


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_any_row(verifier: Callable[[list[AuditEntry]], list[str]]) -> None:
    """Deleted, doubled, slipped in, put in another's place, moved: the chain alone finds it, whichever row it was."""
    entries, tried = rows(), 0
    assert verifier(entries) == []
    for change, changed in changes(entries):
        assert verifier(changed) != [], change
        tried += 1
    assert tried > 2_000
