"""An agent: what it registers, and how the orchestrator sees it at a moment."""

from typing import Annotated

from msgspec import Meta, Struct

from orchestrator.domain.health import Health
from orchestrator.domain.task import Identifier

AgentId = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]*$(?!\n)")]
"""Agent ids stand in paths, so they are letters, digits and `. _ : @ -`."""

Capability = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$(?!\n)")]


class Registration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an agent says of itself when it registers.

    An agent without an endpoint is a pull agent: it is never called, it asks for work. An agent whose location starts
    with `edge` is an edge agent, and serves the tasks of its `site` (its location, if it names none).
    `max_concurrency` bounds the tasks that it has at once; `cost` is relative, 0 for none.
    """

    agent_id: AgentId
    endpoint: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    capabilities: Annotated[tuple[Capability, ...], Meta(min_length=1, max_length=64)]
    location: Annotated[str, Meta(max_length=200)] = ""
    site: Identifier | None = None
    model_version: Annotated[str, Meta(max_length=200)] | None = None
    max_concurrency: Annotated[int, Meta(ge=1, le=1024)] = 8
    cost: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0

    @property
    def pulls(self) -> bool:
        return self.endpoint is None

    @property
    def edge(self) -> bool:
        return self.location.startswith("edge")

    @property
    def serves_site(self) -> str:
        return self.site or self.location


class Agent(Registration, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An agent as it is kept: what it says of itself, and what was made of that.

    `quarantined`: no operator has allowed yet what it is now. `without_raw_media`: it has no right to raw media.
    `withheld` are the capabilities that it claims beyond what it may.
    """

    quarantined: bool = False
    without_raw_media: bool = False
    withheld: tuple[Capability, ...] = ()

    @property
    def claim(self) -> tuple[Capability, ...]:
        """All the capabilities that it says it has."""
        return self.capabilities + self.withheld


class AgentView(Struct, frozen=True):
    """An agent with its health and its tasks in flight, as the registry publishes it."""

    agent: Agent
    health: Health = Health()
    in_flight: int = 0

    def free(self, *, urgent: bool) -> int:
        """Tasks it could take now. One of several slots is kept for urgent work."""
        kept = 0 if urgent or self.agent.max_concurrency == 1 else 1
        return self.agent.max_concurrency - kept - self.in_flight


class Sighting(Struct, frozen=True):
    """The last that some replica heard of an agent, at `seen_at` seconds since the epoch.

    `load` and `draining` are None where nothing is said of them: then they are as they were.
    """

    agent_id: str
    seen_at: float
    load: float | None = None
    draining: bool | None = None

    def after(self, earlier: "Sighting | None") -> "Sighting":
        """Both together: the later one counts, where it says something."""
        if earlier is None:
            return self
        load = earlier.load if self.load is None else self.load
        draining = earlier.draining if self.draining is None else self.draining
        return Sighting(self.agent_id, max(self.seen_at, earlier.seen_at), load, draining)
