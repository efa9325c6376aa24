"""Strict JSON: what two parsers could read in two ways is refused, so that consent cannot be smuggled past one of them.

RFC 8259 with the restrictions of I-JSON (RFC 7493): UTF-8 without a byte order mark, no duplicate keys, no NaN or
infinities, no lone surrogates, integers within ±2^53; and no NUL, bounded depth and number of keys.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import repeat
from math import isinf
from typing import Any, NoReturn, cast

import msgspec
from msgspec import Struct

from orchestrator.domain.errors import InvalidJSON

MAX_INTEGER = 2**53
_UNSURE = object()
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_ESCAPE, _DELETE = ord("\\"), 0x7F
_MAX_DIGITS = len(f"-{MAX_INTEGER}")
_KINDS = bytes.maketrans(b"123456789 :[\t\r\n", b"000000000,,,,,,")
"""What stands for the bytes of a body: a zero for each digit, a comma for whatever can stand before a number."""
_LONG, _LONG_NEGATIVE = b"," + b"0" * 16, b",-" + b"0" * 16
"""Where there may be an integer beyond 2^53, which has sixteen digits. What is beyond doubles msgspec does not take.

A sign counts only where a number begins: many an id has a hyphen before as many digits.
"""


class Bounds(Struct, frozen=True):
    """How many containers a value may stand in, and how many keys all objects may have together."""

    depth: int = 32
    keys: int = 1_000


USUAL = Bounds()


def decode(body: bytes, bounds: Bounds = USUAL) -> Any:
    """The JSON value in `body`. Raises InvalidJSON, whose detail never quotes the body."""
    value = _at_a_glance(body, bounds)
    return _with_care(body, bounds) if value is _UNSURE else value


def decode_together(bodies: Sequence[bytes], bounds: Bounds = USUAL) -> list[Any] | None:
    """The JSON value in each of the bodies, where all are beyond doubt; else None, and each is to be decoded alone."""
    # With a comma before each, as before every number that stands in one of them.
    text = b",".join((b"", *bodies))
    if _doubtful(text):
        return None
    try:
        values = [_decode(body) for body in bodies]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    depth, keys = _most(bodies, b"{") + _most(bodies, b"["), _most(bodies, b":")
    sure = _encode(values).count(b'"') == text.count(b'"') and depth <= bounds.depth and keys <= bounds.keys
    return values if sure else None


def plain(text: bytes) -> bool:
    """Whether no string of that JSON can hold a control character. Without an escape, only DEL may stand there."""
    return _ESCAPE not in text and _DELETE not in text


def _most(bodies: Sequence[bytes], mark: bytes) -> int:
    return max(map(bytes.count, bodies, repeat(mark)))


def _at_a_glance(body: bytes, bounds: Bounds) -> Any:
    """The value if it is beyond doubt, in a fraction of the time; else `_UNSURE`.

    Without escapes each string has two quotes. If the value, written anew, has as many as the body, nothing was lost: a
    key that stood there twice would have taken two with it. Its braces, brackets and colons bound depth and keys.
    """
    if not body.startswith((b"{", b"[")) or _doubtful(body):
        return _UNSURE
    try:
        value = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _UNSURE
    again = _encode(value)
    sure = (
        again.count(b'"') == body.count(b'"')
        and again.count(b"{") + again.count(b"[") <= bounds.depth
        and again.count(b":") <= bounds.keys
    )
    return value if sure else _UNSURE


def _doubtful(text: bytes) -> bool:
    """Whether it holds an escape, or what may be an integer beyond 2^53."""
    if _ESCAPE in text:
        return True
    kinds = text.translate(_KINDS)
    # `in` would take twice as long.
    return kinds.find(_LONG) >= 0 or kinds.find(_LONG_NEGATIVE) >= 0


def _with_care(body: bytes, bounds: Bounds) -> Any:
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=_constant
        )
    except UnicodeDecodeError:
        raise InvalidJSON("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise InvalidJSON(f"The body is not JSON: it breaks at character {error.pos}.") from None
    except RecursionError:
        raise _too_deep(bounds) from None
    _check(value, bounds)
    return value


def _too_deep(bounds: Bounds) -> InvalidJSON:
    return InvalidJSON(f"The body is nested deeper than {bounds.depth} levels.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise InvalidJSON("The body has an object with a duplicate key.")
    return mapping


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS or abs(int(text)) > MAX_INTEGER:
        raise InvalidJSON("The body holds an integer beyond 2^53.")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise InvalidJSON("The body holds a number beyond the range of a double.")
    return value


def _constant(_name: str) -> NoReturn:
    raise InvalidJSON("The body holds NaN or an infinity.")


def _check(root: Any, bounds: Bounds) -> None:
    """Depth, keys and strings: level by level, without recursion. What stands on level 32 is inside 32 containers."""
    level: list[Any] = [root]
    keys = depth = 0
    while level:
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_strings((value,))
            elif isinstance(value, (dict, list)):
                if depth >= bounds.depth:
                    raise _too_deep(bounds)
                if isinstance(value, dict):
                    mapping = cast("dict[str, Any]", value)
                    keys += len(mapping)
                    _check_strings(mapping)
                    below.extend(mapping.values())
                else:
                    below.extend(cast("list[Any]", value))
        if keys > bounds.keys:
            raise InvalidJSON(f"The body has more than {bounds.keys} keys.")
        level = below
        depth += 1


def _check_strings(strings: Iterable[str]) -> None:
    for text in strings:
        if "\0" in text:
            raise InvalidJSON("The body holds a NUL character.")
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise InvalidJSON("The body holds a lone surrogate.")
