"""The reading side of a mailbox, as one incarnation of an actor sees it."""

from collections.abc import AsyncIterator, Callable
from enum import Enum
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel

from orchestrator.kernel.errors import ActorCrashed
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.kernel.monotonic import monotonic
from orchestrator.kernel.reply import Reply, reply_of

M_co = TypeVar("M_co", covariant=True)


class Stop(Enum):
    """How iteration ends when a stop is asked."""

    FINAL = "after what is in the mailbox"
    RESTART = "at once: what is in the mailbox is for the next incarnation"


class Inbox(Generic[M_co]):
    """Iterate over it, in one task: `async for message in inbox`. It ends when a stop is asked.

    Asking for the next message says that the last one is finished, as far as stalls are concerned; its reply may
    still come later, from a task that the actor spawned.
    """

    def __init__(self, mailbox: Mailbox[M_co], on_ready: Callable[[], None] = lambda: None) -> None:
        self._mailbox = mailbox
        self._on_ready = on_ready
        self._stop: Stop | None = None
        self._stop_asked = anyio.Event()
        self._reading = anyio.ResourceGuard("reading")
        self._unanswered: set[Reply[Any]] = set()
        self._answered = self._unanswered.discard
        self._in_hand = self._at_work = False
        self.is_ready = False
        self.progressed_at = monotonic()

    # What the actor uses.

    def ready(self) -> None:
        """Say that the actor can serve; the next child is started only now. Twice is safe."""
        self.is_ready = True
        self.progress()
        self._on_ready()

    def progress(self) -> None:
        """A sign of life, for an actor that is busy for long with one message or with work of its own."""
        self.progressed_at = monotonic()

    def at_work(self, at_work: bool) -> None:
        """Say whether there is work in hand that did not come as a message. As long as there is, a stall is a crash."""
        self._at_work = at_work
        self.progress()

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked."""
        return self._stop_asked.is_set()

    async def wait_stopping(self) -> None:
        """Wait until a stop is asked; for actors that have other work than messages."""
        await self._stop_asked.wait()

    def __aiter__(self) -> AsyncIterator[M_co]:
        return self

    async def __anext__(self) -> M_co:
        (message,) = await self.take(1)
        return message

    def batches(self, limit: int) -> AsyncIterator[list[M_co]]:
        """Iterate over lists instead: wait for one message, then add what is waiting, up to `limit` in all."""
        return _Batches(self, limit)

    async def take(self, limit: int) -> list[M_co]:
        """The next batch, never empty. Raises StopAsyncIteration at the end. Cancelling takes nothing."""
        with self._reading:
            self._in_hand = False
            self.progress()
            batch = await self._next(limit)
            if not batch:
                raise StopAsyncIteration
            self._in_hand = True
            self.progress()
        for message in batch:
            if reply := reply_of(message):
                self._unanswered.add(reply)
                reply.when_answered(self._answered)
        return batch

    # What the supervisor uses.

    def stop(self, stop: Stop) -> None:
        """Have the iteration end, and interrupt it where it waits for a message. The first call counts."""
        if self._stop is None:
            self._stop = stop
            self._stop_asked.set()
            self._mailbox.wake()

    @property
    def pending(self) -> bool:
        """Whether there is work: a message in hand or in the mailbox, or what the actor said that it has."""
        return self._in_hand or self._at_work or self._mailbox.depth > 0

    def abandon(self) -> None:
        """The incarnation is over: fail what it took and did not answer with `ActorCrashed`."""
        for reply in list(self._unanswered):
            reply.fail(ActorCrashed(self._mailbox.name))

    def __repr__(self) -> str:
        return f"<Inbox {self._mailbox.name} {len(self._unanswered)} unanswered>"

    async def _next(self, limit: int) -> list[M_co]:
        while self._stop is None:
            await self._mailbox.arrival()
            # A stop wakes as a message does.
            if self._stop is None and (batch := self._mailbox.take_waiting(limit)):
                return batch
        await anyio.lowlevel.checkpoint()
        return self._mailbox.take_waiting(limit) if self._stop is Stop.FINAL else []


class _Batches(Generic[M_co]):
    # A class and not an async generator, so that leaving the loop early leaves nothing to close.
    def __init__(self, inbox: Inbox[M_co], limit: int) -> None:
        self._inbox = inbox
        self._limit = limit

    def __aiter__(self) -> AsyncIterator[list[M_co]]:
        return self

    async def __anext__(self) -> list[M_co]:
        return await self._inbox.take(self._limit)
