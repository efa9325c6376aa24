"""Whether a payload carries raw media (images, video, sound), for which consent is needed."""

import re
from functools import lru_cache
from typing import Any, cast

USUAL_KEY = 64
"""Longer keys are not kept in mind."""
# Tuples, since a union would be built anew for each value.
_LISTS = (list, tuple)
_HOLDERS = (dict, *_LISTS)
_BARE = (int, float, type(None))
_NOT_PLAIN = re.compile(r"[\W_]")
_DATA_URI = re.compile(r"data:\s*(?:(?:image|video|audio)/|application/dicom)", re.IGNORECASE)


def carries_raw_media(value: Any, keys: frozenset[str]) -> bool:
    """Whether `value`, a JSON value, has one of `keys` (plain) at any depth, or a media `data:` URI in any string.

    Keys count whatever their value is. So does anything that is no JSON, such as bytes that a program embeds: doubt is
    decided for the patient.
    """
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            for key, member in cast("dict[Any, Any]", item).items():
                # As in `_is_marked` and `_is_raw`, which to call for each member costs as much as all the rest.
                text = key if isinstance(key, str) else str(key)
                if (_plain(text) if len(text) <= USUAL_KEY else plain(text)) in keys:
                    return True
                if ":" in text and _is_media(text):
                    return True
                if isinstance(member, str):
                    if ":" in member and _is_media(member):
                        return True
                elif not isinstance(member, _BARE) and _is_raw(member, waiting):
                    return True
        elif isinstance(item, _LISTS):
            if any(_is_raw(member, waiting) for member in cast("list[Any]", item)):
                return True
        elif _is_raw(item, waiting):
            return True
    return False


def _is_raw(value: Any, waiting: list[Any]) -> bool:
    """Whether a value is raw media by itself; what holds others is put to those `waiting` to be looked into."""
    if isinstance(value, str):
        return ":" in value and _is_media(value)
    if isinstance(value, _HOLDERS):
        waiting.append(value)
        return False
    return not isinstance(value, _BARE)


def without_raw_media(value: Any, keys: frozenset[str]) -> Any:
    """`value` without what `carries_raw_media` finds in it: marked members are left out, other raw media is null."""
    if isinstance(value, str):
        return None if ":" in value and _is_media(value) else value
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value)
        return {key: without_raw_media(it, keys) for key, it in members.items() if not _is_marked(str(key), keys)}
    if isinstance(value, list | tuple):
        return [without_raw_media(item, keys) for item in cast("list[Any]", value)]
    return value if isinstance(value, int | float | None) else None


def _is_marked(key: str, keys: frozenset[str]) -> bool:
    return plain(key) in keys or (":" in key and _is_media(key))


def _is_media(text: str) -> bool:
    return _DATA_URI.search(text) is not None


def plain(key: str) -> str:
    """The key's letters and digits in lower case: `imageRef`, `IMAGE_REF` and `image-ref` are one spelling."""
    return _NOT_PLAIN.sub("", key.lower())


_plain = lru_cache(maxsize=4096)(plain)
"""Payloads have the same keys over and over."""
