"""Where the agents are kept, and how replicas hear of each other's. Who comes and goes is in the audit in any case."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from orchestrator.actors.committing import Committer
from orchestrator.actors.reading import read
from orchestrator.domain.agent import Agent, Sighting
from orchestrator.domain.audit import AuditDraft
from orchestrator.storage.agent_store import AgentStore, AgentsUnavailable
from orchestrator.storage.commands import ForgetAgent, Note, SaveAgent, TellSightings
from orchestrator.storage.ports import LedgerReader


class Roster(Protocol):
    """All calls raise an OrchestratorError where the ledger is away, and AgentsUnavailable where another store is."""

    @property
    def shared(self) -> bool:
        """Whether other replicas change it too, so that it is to be looked at again and again."""
        ...

    async def agents(self) -> Sequence[Agent]:
        """All agents there are."""
        ...

    async def save(self, agent: Agent, audit: AuditDraft) -> None:
        """Stores or replaces an agent, with its audit entry."""
        ...

    async def forget(self, agent_id: str, audit: AuditDraft) -> None:
        """Removes an agent, with its audit entry."""
        ...

    async def note(self, audit: AuditDraft) -> None:
        """Only an audit entry."""
        ...

    async def sightings(self) -> Sequence[Sighting]:
        """What replicas have heard of the agents."""
        ...

    async def tell(self, sightings: Sequence[Sighting]) -> None:
        """Tells the other replicas."""
        ...


class LedgerRoster:
    """In the ledger, written together with the audit entry."""

    def __init__(self, reader: LedgerReader, committer: Committer, *, shared: bool) -> None:
        """`shared` is whether other processes write to the ledger."""
        self._reader, self._committer, self.shared = reader, committer, shared

    async def agents(self) -> Sequence[Agent]:
        return await read(self._reader.agents())

    async def save(self, agent: Agent, audit: AuditDraft) -> None:
        await self._committer.commit(SaveAgent(agent, audit))

    async def forget(self, agent_id: str, audit: AuditDraft) -> None:
        await self._committer.commit(ForgetAgent(agent_id, audit))

    async def note(self, audit: AuditDraft) -> None:
        await self._committer.commit(Note(audit))

    async def sightings(self) -> Sequence[Sighting]:
        return await read(self._reader.sightings())

    async def tell(self, sightings: Sequence[Sighting]) -> None:
        await self._committer.commit(TellSightings(tuple(sightings)))


class MemoryRoster:
    """In the registry's memory alone: after a start nobody is known until it registers."""

    shared = False

    def __init__(self, committer: Committer) -> None:
        self._committer = committer

    async def agents(self) -> Sequence[Agent]:
        return []

    async def save(self, agent: Agent, audit: AuditDraft) -> None:
        await self._committer.commit(Note(audit))

    async def forget(self, agent_id: str, audit: AuditDraft) -> None:
        await self._committer.commit(Note(audit))

    async def note(self, audit: AuditDraft) -> None:
        await self._committer.commit(Note(audit))

    async def sightings(self) -> Sequence[Sighting]:
        return []

    async def tell(self, sightings: Sequence[Sighting]) -> None:
        """There is nobody to tell."""


MOST_GONE = 10_000
"""Agents that have left while the store was away, and are to be removed from it. Of more, the first ones are found
there again: they do not answer, and can be sent away once more."""


class StoreRoster:
    """In a store that may lose everything: what a replica knows it then restores. While it is away, it is caught up."""

    shared = True

    def __init__(self, store: AgentStore, committer: Committer) -> None:
        self._store, self._committer = store, committer
        self._known: dict[str, Agent] = {}
        self._unsaved: dict[str, Agent] = {}
        self._gone: dict[str, None] = {}

    async def agents(self) -> Sequence[Agent]:
        for agent in list(self._unsaved.values()):
            await self._save(agent)
        for agent_id in list(self._gone):
            await self._remove(agent_id)
        found = await self._store.agents()
        if found is None:
            await self._store.restore(list(self._known.values()))
            found = await self._store.agents() or list(self._known.values())
        self._known = {agent.agent_id: agent for agent in found}
        return found

    async def save(self, agent: Agent, audit: AuditDraft) -> None:
        await self._committer.commit(Note(audit))
        self._known[agent.agent_id] = self._unsaved[agent.agent_id] = agent
        self._gone.pop(agent.agent_id, None)
        with suppress(AgentsUnavailable):
            await self._save(agent)

    async def forget(self, agent_id: str, audit: AuditDraft) -> None:
        await self._committer.commit(Note(audit))
        self._known.pop(agent_id, None)
        self._unsaved.pop(agent_id, None)
        self._gone[agent_id] = None
        if len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]
        with suppress(AgentsUnavailable):
            await self._remove(agent_id)

    async def note(self, audit: AuditDraft) -> None:
        await self._committer.commit(Note(audit))

    async def sightings(self) -> Sequence[Sighting]:
        return await self._store.sightings()

    async def tell(self, sightings: Sequence[Sighting]) -> None:
        await self._store.tell(sightings)

    async def _save(self, agent: Agent) -> None:
        await self._store.save(agent)
        if self._unsaved.get(agent.agent_id) is agent:
            del self._unsaved[agent.agent_id]

    async def _remove(self, agent_id: str) -> None:
        await self._store.forget(agent_id)
        self._gone.pop(agent_id, None)
