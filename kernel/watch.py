"""A value that one publishes and others read, and can wait to change: the latest counts, not each."""

from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


class Watch(Generic[T]):
    """Holds the latest value. Reading never waits; nothing is queued, so nothing can grow."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._changed = anyio.Event()

    @property
    def value(self) -> T:
        """The latest value."""
        return self._value

    def publish(self, value: T) -> None:
        """Replaces the value and wakes whoever waits."""
        self._value = value
        self._changed.set()
        self._changed = anyio.Event()

    async def changed(self) -> T:
        """Waits for the next publication, then returns the latest value. Cancellation leaves nothing behind."""
        await self._changed.wait()
        return self._value
