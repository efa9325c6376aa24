"""How payloads, meta and results stand in the ledger: as they are, or sealed with a key of the task's own."""

from collections.abc import Callable, Iterable
from typing import Protocol

from orchestrator.crypto.envelope import CannotOpen, Envelope
from orchestrator.storage.ports import Unreadable

_MARK = b"\x01"
"""Begins what is sealed. No JSON begins so."""


class Codec(Protocol):
    """`key` is the task's data key, wrapped; None where it has none."""

    def new_key(self, task_id: str) -> bytes | None:
        """The key of a task that is accepted now."""
        ...

    def rewrapped(self, key: bytes, task_id: str) -> bytes | None:
        """The key under the current master key; None if it is already. Raises Unreadable."""
        ...

    def seal(self, key: bytes | None, task_id: str, column: str, plain: bytes) -> bytes:
        """What is to be stored in the column."""
        ...

    def open(self, key: bytes | None, task_id: str, column: str, stored: bytes) -> bytes:
        """What was to be stored. Raises Unreadable."""
        ...


class Plain:
    """Nothing is sealed. It costs nothing."""

    def new_key(self, task_id: str) -> bytes | None:
        return None

    def rewrapped(self, key: bytes, task_id: str) -> bytes | None:
        raise Unreadable("the ledger is encrypted, and there is no key for it")

    def seal(self, key: bytes | None, task_id: str, column: str, plain: bytes) -> bytes:
        if key is not None:
            raise Unreadable("the ledger is encrypted, and there is no key for it")
        return plain

    def open(self, key: bytes | None, task_id: str, column: str, stored: bytes) -> bytes:
        if key is not None:
            raise Unreadable("the ledger is encrypted, and there is no key for it")
        return stored


class Sealed:
    """New tasks are sealed; those from before there was a key stay as they are."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope

    def new_key(self, task_id: str) -> bytes | None:
        return self._envelope.new_key(task_id)

    def rewrapped(self, key: bytes, task_id: str) -> bytes | None:
        try:
            return self._envelope.rewrapped(key, task_id)
        except CannotOpen as error:
            raise Unreadable(f"a data key cannot be unwrapped: {error}") from None

    def seal(self, key: bytes | None, task_id: str, column: str, plain: bytes) -> bytes:
        return plain if key is None else _MARK + self._envelope.seal(key, task_id, column, plain)

    def open(self, key: bytes | None, task_id: str, column: str, stored: bytes) -> bytes:
        if key is None:
            return stored
        if stored[:1] != _MARK:
            raise Unreadable("what should be encrypted is not")
        try:
            return self._envelope.open(key, task_id, column, stored[1:])
        except CannotOpen as error:
            raise Unreadable(f"what is encrypted cannot be read: {error}") from None


PLAIN = Plain()


def codec_of(keys: str, entropy: Callable[[int], bytes]) -> Codec:
    """The codec for these master keys, one a line and the current one first; without any nothing is sealed.

    Raises InvalidMasterKey.
    """
    return Sealed(Envelope(keys, entropy)) if keys else PLAIN


def changed_keys(found: Iterable[tuple[int, str, bytes]], codec: Codec) -> list[tuple[bytes, str]]:
    """New wrapped key and task of those that need one, from `seq`, task and wrapped key. Raises Unreadable."""
    anew = [(codec.rewrapped(key, task_id), task_id) for _, task_id, key in found]
    return [(key, task_id) for key, task_id in anew if key is not None]
