"""The bounded queue in front of an actor, which outlives the actor's incarnations."""

import weakref
from typing import Generic, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from orchestrator.kernel.deadlines import Deadlines
from orchestrator.kernel.errors import NotDelivered
from orchestrator.kernel.ref import Ref
from orchestrator.kernel.reply import reply_of

M = TypeVar("M")


class Mailbox(Generic[M]):
    """A memory object stream of at most `capacity` messages, with one reader at a time.

    Whoever makes it owns it; a supervisor closes it when it stops its actor for good.
    """

    def __init__(self, name: str, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a mailbox needs room for one message")
        self.name = name
        self.capacity = capacity
        self._peak = 0
        self.deadlines = Deadlines()
        self._tail, self._head = anyio.create_memory_object_stream[M](capacity)
        # A mailbox is only memory: one that is dropped unclosed is no leak that anyio need warn of.
        weakref.finalize(self, _close, self._tail, self._head)

    @property
    def depth(self) -> int:
        """How many messages wait. One that a waiting actor was just handed is not among them."""
        return self._head.statistics().current_buffer_used

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
        try:
            self._tail.send_nowait(message)
        except anyio.WouldBlock:
            raise NotDelivered(self.name, "full") from None
        except anyio.ClosedResourceError:
            raise NotDelivered(self.name, "closed") from None

    async def take(self) -> M:
        """The oldest message, when there is one. Cancelling takes none: a message is returned, or it stays."""
        self._note_peak()
        return await self._head.receive()

    def take_waiting(self, limit: int) -> list[M]:
        """Up to `limit` of the messages that wait now, oldest first."""
        return [self._head.receive_nowait() for _ in range(min(limit, self._note_peak()))]

    def _note_peak(self) -> int:
        """The depth. It only shrinks when something is taken, so before that is the time to look for the highest."""
        depth = self.depth
        self._peak = max(self._peak, depth)
        return depth

    def close(self) -> None:
        """Refuse all messages from now on, those that wait included: their askers get `NotDelivered`. Twice is safe."""
        self._tail.close()
        for message in self.take_waiting(self.depth):
            if reply := reply_of(message):
                reply.fail(NotDelivered(self.name, "closed"))
        self._head.close()

    def __repr__(self) -> str:
        return f"<Mailbox {self.name} {self.depth}/{self.capacity} peak {self.peak}>"


def _close(tail: MemoryObjectSendStream[M], head: MemoryObjectReceiveStream[M]) -> None:
    tail.close()
    head.close()
