"""Which agent may, and should, do a task: purely. First exclusions, each with its reason; then a preference."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from math import inf

from msgspec import Struct

from orchestrator.domain.agent import Agent, AgentView
from orchestrator.domain.decision import Candidate, Decision, Exclusion
from orchestrator.domain.task import Demand


class TaskType(Struct, frozen=True):
    """A kind of task: any one of `capabilities` is enough, the first fits best; `timeout_s` bounds one attempt."""

    capabilities: tuple[str, ...]
    timeout_s: float
    sync: bool = False
    max_retries: int | None = None
    raw_media: bool = False
    """Whether whoever does it needs the raw media, also if the agent is not one for raw media."""


class Weights(Struct, frozen=True):
    """What a point of score stands for; lower scores win."""

    capability: float = 1.0
    """Per place that the agent's best capability stands behind the first one of the row."""
    latency: float = 1.0
    """Per second of observed latency."""
    load: float = 1.0
    """Per share of its slots in use, or of the load it reports, whichever is more."""
    cost: float = 1.0


class Policy(Struct, frozen=True):
    """The settings that decisions depend on."""

    task_types: Mapping[str, TaskType]
    raw_media_capabilities: frozenset[str]
    raw_media_keys: frozenset[str] = frozenset()
    """In plain spelling."""
    agent_ttl_s: float = 120.0
    weights: Weights = Weights()
    equal_within: float = 0.05
    """Scores that differ by less count as equal."""


Lot = tuple[str | None, str | None]
"""Who of those that ask, and who of those that are called, leads."""


class Field(Struct, frozen=True):
    """Who may do what a demand asks at a moment. What is left to do is to draw the lot between equals, by a task's id.

    `called` and `asked` hold the candidates kept, the best first, and `equals` those of each that are as good as its
    first; `busy` says what share of its slots each uses.
    """

    candidates: tuple[Candidate, ...]
    asked: tuple[Candidate, ...]
    called: tuple[Candidate, ...]
    equals: tuple[Sequence[Candidate], Sequence[Candidate]]
    busy: Mapping[str, float]
    refused: bool

    def lot(self, key: str) -> Lot:
        """How the lot falls for the task of that id."""
        asked, called = self.equals
        return self._two_choices(asked, key), self._two_choices(called, key)

    def decided(self, lot: Lot) -> Decision:
        """The decision when the lot fell so."""
        choices = [*_led(lot[0], self.asked), *_led(lot[1], self.called)]
        ranking = tuple(c.agent_id for c in sorted(choices, key=_tier))
        return Decision(candidates=self.candidates, ranking=ranking, refused=self.refused)

    def _two_choices(self, equals: Sequence[Candidate], key: str) -> str | None:
        """Power of two choices between the equally good: two by lot, of them the less busy (Mitzenmacher, 2001).

        The lot is drawn by a hash of the task's id, so that it can be drawn again.
        """
        if len(equals) < 2:
            return equals[0].agent_id if equals else None
        lot = int.from_bytes(blake2b(key.encode(), digest_size=8).digest())
        others = [*equals]
        first = others.pop(lot % len(others))
        second = others[(lot >> 32) % len(others)]
        return min((first, second), key=lambda c: self.busy[c.agent_id]).agent_id


def field_of(
    demand: Demand, agents: Iterable[AgentView], now: float, policy: Policy, asking: Collection[str] = ()
) -> Field:
    """The field for what `demand` asks at `now` (monotonic seconds), whatever its key.

    `asking` are the pull agents that ask for work: who asks leads its tier, since it is idle and has the way open.
    Raises KeyError for a task type that the policy does not know.
    """
    views = sorted(agents, key=lambda view: view.agent.agent_id)
    candidates = tuple(_candidate(demand, view, now, policy) for view in views)
    kept = [c for c in candidates if c.excluded is None]
    asked = tuple(sorted((c for c in kept if c.agent_id in asking and c.pulls), key=_preference)) if asking else ()
    called = tuple(sorted((c for c in kept if not c.pulls), key=_preference))
    return Field(
        candidates=candidates,
        asked=asked,
        called=called,
        equals=(_equals(asked, policy.equal_within), _equals(called, policy.equal_within)),
        busy={view.agent.agent_id: view.in_flight / view.agent.max_concurrency for view in views},
        refused=demand.refused,
    )


