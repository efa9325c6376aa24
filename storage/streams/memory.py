"""Streams and agents in memory, shared by systems in one process: for tests and simulations, on any event loop."""

from collections.abc import Collection, Mapping, Sequence
from itertools import count

import anyio
from anyio.lowlevel import checkpoint

from orchestrator.domain.agent import Agent, Sighting
from orchestrator.domain.task import Priority
from orchestrator.storage.agent_store import AgentsUnavailable
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

    async def forget(self, task_ids: Collection[str]) -> None:
        await self._reach()
        for held in self.broker.messages.values():
            for entry_id in [name for name, message in held.items() if message.fields["task_id"] in task_ids]:
                del held[entry_id]
                self.broker.pending.pop(entry_id, None)

    async def empty(self) -> None:
        await self._reach()
        self.broker.messages.update((priority, {}) for priority in Priority)
        self.broker.pending.clear()

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


class MemoryAgents:
    """One system's way to the agents of a board."""

    def __init__(self, board: "Board | None" = None) -> None:
        self.board = board or Board()
        self._life: int | None = None
        self._seen, self._is_older = 0, False

    async def agents(self) -> list[Agent] | None:
        await self._reach()
        life, self._life = self._life, self.board.life
        is_lost = self._life is None or life not in (None, self._life)
        self._is_older = not is_lost and self.board.changes < self._seen
        if not self._is_older:
            self._seen = self.board.changes
        if is_lost or self._is_older:
            return None
        return [self.board.agents[agent_id] for agent_id in sorted(self.board.agents)]

    async def restore(self, agents: Sequence[Agent]) -> None:
        await self._reach()
        if self._is_older:
            self.board.agents, self.board.changes = {}, self._seen + 1
        for agent in agents:
            self.board.agents.setdefault(agent.agent_id, agent)
        self.board.life = self.board.life or next(self.board.lives)

    async def save(self, agent: Agent) -> None:
        await self._reach()
        self.board.agents[agent.agent_id] = agent
        self._count()

    async def forget(self, agent_id: str) -> None:
        await self._reach()
        self.board.agents.pop(agent_id, None)
        self.board.sightings.pop(agent_id, None)
        self._count()

    async def sightings(self) -> list[Sighting]:
        await self._reach()
        return list(self.board.sightings.values())

    async def tell(self, sightings: Sequence[Sighting]) -> None:
        await self._reach()
        for sighting in sightings:
            earlier = self.board.sightings.get(sighting.agent_id)
            self.board.sightings[sighting.agent_id] = sighting.after(earlier)

    async def close(self) -> None:
        """Nothing to let go of."""

    def _count(self) -> None:
        self.board.changes += 1
        self._seen = max(self.board.changes, self._seen + 1)

    async def _reach(self) -> None:
        await checkpoint()
        if not self.board.up:
            raise AgentsUnavailable("down")


class Board:
    """What replicas share of agents, and whether it can be reached."""

    def __init__(self) -> None:
        self.up = True
        self.lives = count(1)
        self.flush()

    def flush(self) -> None:
        """Everything is lost."""
        self.life: int | None = None
        self.changes = 0
        self.agents: dict[str, Agent] = {}
        self.sightings: dict[str, Sighting] = {}
