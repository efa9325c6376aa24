"""What an agent may be: the operator's list, which a registration only narrows, and who is taken at his word."""

from collections.abc import Iterable, Mapping, Set
from typing import Annotated
from urllib.parse import unquote

from msgspec import Meta, Struct, ValidationError, convert
from msgspec.structs import replace

from orchestrator.domain.agent import Agent, AgentId, Capability


class Allowance(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A line of the operator's list: what that agent may do at most, where, and with which models (empty: any).

    `raw_media` is the right to be given raw media; without it the agent never is, whatever the task's type and consent.
    """

    agent_id: AgentId
    capabilities: Annotated[tuple[Capability, ...], Meta(min_length=1)]
    models: tuple[str, ...] = ()
    locations: tuple[str, ...] = ()
    raw_media: bool = False


class Line(str):
    """An agent and what it may be: `eye-1 embed raw_image model=retina-3 location=edge-1 raw_media=yes`.

    With spaces between, and `%20` for a space within. Raises ValueError.
    """

    def __new__(cls, text: str) -> "Line":
        line = super().__new__(cls, text)
        try:
            line.allowance()
        except (KeyError, ValueError, ValidationError):
            raise ValueError("is no agent with what it may, such as `eye-1 embed raw_image raw_media=yes`") from None
        return line

    def allowance(self) -> Allowance:
        """What the line says."""
        agent_id, *words = self.split(" ")
        said: dict[str, list[str]] = {"": [], "model": [], "location": [], "raw_media": []}
        for word in words:
            key, equals, value = word.partition("=")
            said[key if equals else ""].append(unquote(value) if equals else word)
        if said["raw_media"] not in ([], ["yes"]):
            raise ValueError
        return convert(
            {
                "agent_id": agent_id, "capabilities": said[""], "models": said["model"],
                "locations": said["location"], "raw_media": bool(said["raw_media"]),
            },
            Allowance,
        )  # fmt: skip


class Gate(Struct, frozen=True):
    """How agents are let in. `raw_media` are the capabilities that make an agent one for raw media.

    `strangers`: an agent that is not known is taken at its word. `changes`: one that changes is, too.
    """

    listed: Mapping[str, Allowance] = {}
    raw_media: frozenset[str] = frozenset()
    strangers: bool = True
    changes: bool = True

    def admitted(self, known: Agent | None, coming: Agent, *, by_operator: bool = False) -> Agent:
        """`coming` as it is taken in place of `known`: within what it may, and quarantined where that is not clear."""
        if known is not None and known.without_raw_media:
            coming = self._without_raw_media(coming)
        coming = self.bounded(coming)
        if known is None:
            unknown = not (self.strangers or by_operator or coming.agent_id in self.listed)
            return replace(coming, quarantined=coming.quarantined or unknown)
        changed = not self.changes and (known.quarantined or _is_changed(known, coming))
        return replace(coming, quarantined=coming.quarantined or changed)

    def bounded(self, agent: Agent) -> Agent:
        """The agent within its line of the list; quarantined where nothing of it is. Without a line, as it is."""
        line = self.listed.get(agent.agent_id)
        if line is None:
            return agent
        raw_media = frozenset[str]() if line.raw_media else self.raw_media
        agent = _within(agent, frozenset(line.capabilities) - raw_media, without_raw_media=not line.raw_media)
        return agent if _fits(agent, line) else replace(agent, quarantined=True)

    def allowed(self, agent: Agent, *, raw_media: bool) -> Agent | None:
        """The agent by an operator's word, with a right to raw media or without; None where the list forbids it."""
        word = _within(replace(agent, quarantined=False), frozenset(agent.claim), without_raw_media=False)
        bounded = self.bounded(word if raw_media else self._without_raw_media(word))
        return None if bounded.quarantined else bounded

    def _without_raw_media(self, agent: Agent) -> Agent:
        return _within(agent, frozenset(agent.capabilities) - self.raw_media, without_raw_media=True)


def listed(lines: Iterable[Allowance]) -> dict[str, Allowance]:
    """The list by agent. Raises ValueError for an agent that stands in it twice."""
    found: dict[str, Allowance] = {}
    for line in lines:
        if line.agent_id in found:
            raise ValueError(f"{line.agent_id} stands in it twice")
        found[line.agent_id] = line
    return found


def _fits(agent: Agent, line: Allowance) -> bool:
    if not agent.capabilities:
        return False
    if line.models and agent.model_version not in line.models:
        return False
    return not line.locations or agent.location in line.locations


def _within(agent: Agent, may: Set[str], *, without_raw_media: bool) -> Agent:
    """The agent with what it may of its claim; the rest is withheld."""
    return replace(
        agent,
        capabilities=tuple(c for c in agent.claim if c in may),
        withheld=tuple(c for c in agent.claim if c not in may),
        without_raw_media=without_raw_media,
    )


def _is_changed(known: Agent, coming: Agent) -> bool:
    """Whether it is called elsewhere, serves another site, runs another model or does else than it was allowed.

    Fewer capabilities count too: without `raw_image` it would get other tasks. What it claimed before, and was withheld
    until its bounds were widened, is no change.
    """
    before, now = frozenset(known.capabilities), frozenset(coming.capabilities)
    return _place(known) != _place(coming) or not before <= now or not now - before <= frozenset(known.withheld)


def _place(agent: Agent) -> tuple[str | None, ...]:
    """Where it is called, with which model, and the one site whose tasks it is given; None where those of all are."""
    return agent.endpoint, agent.model_version, agent.serves_site if agent.edge else None
