"""How payloads, meta and results stand in the ledger: as they are, or sealed with a key of the task's own."""

from collections.abc import Callable, Iterable
from typing import Protocol

from orchestrator.storage.ports import Unreadable


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


PLAIN = Plain()


def codec_of(keys: str, entropy: Callable[[int], bytes]) -> Codec:
    """The codec for these master keys, one a line and the current one first; without any nothing is sealed.

    Raises InvalidMasterKey.
    """
    if not keys:
        return PLAIN
    from orchestrator.crypto.envelope import Envelope
    from orchestrator.storage.sealed import Sealed

    return Sealed(Envelope(keys, entropy))


def changed_keys(found: Iterable[tuple[int, str, bytes]], codec: Codec) -> list[tuple[bytes, str]]:
    """New wrapped key and task of those that need one, from `seq`, task and wrapped key. Raises Unreadable."""
    anew = [(codec.rewrapped(key, task_id), task_id) for _, task_id, key in found]
    return [(key, task_id) for key, task_id in anew if key is not None]
