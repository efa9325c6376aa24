"""Streams in memory, for several systems in one process: for tests and simulations, on asyncio and on trio."""

from collections.abc import Mapping, Sequence
from itertools import count

import anyio
from anyio.lowlevel import checkpoint

from orchestrator.domain.task import Priority
from orchestrator.storage.ports import Message, StreamEntry, StreamsUnavailable


class Broker:
    """What all share: the streams, and whether they can be reached."""

    def __init__(self) -> None:
        self.up = True
        self.policy: str | None = None
        self._ids = count(1)
        self.flush()

    def flush(self) -> None:
        """Everything is lost."""
        self.vouched = False
        self.messages: dict[Priority | None, dict[str, Message]] = {stream: {} for stream in (*Priority, None)}
        self.pending: dict[str, float] = {}
        """Entries that somebody has, and since when."""
        self.changed = anyio.Event()

    def add(self, message: Message) -> None:
        """At the end."""
        self.messages[message.priority][str(next(self._ids))] = message
        self.changed.set()
        self.changed = anyio.Event()


class MemoryStreams:
    """One system's way to the streams of a broker."""

    def __init__(self, broker: Broker | None = None, *, claim_s: float = 30.0) -> None:
        self.broker = broker or Broker()
        self._claim_s = claim_s

    async def add(self, messages: Sequence[Message]) -> None:
        await self._reach()
        for message in messages:
            self.broker.add(message)

    async def lengths(self) -> Mapping[Priority | None, int]:
        await self._reach()
        return {stream: len(held) for stream, held in self.broker.messages.items()}

    async def read(self, wanted: Mapping[Priority, int], wait_s: float) -> list[StreamEntry]:
        await self._reach()
        end = anyio.current_time() + wait_s
        while True:
            changed = self.broker.changed
            found = [entry for priority, limit in wanted.items() for entry in self._new(priority, limit)]
            if found or anyio.current_time() >= end:
                return found
            with anyio.CancelScope(deadline=end):
                await changed.wait()
            await self._reach()

    async def claim(self, limit: int) -> list[StreamEntry]:
        await self._reach()
        old = anyio.current_time() - self._claim_s
        return [
            self._taken(priority, entry_id) for priority in Priority for entry_id in self._since(priority, old)[:limit]
        ]

    async def give_back(self, entries: Sequence[StreamEntry]) -> None:
        await self._reach()
        self.broker.pending.update((entry.entry_id, float("-inf")) for entry in entries)

    async def remove(self, entries: Sequence[StreamEntry]) -> None:
        await self._reach()
        for entry in entries:
            self.broker.messages[entry.priority].pop(entry.entry_id, None)
            self.broker.pending.pop(entry.entry_id, None)

    async def intact(self) -> bool:
        await self._reach()
        return self.broker.vouched

    async def vouch(self) -> None:
        await self._reach()
        self.broker.vouched = True

    async def evicts(self) -> str | None:
        await self._reach()
        return self.broker.policy

    async def close(self) -> None:
        """Nothing to let go of."""

    async def _reach(self) -> None:
        await checkpoint()
        if not self.broker.up:
            raise StreamsUnavailable("down")

    def _new(self, priority: Priority, limit: int) -> list[StreamEntry]:
        new = [entry_id for entry_id in self.broker.messages[priority] if entry_id not in self.broker.pending]
        return [self._taken(priority, entry_id) for entry_id in new[:limit]]

    def _since(self, priority: Priority, then: float) -> list[str]:
        pending = self.broker.pending
        return [entry for entry in self.broker.messages[priority] if entry in pending and pending[entry] <= then]

    def _taken(self, priority: Priority, entry_id: str) -> StreamEntry:
        self.broker.pending[entry_id] = anyio.current_time()
        return StreamEntry(priority, entry_id, self.broker.messages[priority][entry_id].fields["task_id"])
