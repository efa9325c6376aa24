"""The bounded queue in front of an actor, which outlives the actor's incarnations."""

from collections import deque
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

from orchestrator.kernel.deadlines import Deadlines
from orchestrator.kernel.errors import NotDelivered
from orchestrator.kernel.ref import Ref
from orchestrator.kernel.reply import reply_of
from orchestrator.kernel.signal import Signal, signal

M = TypeVar("M")


class Mailbox(Generic[M]):
    """At most `capacity` messages, with one reader at a time.

    Whoever makes it owns it; a supervisor closes it when it stops its actor for good.
    """

    def __init__(self, name: str, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a mailbox needs room for one message")
        self.name = name
        self.capacity = capacity
        self._peak = 0
        self.deadlines = Deadlines(name)
        self._messages: deque[M] = deque()
        self._closed = False
        self._awaited: Signal | None = None

    @property
    def depth(self) -> int:
        """How many messages wait."""
        return len(self._messages)

    @property
    def peak(self) -> int:
        """The most that ever waited at once."""
        self._note_peak()
        return self._peak

    @property
    def ref(self) -> Ref[M]:
        """The sending side, to give away."""
        return Ref(self.name, self.post, self.deadlines)

    def post(self, message: M) -> None:
        """Add a message without waiting. Raises `NotDelivered` when the mailbox is full or closed."""
        if self._closed:
            raise NotDelivered(self.name, "closed")
        if len(self._messages) >= self.capacity:
            raise NotDelivered(self.name, "full")
        self._messages.append(message)
        self.wake()

    async def arrival(self) -> None:
        """Waits until a message is there, or for `wake`. Cancelling takes nothing: only `take_waiting` does.

        Others have their turn first, however many wait. Raises `anyio.EndOfStream` once the mailbox is closed.
        """
        self._note_peak()
        if self._messages:
            await anyio.lowlevel.checkpoint()
        elif not self._closed:
            awaited = self._awaited = signal()
            try:
                await awaited.wait()
            finally:
                self._awaited = None
        if self._closed and not self._messages:
            raise anyio.EndOfStream

    def take_waiting(self, limit: int) -> list[M]:
        """Up to `limit` of the messages that wait now, oldest first."""
        return [self._messages.popleft() for _ in range(min(limit, self._note_peak()))]

    def _note_peak(self) -> int:
        """The depth. It only shrinks when something is taken, so before that is the time to look for the highest."""
        depth = self.depth
        self._peak = max(self._peak, depth)
        return depth

    def close(self) -> None:
        """Refuse all messages from now on, those that wait included: their askers get `NotDelivered`. Twice is safe."""
        self._closed = True
        for message in self.take_waiting(self.depth):
            if reply := reply_of(message):
                reply.fail(NotDelivered(self.name, "closed"))
        self.wake()

    def wake(self) -> None:
        """Has the reader look up from its wait for a message, if it waits. Twice is safe."""
        if self._awaited is not None:
            self._awaited.set()
            # It is up: whoever posts before its turn has nothing to do for it.
            self._awaited = None

    def __repr__(self) -> str:
        return f"<Mailbox {self.name} {self.depth}/{self.capacity} peak {self.peak}>"