def _equals(kept: Sequence[Candidate], within: float) -> Sequence[Candidate]:
    """The first, and those that are as good."""
    return [c for c in kept if (c.score or 0.0) - (kept[0].score or 0.0) < within and _tier(c) == _tier(kept[0])]


def decide(
    demand: Demand, agents: Iterable[AgentView], now: float, policy: Policy, asking: Collection[str] = ()
) -> Decision:
    """The agents that may do what `demand` asks, best first, and why not the others; see `field_of`."""
    field = field_of(demand, agents, now, policy, asking)
    return field.decided(field.lot(demand.key))


def settled_until(agents: Iterable[AgentView], now: float, policy: Policy) -> float:
    """Until when (monotonic seconds) time alone changes nothing in any field of these agents."""
    return min((view.health.settled_until(now, policy.agent_ttl_s) for view in agents), default=inf)


def _candidate(demand: Demand, view: AgentView, now: float, policy: Policy) -> Candidate:
    agent, kind = view.agent, policy.task_types[demand.task_type]
    place = _place(kind.capabilities, agent.capabilities)
    excluded = Exclusion.CAPABILITY if place is None else _exclusion(demand, view, now, policy)
    return Candidate(
        agent_id=agent.agent_id,
        excluded=excluded,
        pulls=agent.pulls,
        edge=agent.edge,
        unknown=view.health.last_seen is None,
        avoided=agent.agent_id in demand.avoid,
        score=_score(place, view, policy.weights) if place is not None and excluded is None else None,
        location=agent.location if excluded is None else "",
        model_version=agent.model_version if excluded is None else None,
    )


def _place(wanted: Sequence[str], has: Collection[str]) -> int | None:
    """Which of the capabilities that serve a type, the best first, an agent has."""
    for place, capability in enumerate(wanted):
        if capability in has:
            return place
    return None


def _exclusion(demand: Demand, view: AgentView, now: float, policy: Policy) -> Exclusion | None:
    agent = view.agent
    if not permitted(agent, policy, consented=demand.consented, raw_media=demand.raw_media):
        return Exclusion.CONSENT
    if demand.raw_media and policy.task_types[demand.task_type].raw_media and agent.without_raw_media:
        return Exclusion.RAW_MEDIA
    if agent.quarantined:
        return Exclusion.QUARANTINED
    availability = view.health.availability(now, policy.agent_ttl_s)
    if not availability.usable:
        return Exclusion(availability.value)
    if agent.edge and demand.site is not None and agent.serves_site != demand.site:
        return Exclusion.SITE
    if view.free(urgent=demand.urgent) <= 0:
        return Exclusion.CAPACITY
    return None


def permitted(agent: Agent, policy: Policy, *, consented: bool, raw_media: bool) -> bool:
    """Whether consent lets `agent` see a task: without it raw media goes nowhere, and nothing to agents for them."""
    return consented or not (raw_media or not policy.raw_media_capabilities.isdisjoint(agent.capabilities))


def _score(place: int, view: AgentView, weights: Weights) -> float:
    load = max(view.in_flight / view.agent.max_concurrency, min(view.health.load, 1.0))
    return round(
        weights.capability * place
        + weights.latency * (view.health.latency or 0.0)
        + weights.load * load
        + weights.cost * view.agent.cost,
        6,
    )


def _tier(candidate: Candidate) -> tuple[bool, bool, bool]:
    """Agents of an earlier tier always win: known to be well, not failed before, at the edge."""
    return (candidate.unknown, candidate.avoided, not candidate.edge)


def _preference(candidate: Candidate) -> tuple[tuple[bool, bool, bool], float, str]:
    return (_tier(candidate), candidate.score or 0.0, candidate.agent_id)


def _led(leader: str | None, kept: Sequence[Candidate]) -> list[Candidate]:
    return sorted(kept, key=lambda candidate: candidate.agent_id != leader)
