"""A one-shot signal for one who waits: `anyio.Event` at two fifths of its price, where the loop is asyncio's.

Whoever asks an actor waits for one, so every request pays for several. What is left is what asyncio itself takes.
"""

import asyncio
from collections.abc import Awaitable
from typing import Protocol

import anyio


class Signal(Protocol):
    """Set once. One task waits for it; cancelling that leaves nothing behind."""

    def set(self) -> None:
        """Wakes who waits, now or later. Twice is safe."""
        ...

    def wait(self) -> Awaitable[object]:
        """To be awaited: done once it is set."""
        ...


class _Future:
    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def set(self) -> None:
        # Where the waiting was cancelled, so was the future.
        if not self._future.done():
            self._future.set_result(None)

    def wait(self) -> Awaitable[object]:
        return self._future


def signal() -> Signal:
    """A new one, for the event loop that runs now. Trio as a guest of asyncio is taken for asyncio, and would fail."""
    try:
        return _Future(asyncio.get_running_loop())
    except RuntimeError:
        return anyio.Event()
