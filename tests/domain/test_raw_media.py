"""What counts as raw media: doubt is decided for the patient."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.raw_media import USUAL_KEYS, USUAL_LENGTH, RawMedia
from orchestrator.settings import load

KEYS = load().raw_media_keys()
URI = "data:image/png;base64,AAAA"

CARRIES: list[Any] = [
    {"image_ref": "x"},
    {"IMAGE_REF": "x"},
    {"Image_Ref": "x"},
    {" image_ref": "x"},
    {"image_ref\t": "x"},
    {"\u00a0image_ref\u2003": "x"},
    {"imageRef": "x"},
    {"image-ref": "x"},
    {"image.ref": "x"},
    {"Image Ref": "x"},
    {"a": {"b": {"c": {"video": 1}}}},
    {"a": [[{"b": [{"audio_url": None}]}]]},
    [{"dicom": {}}],
    {"image": ""},
    {"image": None},
    {"image": False},
    {"images": []},
    URI,
    {"a": URI},
    {"a": ["x", URI]},
    {URI: 1},
    {"a": {f"see {URI}": 1}},
    {"html": f'<p>seen</p><img alt="" src="{URI}">'},
    {"css": "background:url(DATA:IMAGE/SVG+XML,%3Csvg/%3E)"},
    {"a": "Data:Image/jpeg;base64,AAAA"},
    {"a": "data: image/png;base64,AAAA"},
    {"a": "data:\n\timage/png;base64,AAAA"},
    {"a": "da\nta:image/png;base64,AAAA"},
    {"a": "see data\r\n:\tima\tge\n/png;base64,AAAA"},
    {"a": "data:video/mp4;base64,AAAA"},
    {"a": "data:audio/ogg,AAAA"},
    {"a": "data:application/dicom;base64,AAAA"},
    {"a": "\n" * 1_000 + URI},
]


@pytest.mark.parametrize("payload", CARRIES, ids=repr)
def test_raw_media(payload):
    """A key at any depth, in any spelling, whatever its value; a `data:` URI in any string."""
    assert RawMedia(KEYS).is_in(payload)


CARRIES_NOT: list[Any] = [
    {},
    [],
    None,
    1.5,
    True,
    "",
    "image_ref",
    {"a": "image_ref"},
    {"a": ["image", "video"]},
    {"image_quality": "good"},
    {"imagery": 1},
    {"preimage": 1},
    {"image_ref_count": 2},
    {"is_video": False},
    {"embedding": [0.1, 0.2]},
    {"a": "data:text/plain,image/png"},
    {"a": "data:application/json;base64,AAAA"},
    {"a": "metadata: the image/scan is blurred"},
    {"a": "data image/png"},
    {"a": "image/png"},
    {"a": "https://pacs.example/image.png"},
]


@pytest.mark.parametrize("payload", CARRIES_NOT, ids=repr)
def test_near_misses(payload):
    """A word in a value, a longer key, text about media, a reference by an address: none of them is raw media."""
    assert not RawMedia(KEYS).is_in(payload)


@pytest.mark.parametrize("value", [b"\x89PNG", bytearray(b"x"), ({"image": 1},), ([{"image": 1}],), {1j}, object()])
def test_what_is_no_json(value):
    """A program that embeds us may hand over anything: tuples are looked into, what cannot be looked into counts."""
    assert RawMedia(KEYS).is_in({"a": value})


def test_keys_that_are_no_strings():
    """They are written as strings to the agent, so they are compared as such."""
    assert not RawMedia(KEYS).is_in({1: "x", None: "y"})
    assert RawMedia(frozenset({"1"})).is_in({1: "x"})


def test_depth():
    """There is no recursion to run out of."""
    value: Any = {"image": 1}
    for _ in range(100_000):
        value = [value]
    assert RawMedia(KEYS).is_in(value)


leaves = st.none() | st.booleans() | st.integers() | st.text("abc")
plain = st.recursive(leaves, lambda below: st.lists(below) | st.dictionaries(st.text("abc"), below), max_leaves=10)
wrappings = st.lists(st.sampled_from("ld"), max_size=8)
spellings = st.sampled_from(sorted(KEYS)).flatmap(
    lambda key: st.tuples(*(st.sampled_from([c.lower(), c.upper()]) for c in key)).map("".join)
)


@given(plain, wrappings, spellings, st.sampled_from(["", " ", "\n"]), plain)
def test_any_place(around, wrapping, key, space, below):
    """However deep it is wrapped, and however it is spelt, it is found; without it, nothing is."""
    raw_media = RawMedia(KEYS)
    assert not raw_media.is_in(around)
    value: Any = {"x": around, space + key + space: below}
    for kind in wrapping:
        value = [around, value, around] if kind == "l" else {"a": around, "b": value, "c": around}
    assert raw_media.is_in(value)
    assert not raw_media.is_in(around)
    assert raw_media.is_in(around, value)


def test_keys_seen_before():
    """However many there were, and however long, a few are kept in mind, and each stays what it is."""
    raw_media = RawMedia(KEYS)
    for number in range(3 * USUAL_KEYS):
        assert not raw_media.is_in({f"key{number}": 1, f"{number}" * USUAL_LENGTH: 2})
    assert 0 < raw_media.remembered <= USUAL_KEYS
    assert raw_media.is_in({"key1": {"key2": 1}, "image": 2})
    assert not raw_media.is_in({"key1": {"key2": 1}})
