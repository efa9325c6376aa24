"""Envelope encryption: each task has a data key of its own, kept wrapped by a master key that is not in the database.

AES-256-GCM (NIST SP 800-38D) with nonces of 96 random bits: a data key seals a handful of values, and of a master key's
wrappings fewer than 2^32 are to be expected. What is sealed is bound to its task and column, so it fits nowhere else.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY, _NONCE, _NAME = 32, 12, 8
_WRAPPING = b"data key of "
_HEX = re.compile(r"[0-9A-Fa-f]{64}")


class InvalidMasterKey(ValueError):
    """The text holds no master keys. The message quotes nothing of it."""


class CannotOpen(ValueError):
    """No key that there is fits, or what was sealed has been changed."""


class Envelope:
    """Seals with the first of its master keys, and opens with any of them."""

    def __init__(self, text: str, entropy: Callable[[int], bytes]) -> None:
        """`text` has a key a line: 32 bytes as hex digits or in Base64. `entropy` gives bytes that nobody can guess.

        Raises InvalidMasterKey.
        """
        keys = list(_keys(text))
        self._masters = {_name(key): AESGCM(key) for key in keys}
        self._current, self._entropy = _name(keys[0]), entropy

    def __repr__(self) -> str:
        return f"<Envelope with {len(self._masters)} keys>"

    def new_key(self, task_id: str) -> bytes:
        """A fresh data key for the task, wrapped."""
        return self._wrap(self._entropy(_KEY), task_id)

    def rewrapped(self, wrapped: bytes, task_id: str) -> bytes | None:
        """The same data key under the current master key; None if it is so already. Raises CannotOpen."""
        return None if wrapped[:_NAME] == self._current else self._wrap(self._unwrap(wrapped, task_id), task_id)

    def seal(self, wrapped: bytes, task_id: str, column: str, plain: bytes) -> bytes:
        """`plain` under the task's data key, for that column. Raises CannotOpen for a key that cannot be unwrapped."""
        nonce = self._entropy(_NONCE)
        return nonce + AESGCM(self._unwrap(wrapped, task_id)).encrypt(nonce, plain, _place(task_id, column))

    def open(self, wrapped: bytes, task_id: str, column: str, sealed: bytes) -> bytes:
        """What was sealed for that task and column. Raises CannotOpen."""
        return _opened(AESGCM(self._unwrap(wrapped, task_id)), sealed, _place(task_id, column))

    def _wrap(self, key: bytes, task_id: str) -> bytes:
        nonce = self._entropy(_NONCE)
        sealed = self._masters[self._current].encrypt(nonce, key, _WRAPPING + task_id.encode())
        return self._current + nonce + sealed

    def _unwrap(self, wrapped: bytes, task_id: str) -> bytes:
        master = self._masters.get(wrapped[:_NAME])
        if master is None:
            raise CannotOpen("it is wrapped by a master key that is not there")
        return _opened(master, wrapped[_NAME:], _WRAPPING + task_id.encode())


def _opened(key: AESGCM, sealed: bytes, place: bytes) -> bytes:
    try:
        return key.decrypt(sealed[:_NONCE], sealed[_NONCE:], place)
    except (InvalidTag, ValueError):
        raise CannotOpen("it was changed, or belongs elsewhere") from None


def _place(task_id: str, column: str) -> bytes:
    return f"{task_id}/{column}".encode()


def _name(key: bytes) -> bytes:
    """Tells master keys apart, and nothing about them."""
    return sha256(b"name of a master key" + key).digest()[:_NAME]


def _keys(text: str) -> Iterator[bytes]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise InvalidMasterKey("there is no key in it")
    for line in lines:
        try:
            key = bytes.fromhex(line) if _HEX.fullmatch(line) else base64.b64decode(line, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidMasterKey("a line of it is neither hex digits nor Base64") from None
        if len(key) != _KEY:
            raise InvalidMasterKey("a key must have 32 bytes")
        yield key
