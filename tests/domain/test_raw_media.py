"""What counts as raw media: doubt is decided for the patient."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.raw_media import carries_raw_media
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
    {"a": "data:video/mp4;base64,AAAA"},
    {"a": "data:audio/ogg,AAAA"},
    {"a": "data:application/dicom;base64,AAAA"},
    {"a": "\n" * 1_000 + URI},
]


@pytest.mark.parametrize("payload", CARRIES, ids=repr)
def test_raw_media(payload):
    """A key at any depth, in any spelling, whatever its value; a `data:` URI in any string."""
    assert carries_raw_media(payload, KEYS)


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
    assert not carries_raw_media(payload, KEYS)


@pytest.mark.parametrize("value", [b"\x89PNG", bytearray(b"x"), ({"image": 1},), ([{"image": 1}],), {1j}, object()])
def test_what_is_no_json(value):
    """A program that embeds us may hand over anything: tuples are looked into, what cannot be looked into counts."""
    assert carries_raw_media({"a": value}, KEYS)


def test_keys_that_are_no_strings():
    """They are written as strings to the agent, so they are compared as such."""
    assert not carries_raw_media({1: "x", None: "y"}, KEYS)
    assert carries_raw_media({1: "x"}, frozenset({"1"}))


def test_depth():
    """There is no recursion to run out of."""
    value: Any = {"image": 1}
    for _ in range(100_000):
        value = [value]
    assert carries_raw_media(value, KEYS)


leaves = st.none() | st.booleans() | st.integers() | st.text("abc")
plain = st.recursive(leaves, lambda below: st.lists(below) | st.dictionaries(st.text("abc"), below), max_leaves=10)
wrappings = st.lists(st.sampled_from("ld"), max_size=8)
spellings = st.sampled_from(sorted(KEYS)).flatmap(
    lambda key: st.tuples(*(st.sampled_from([c.lower(), c.upper()]) for c in key)).map("".join)
)


@given(plain, wrappings, spellings, st.sampled_from(["", " ", "\n"]), plain)
def test_any_place(around, wrapping, key, space, below):
    """However deep it is wrapped, and however it is spelt, it is found; without it, nothing is."""
    assert not carries_raw_media(around, KEYS)
    value: Any = {"x": around, space + key + space: below}
    for kind in wrapping:
        value = [around, value, around] if kind == "l" else {"a": around, "b": value, "c": around}
    assert carries_raw_media(value, KEYS)
