"""Payloads, meta and results sealed with a key of the task's own."""

from orchestrator.crypto.envelope import CannotOpen, Envelope
from orchestrator.storage.ports import Unreadable

_MARK = b"\x01"
"""Begins what is sealed. No JSON begins so."""


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
