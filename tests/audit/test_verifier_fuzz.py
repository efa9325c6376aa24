"""The stand-alone verifier on whatever it is given, and beside the product's; `make fuzz` tries thousands of each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from signed_trail import PUBLIC, SCRIPT, VECTORS, Trail, a_draft, by_product, by_script, rechained

from orchestrator.domain.audit import AuditEntry, head_of

FILES = {name: (VECTORS / name).read_bytes() for name in ("cut_trail.ndjson", "receipts.ndjson", "public_key.pem")}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["", "00" * 32]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
"""Of JSON, and a little more than JSON has."""
EDITS = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 40), st.binary(max_size=12)), max_size=3)
"""At a place so many bytes are taken out, and others put in."""


def edited(text: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, out, put in edits:
        place %= len(text) + 1
        text = text[:place] + put + text[place + out :]
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(trail=EDITS, receipts=EDITS, key=EDITS)
@example(trail=[], receipts=[], key=[])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_files(
    folder: Path, capsys: pytest.CaptureFixture[str], trail: list[Any], receipts: list[Any], key: list[Any]
) -> None:
    """It comes to a verdict, in its own words; only the trail that was written holds."""
    for (name, text), edits in zip(FILES.items(), (trail, receipts, key), strict=True):
        (folder / name).write_bytes(edited(text, edits))
    code = SCRIPT.main([
        str(folder / "cut_trail.ndjson"), "--against", str(folder / "receipts.ndjson"),
        "--public-key", str(folder / "public_key.pem"),
    ])  # fmt: skip
    said = capsys.readouterr()
    assert (code, len(said.err.splitlines())) in ((0, 0), (1, 0), (2, 1)), said
    if code == 0:
        read = [json.loads(line) for line in (folder / "cut_trail.ndjson").read_bytes().splitlines() if line.strip()]
        assert read == [json.loads(line) for line in FILES["cut_trail.ndjson"].splitlines()]
    else:
        assert trail or receipts or key


def a_short_trail() -> list[AuditEntry]:
    """With a signature of each kind, since of those the two verifiers have most to read."""
    trail = Trail()
    begin = trail.write("main", a_draft(1))
    trail.write("main", a_draft(2))
    trail.sign("main")
    trail.cut("main", begin)
    trail.write("edge-2", a_draft(3))
    return trail.entries


WHOLE = a_short_trail()


def saying(entry: AuditEntry, change: Callable[[dict[str, Any]], None]) -> AuditEntry:
    said = json.loads(entry.detail or "{}")
    change(said)
    return replace(entry, detail=json.dumps(said))


def test_more_than_is_signed() -> None:
    """A member that the form does not have, or what JSON does not have, is refused by both alike."""
    for change in ({"more": 1}, {"heads": [{"more": float("inf")}]}):
        entries = rechained([*WHOLE[:1], saying(WHOLE[1], lambda said, c=change: said.update(c))], begin_of(WHOLE))
        for verifier in (by_product, by_script):
            assert "it is no checkpoint that can be read" in str(verifier(entries)), change


@given(place=st.sampled_from([1, 2]), data=st.data())
@settings(deadline=None)
def test_any_testimony(place: int, data: st.DataObject) -> None:
    """Whatever a checkpoint or an anchor says, in a chain whose hashes fit: both come to the same verdict."""
    entry = WHOLE[place]
    said = json.loads(entry.detail or "{}")
    where = data.draw(st.sampled_from([*said, "detail", "more", "place", "created_at", "event"]))
    if where == "detail":
        entry = replace(entry, detail=data.draw(st.text(max_size=9) | ANYTHING.map(json.dumps)))
    elif where in ("created_at", "event"):
        entry = replace(entry, **{where: data.draw(st.text(max_size=9) | st.sampled_from(["anchor", "checkpoint"]))})
    elif where == "place":
        listed = "heads" if "heads" in said else "begins"
        member = data.draw(st.sampled_from(["writer", "seq", "entry_hash", "more"]))
        entry = saying(entry, lambda said: said[listed][0].update({member: data.draw(ANYTHING)}))
    else:
        entry = saying(entry, lambda said: said.update({where: data.draw(ANYTHING)}))
    entries = rechained([*WHOLE[:place], entry, *WHOLE[place + 1 :]], begin_of(WHOLE))
    for keys in ((), (PUBLIC,)):
        product, script = by_product(entries, (), *keys), by_script(entries, (), *keys)
        assert bool(product) == bool(script), (entry, product, script)


def begin_of(entries: list[AuditEntry]) -> Any:
    return replace(head_of(entries[0]), seq=entries[0].seq - 1, entry_hash=entries[0].prev_hash)
