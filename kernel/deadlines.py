"""The deadlines of those who wait at one mailbox: one timer for all of them, which costs less than one for each."""

from collections.abc import Callable
from math import inf
from typing import Any, TypeVar

import anyio

from orchestrator.kernel.errors import AskTimeout
from orchestrator.kernel.monotonic import clock
from orchestrator.kernel.reply import Expired, Reply
from orchestrator.kernel.signal import Signal, signal, signals

R = TypeVar("R")


class Deadlines:
    """Where nobody keeps the time (no supervisor runs), each who waits has a timer of its own."""

    def __init__(self, mailbox: str) -> None:
        self._mailbox = mailbox
        self._due: dict[Reply[Any], float] = {}
        self._clock: Callable[[], float] | None = None
        """Of the keeper, if there is one; and what those wait for whose time it keeps."""
        self._signal: Callable[[], Signal] = signal
        self._planned = inf
        """When the keeper looks next: never later than the first of them is due."""
        self._sooner = anyio.Event()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._due)

    async def wait(self, reply: Reply[R], within: float) -> R:
        """The answer. Raises what it was failed with, and AskTimeout when there is none `within` seconds."""
        if self._clock is None:
            with anyio.move_on_after(within):
                return await reply.wait()
            raise AskTimeout(self._mailbox, within)
        until = self._clock() + within
        self._due[reply] = until
        if until < self._planned:
            self._planned = until
            self._sooner.set()
        try:
            return await reply.wait(self._signal)
        except Expired:
            raise AskTimeout(self._mailbox, within) from None
        finally:
            del self._due[reply]

    async def keep(self) -> None:
        """Keeps the time until it is cancelled; who waits then, waits no longer."""
        now = self._clock = clock()
        self._signal = signals()
        try:
            while True:
                self._sooner = anyio.Event()
                self._planned = min(self._due.values(), default=inf)
                with anyio.CancelScope(deadline=self._planned):
                    await self._sooner.wait()
                self._expire(now())
        finally:
            self._clock = None
            self._expire(inf)

    def _expire(self, now: float) -> None:
        for reply in [reply for reply, until in self._due.items() if until <= now]:
            reply.expire()
