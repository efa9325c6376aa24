"""Consent must not be smuggled past one parser to another: what can be read in two ways is refused."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.errors import InvalidJSON
from orchestrator.domain.strict_json import MAX_INTEGER, Bounds, decode, decode_together


def nested(depth: int, opening: str, closing: str) -> bytes:
    return (opening * depth + "1" + closing * depth).encode()


def mixed(depth: int) -> bytes:
    opening = ['{"a":' if level % 2 else "[" for level in range(depth)]
    closing = ["}" if level % 2 else "]" for level in reversed(range(depth))]
    return ("".join(opening) + "1" + "".join(closing)).encode()


def an_object(keys: int) -> bytes:
    return json.dumps({f"key{n}": n for n in range(keys)}).encode()


REFUSED = {
    # What is no JSON at all.
    "nothing": b"",
    "spaces alone": b" \n\t",
    "trailing garbage": b"{} x",
    "two values": b"{}{}",
    "trailing comma": b'{"a":1,}',
    "comment": b"{} // consent",
    "single quotes": b"{'a':1}",
    "open object": b'{"a":1',
    "open string": b'"a',
    "bare word": b"yes",
    "true in capitals": b"True",
    "leading zero": b"01",
    "plus sign": b"+1",
    "lone point": b"1.",
    "hexadecimal": b"0x1",
    "digits of another script": '{"a": \u0661}'.encode(),
    "form feed as space": b"\x0c1",
    "no-break space": "\u00a01".encode(),
    "raw newline in a string": b'"a\nb"',
    "unknown escape": b'"\\x41"',
    "short escape": b'"\\u41"',
    # Encodings.
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16 little endian": '{"a":1}'.encode("utf-16-le"),
    "UTF-16 big endian": '{"a":1}'.encode("utf-16-be"),
    "UTF-16 with a mark": '{"a":1}'.encode("utf-16"),
    "UTF-32": '{"a":1}'.encode("utf-32"),
    "Latin-1": '"é"'.encode("latin-1"),
    "overlong": b'"\xc0\xaf"',
    "cut off in a character": b'"\xe2\x82"',
    "beyond Unicode": b'"\xf4\x90\x80\x80"',
    # Strings that not everybody can hold.
    "lone surrogate, raw": b'"\xed\xa0\x80"',
    "surrogate pair, raw (CESU-8)": b'"\xed\xa0\xbd\xed\xb8\x80"',
    "lone high surrogate": rb'"\ud800"',
    "lone low surrogate": rb'"\udc00"',
    "surrogates the wrong way round": rb'"\ude00\ud83d"',
    "lone surrogate in a key": rb'{"\ud800":1}',
    "lone surrogate beside others": rb'["\u00e9", {"a": ["\ud83dx"]}]',
    "NUL escaped": rb'"a\u0000b"',
    "NUL escaped in a key": rb'{"a\u0000":1}',
    "NUL raw": b'"a\0b"',
    # Keys.
    "key twice": b'{"consent_given":false,"consent_given":true}',
    "key twice, same value": b'{"a":1,"a":1}',
    "key twice, deep": b'{"a":[{"b":{"c":1,"d":2,"c":1}}]}',
    "key twice, once escaped": rb'{"consent":1,"c\u006fnsent":2}',
    "1,001 keys": an_object(1_001),
    "1,001 keys, spread": b"[" + b",".join([an_object(500), an_object(501)]) + b"]",
    # Numbers.
    "NaN": b'{"a":NaN}',
    "infinity": b"Infinity",
    "negative infinity": b"[-Infinity]",
    "too large for a double": b"1e999",
    "too small for a double": b"-1e999",
    "too large by digits": b"1" * 400 + b".0",
    "2^53 + 1": b"9007199254740993",
    "-(2^53 + 1)": b"-9007199254740993",
    "2^64": b"[18446744073709551616]",
    "10,000 digits": b"1" * 10_000,
    "10,000 digits, negative": b"-" + b"1" * 10_000,
    # Depth.
    "33 arrays": nested(33, "[", "]"),
    "33 objects": nested(33, '{"a":', "}"),
    "33 of both": mixed(33),
    "33 arrays, empty": b"[" * 33 + b"]" * 33,
    "5,000 arrays": nested(5_000, "[", "]"),
    "5,000 objects": nested(5_000, '{"a":', "}"),
    "5,000 of both": mixed(5_000),
    "200,000 arrays, open": b"[" * 200_000,
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_refused(body):
    """There is one error for it, E_INVALID_JSON, and no other exception."""
    with pytest.raises(InvalidJSON):
        decode(body)


TAKEN = {
    "2^53": (b"9007199254740992", MAX_INTEGER),
    "-2^53": (b"-9007199254740992", -MAX_INTEGER),
    "a large double": (b"1e308", 1e308),
    "minus zero": (b"-0.0", 0.0),
    "32 arrays": (nested(32, "[", "]"), json.loads(nested(32, "[", "]"))),
    "32 objects": (nested(32, '{"a":', "}"), json.loads(nested(32, '{"a":', "}"))),
    "32 of both": (mixed(32), json.loads(mixed(32))),
    "1,000 keys": (an_object(1_000), json.loads(an_object(1_000))),
    "one key in each of many": (b'[{"a":1},{"a":1}]', [{"a": 1}, {"a": 1}]),
    "one key on two levels": (b'{"a":{"a":1}}', {"a": {"a": 1}}),
    "keys that differ in case": (b'{"a":1,"A":2}', {"a": 1, "A": 2}),
    "a surrogate pair": (rb'"\ud83d\ude00"', "😀"),
    "the same, raw": ('"😀"'.encode(), "😀"),
    "a mark inside of a string": ('"\ufeff"'.encode(), "\ufeff"),
    "the word NaN in a string": (b'"NaN"', "NaN"),
    "spaces around": (b" \r\n\t[ ] ", []),
    "literals": (b"[true,false,null]", [True, False, None]),
    "a long list": (b"[" + b"1," * 9_999 + b"1]", [1] * 10_000),
}


@pytest.mark.parametrize(("body", "value"), TAKEN.values(), ids=TAKEN)
def test_taken(body, value):
    """Just inside of each bound, a body is what it says."""
    assert decode(body) == value


@pytest.mark.parametrize("body", [b"true", b"1", b'"true"'])
def test_true_and_what_resembles_it(body):
    """Only the literal becomes True."""
    assert (decode(body) is True) == (body == b"true")


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_the_detail_of_a_refusal(body):
    """Nothing of the body is in it, wherever in the body the fault is; nor in what was raised before it."""
    canary = b'["canary-17-of-a-patient", ' + body + b', {"canary-17-of-a-patient": "canary-17-of-a-patient"}]'
    with pytest.raises(InvalidJSON) as refusal:
        decode(canary)
    assert "canary" not in refusal.value.detail
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_where_it_breaks():
    """The detail counts in characters, as an editor does."""
    with pytest.raises(InvalidJSON, match="at character 5"):
        decode('["é" x]'.encode())


def test_the_limit_of_the_interpreter():
    """It makes no difference how many digits Python would convert."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with pytest.raises(InvalidJSON):
            decode(b"1" * 10_000)
    finally:
        sys.set_int_max_str_digits(before)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda below: st.lists(below, max_size=5) | st.dictionaries(texts, below, max_size=5),
    max_leaves=20,
)


