"""What the rest of the system may ask of a store of agents beside the ledger, in memory or in Redis."""

from collections.abc import Sequence
from typing import Protocol

from orchestrator.domain.agent import Agent, Sighting


class AgentsUnavailable(Exception):
    """The store of agents cannot be reached now."""


class AgentStore(Protocol):
    """Where replicas share agents beside the ledger; it may lose everything. All calls raise AgentsUnavailable."""

    async def agents(self) -> list[Agent] | None:
        """All agents stored; None where what was stored is lost, or an older copy, and nobody restored it."""
        ...

    async def restore(self, agents: Sequence[Agent]) -> None:
        """Stores what is known, beside what others may have restored, and in place of an older copy."""
        ...

    async def save(self, agent: Agent) -> None:
        """Stores or replaces an agent."""
        ...

    async def forget(self, agent_id: str) -> None:
        """Removes an agent and its sighting."""
        ...

    async def sightings(self) -> list[Sighting]:
        """What replicas have told each other."""
        ...

    async def tell(self, sightings: Sequence[Sighting]) -> None:
        """Tells the other replicas."""
        ...

    async def close(self) -> None:
        """Lets go. Twice is safe."""
        ...
