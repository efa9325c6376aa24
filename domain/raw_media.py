"""Whether a payload carries raw media (images, video, sound), for which consent is needed."""

import re
from collections.abc import Iterable
from typing import Any, cast

USUAL_KEYS, USUAL_LENGTH = 4096, 64
"""How many keys that mark nothing are kept in mind at most, and how many characters each has at most."""
# Tuples, since a union would be built anew for each value.
_LISTS = (list, tuple)
_HOLDERS = (dict, *_LISTS)
_BARE = (int, float, type(None))
_NOT_PLAIN = re.compile(r"[\W_]")
_SKIPPED = str.maketrans("", "", "\t\n\r")
"""What whoever reads a URL passes over, wherever it stands (WHATWG URL Standard §4.4, as `urlsplit` does)."""
_DATA_URI = re.compile(r"data:\s*(?:(?:image|video|audio)/|application/dicom)", re.IGNORECASE)


class RawMedia:
    """What is raw media where `keys` (plain) mark it."""

    def __init__(self, keys: frozenset[str]) -> None:
        self._keys = keys
        self._innocent = set[str]()
        """Payloads have the same keys over and over."""

    @property
    def remembered(self) -> int:
        """How many keys are kept in mind; bounded."""
        return len(self._innocent)

    def is_in(self, *values: Any) -> bool:
        """Whether one of these JSON values has a marked key at any depth, or a media `data:` URI in any string.

        Keys count whatever their value is. So does anything that is no JSON, such as bytes that a program embeds: doubt
        is decided for the patient.
        """
        waiting: list[Any] = [*values]
        while waiting:
            holder = waiting.pop()
            members: Iterable[Any] = holder
            if isinstance(holder, dict):
                mapping = cast("dict[Any, Any]", holder)
                if not self._innocent.issuperset(mapping) and any(map(self._marks, mapping)):
                    return True
                members = mapping.values()
            elif not isinstance(holder, _LISTS):
                members = (holder,)
            for member in members:
                if isinstance(member, str):
                    if ":" in member and _is_media(member):
                        return True
                elif not isinstance(member, _BARE):
                    if not isinstance(member, _HOLDERS):
                        return True
                    waiting.append(member)
        return False

    def _marks(self, key: Any) -> bool:
        text = key if isinstance(key, str) else str(key)
        if _is_marked(text, self._keys):
            return True
        if len(text) <= USUAL_LENGTH:
            if len(self._innocent) >= USUAL_KEYS:
                self._innocent.clear()
            self._innocent.add(text)
        return False


def without_raw_media(value: Any, keys: frozenset[str]) -> Any:
    """`value` without what `RawMedia` finds in it: marked members are left out, other raw media is null."""
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
    return _DATA_URI.search(text.translate(_SKIPPED)) is not None


def plain(key: str) -> str:
    """The key's letters and digits in lower case: `imageRef`, `IMAGE_REF` and `image-ref` are one spelling."""
    return _NOT_PLAIN.sub("", key.lower())