@given(values, st.booleans(), st.sampled_from([None, 2]))
def test_what_another_writer_wrote(value, ascii_only, indent):
    """All that is within the bounds comes back as it was, types and all, however it was written."""
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert repr(decode(body)) == repr(value)


@given(st.binary() | st.text(st.sampled_from('{}[]",:\\u0de1 \ntruefalsNI-+.é')).map(str.encode))
def test_any_bytes(body):
    """Either it is refused, or the standard library reads the same from it."""
    try:
        value = decode(body)
    except InvalidJSON:
        return
    assert repr(value) == repr(json.loads(body))


SCALARS = st.one_of(
    st.sampled_from(["true", "null", "-0", "-0.0", "1e400", "1e16", f"{MAX_INTEGER}", f"-{MAX_INTEGER + 1}", "NaN"]),
    st.integers(-(2**54), 2**54).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text(st.characters(codec="utf-8"), max_size=6).map(lambda it: json.dumps(it, ensure_ascii=False)),
    st.sampled_from(['":"', '"a:b::"', '"\x7f"', "[]", "{}"]),
)
KEYS = st.sampled_from(['"a"', '"b:"', '"é"', '":"', '""'])
TEXTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(KEYS, inner), max_size=3).map(
            lambda members: "{" + ", ".join(f"{key} : {value}" for key, value in members) + "}"
        ),
    ),
    max_leaves=12,
)


def outcome(body: bytes, bounds: Bounds) -> str:
    try:
        return repr(decode(body, bounds))
    except InvalidJSON:
        return "refused"


@given(text=TEXTS, depth=st.integers(0, 4), keys=st.integers(0, 4))
def test_an_escape_beside_it_changes_nothing(text: str, depth: int, keys: int):
    """Where there is one, a body is read another way: what is refused, and what is read, is the same."""
    alone = outcome(text.encode(), Bounds(depth, keys))
    beside = outcome(f'["\\u0041", {text}]'.encode(), Bounds(depth + 1, keys))
    assert beside == (alone if alone == "refused" else f"['A', {alone}]")


@given(texts=st.lists(TEXTS.map(str.encode), min_size=1, max_size=4), depth=st.integers(0, 4), keys=st.integers(0, 4))
def test_many_together(texts: list[bytes], depth: int, keys: int):
    """What is read together is what each is alone; where one would be refused, nothing is read together."""
    bounds = Bounds(depth, keys)
    together = decode_together(texts, bounds)
    alone = [outcome(text, bounds) for text in texts]
    assert together is None or [repr(value) for value in together] == alone


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_one_among_many_that_is_refused(body):
    """It is not read, wherever among them it stands."""
    usual = b'{"a": [1, {"b": "x"}]}'
    for place in range(3):
        bodies = [usual] * 2
        bodies.insert(place, body)
        assert decode_together(bodies) is None
    assert decode_together([usual] * 3) == [json.loads(usual)] * 3


@pytest.mark.parametrize(
    "bodies", [[b"[1", b"2]"], [b"{}, {}"], [b'{"a":1', b'"b":2}'], [b'["a', b'b"]'], [b"{}", b""]]
)
def test_bodies_are_not_read_across(bodies):
    """One beside the other they would be JSON: another number of values."""
    assert decode_together(bodies) is None


def test_each_has_the_bounds_of_one():
    """Together they may be larger than one of them alone."""
    usual = b'{"a": {"b": [1]}}'
    assert decode_together([usual] * 40, Bounds(depth=3, keys=2)) == [json.loads(usual)] * 40
    assert decode_together([usual] * 40, Bounds(depth=2, keys=2)) is None
    assert decode_together([usual] * 40, Bounds(depth=3, keys=1)) is None
