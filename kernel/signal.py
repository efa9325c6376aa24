"""A one-shot signal for one who waits: `anyio.Event` at two fifths of its price, where the loop is asyncio's.

Whoever asks an actor waits for one, so every request pays for several. What is left is what asyncio itself takes.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import anyio
import anyio.from_thread
import anyio.lowlevel


class Signal(Protocol):
    """Set once. One task waits for it; cancelled, it may wait again."""

    def set(self) -> None:
        """Wakes who waits, now or later. Twice is safe."""
        ...

    def set_from_thread(self) -> None:
        """The same from another thread. Where the loop has ended, nobody waits."""
        ...

    def wait(self) -> Awaitable[object]:
        """To be awaited: done once it is set."""
        ...


class _Future:
    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def set(self) -> None:
        if not self._future.done() or self._renewed():
            self._future.set_result(None)

    def set_from_thread(self) -> None:
        loop = self._future.get_loop()
        try:
            loop.call_soon_threadsafe(self.set)
        except RuntimeError:
            if not loop.is_closed():
                raise

    def wait(self) -> Awaitable[object]:
        self._renewed()
        return self._future

    def _renewed(self) -> bool:
        """Where the waiting was cancelled, so was the future."""
        if not self._future.cancelled():
            return False
        self._future = self._future.get_loop().create_future()
        return True


class _Event:
    __slots__ = ("_event", "_loop")

    def __init__(self) -> None:
        self._event, self._loop = anyio.Event(), anyio.lowlevel.current_token()

    def set(self) -> None:
        self._event.set()

    def set_from_thread(self) -> None:
        with contextlib.suppress(anyio.RunFinishedError):
            anyio.from_thread.run_sync(self._event.set, token=self._loop)

    def wait(self) -> Awaitable[object]:
        return self._event.wait()


def signal() -> Signal:
    """A new one, for the event loop that runs now. Trio as a guest of asyncio is taken for asyncio, and would fail."""
    return signals()()


def signals() -> Callable[[], Signal]:
    """The same, to be asked again and again in the event loop that runs now: to find out which that is costs most."""
    try:
        return partial(_Future, asyncio.get_running_loop())
    except RuntimeError:
        return _Event
