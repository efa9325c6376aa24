"""The one-shot slot that a request's answer goes into, and the mark of messages that have one."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import anyio.lowlevel

from orchestrator.kernel.signal import Signal, signal

R = TypeVar("R")


class Expired(Exception):
    """Who waits for an answer waits no longer."""


class Reply(Generic[R]):
    """One answer, a value or an error. The first one wins, later ones are ignored.

    Answering never waits and never fails, whether or not somebody still waits for it.
    """

    __slots__ = ("_answered", "_awaited", "_error", "_expired", "_listener", "_value")

    def __init__(self) -> None:
        self._answered = self._expired = False
        self._awaited: Signal | None = None
        self._value: Any = None
        self._error: Exception | None = None
        self._listener: Callable[[Reply[R]], None] | None = None

    def send(self, value: R) -> bool:
        """Answer with a value. False if there was an answer already."""
        return self._settle(value, None)

    def fail(self, error: Exception) -> bool:
        """Answer with an error, which `wait` will raise. False if there was an answer already."""
        return self._settle(None, error)

    async def wait(self, new: Callable[[], Signal] = signal) -> R:
        """The answer, when it comes. Raises what `fail` was given, and Expired when the wait expires before.

        Cancelling leaves the slot as it is. One waits at a time, by a `new` signal: for a second one it is a
        RuntimeError.
        """
        if self._answered or self._expired:
            await anyio.lowlevel.checkpoint()
        else:
            if self._awaited is not None:
                raise RuntimeError("somebody waits for this answer already")
            self._awaited = new()
            try:
                await self._awaited.wait()
            finally:
                self._awaited = None
        if self._error is not None:
            raise self._error
        if not self._answered:
            raise Expired
        return self._value

    def expire(self) -> None:
        """Nobody waits any longer. The slot stays as it is: an answer that comes later goes nowhere."""
        self._expired = True
        if self._awaited is not None:
            self._awaited.set()

    def when_answered(self, listener: Callable[["Reply[R]"], None]) -> None:
        """Have `listener` called once, synchronously, with the answer; an answer that is already there calls none.

        There is one listener: the incarnation that has the request in hand.
        """
        self._listener = listener

    def _settle(self, value: R | None, error: Exception | None) -> bool:
        if self._answered:
            return False
        self._value, self._error, self._answered = value, error, True
        if self._awaited is not None:
            self._awaited.set()
        if self._listener is not None:
            self._listener(self)
        return True

    def __repr__(self) -> str:
        return f"<Reply {'answered' if self._answered else 'open'}>"


class Request(Generic[R]):
    """Marks a message that expects an answer of type R: that is given into its slot `reply`."""

    __slots__ = ()
    reply: Reply[R]


def reply_of(message: object) -> Reply[Any] | None:
    """The reply slot of a request; None for any other message."""
    return cast("Request[Any]", message).reply if isinstance(message, Request) else None
