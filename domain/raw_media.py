"""Whether a payload carries raw media (images, video, sound), for which consent is needed."""

import re
from collections.abc import Set
from functools import lru_cache
from typing import Any, cast

USUAL_KEY = 64
"""Longer keys are not kept in mind."""
_NOT_PLAIN = re.compile(r"[\W_]")
_DATA_URI = re.compile(r"data:\s*(?:(?:image|video|audio)/|application/dicom)", re.IGNORECASE)


def carries_raw_media(value: Any, keys: Set[str]) -> bool:
    """Whether `value`, a JSON value, has one of `keys` (plain) at any depth, or a media `data:` URI in any string.

    Keys count whatever their value is. So does anything that is no JSON, such as bytes that a program embeds: doubt is
    decided for the patient.
    """
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if _is_media(item):
                return True
        elif isinstance(item, dict):
            members = cast("dict[Any, Any]", item)
            if any(_is_marked(str(key), keys) for key in members):
                return True
            waiting.extend(members.values())
        elif isinstance(item, list | tuple):
            waiting.extend(cast("list[Any]", item))
        elif not isinstance(item, int | float | None):
            return True
    return False


def without_raw_media(value: Any, keys: Set[str]) -> Any:
    """`value` without what `carries_raw_media` finds in it: marked members are left out, other raw media is null."""
    if isinstance(value, str):
        return None if _is_media(value) else value
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value)
        return {key: without_raw_media(it, keys) for key, it in members.items() if not _is_marked(str(key), keys)}
    if isinstance(value, list | tuple):
        return [without_raw_media(item, keys) for item in cast("list[Any]", value)]
    return value if isinstance(value, int | float | None) else None


def _is_marked(key: str, keys: Set[str]) -> bool:
    return (_plain(key) if len(key) <= USUAL_KEY else plain(key)) in keys or _is_media(key)


def _is_media(text: str) -> bool:
    return ":" in text and _DATA_URI.search(text) is not None


def plain(key: str) -> str:
    """The key's letters and digits in lower case: `imageRef`, `IMAGE_REF` and `image-ref` are one spelling."""
    return _NOT_PLAIN.sub("", key.lower())


_plain = lru_cache(maxsize=4096)(plain)
"""Payloads have the same keys over and over."""
