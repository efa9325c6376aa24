"""Which agent may, and should, do a task: purely. First exclusions, each with its reason; then a preference."""

from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b

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


def decide(
    demand: Demand, agents: Iterable[AgentView], now: float, policy: Policy, asking: Collection[str] = ()
) -> Decision:
    """The agents that may do what `demand` asks at `now` (monotonic seconds), best first, and why not the others.

    `asking` are the pull agents that ask for work: who asks leads its tier, since it is idle and has the way open.
    Raises KeyError for a task type that the policy does not know.
    """
    views = {view.agent.agent_id: view for view in sorted(agents, key=lambda view: view.agent.agent_id)}
    candidates = tuple(_candidate(demand, view, now, policy) for view in views.values())
    kept = [c for c in candidates if c.excluded is None]
    asked = sorted((c for c in kept if c.agent_id in asking and c.pulls), key=_preference)
    called = sorted((c for c in kept if not c.pulls), key=_preference)
    choices = [*_two_choices(asked, views, demand, policy), *_two_choices(called, views, demand, policy)]
    ranking = tuple(c.agent_id for c in sorted(choices, key=_tier))
    return Decision(candidates=candidates, ranking=ranking, refused=demand.refused)


def _candidate(demand: Demand, view: AgentView, now: float, policy: Policy) -> Candidate:
    agent = view.agent
    excluded = _exclusion(demand, view, now, policy)
    return Candidate(
        agent_id=agent.agent_id,
        excluded=excluded,
        pulls=agent.pulls,
        edge=agent.edge,
        unknown=view.health.last_seen is None,
        avoided=agent.agent_id in demand.avoid,
        score=_score(demand, view, policy) if excluded is None else None,
        location=agent.location if excluded is None else "",
    )


def _exclusion(demand: Demand, view: AgentView, now: float, policy: Policy) -> Exclusion | None:
    agent = view.agent
    if not any(c in agent.capabilities for c in policy.task_types[demand.task_type].capabilities):
        return Exclusion.CAPABILITY
    if not permitted(demand, agent, policy):
        return Exclusion.CONSENT
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


def permitted(demand: Demand, agent: Agent, policy: Policy) -> bool:
    """Whether consent lets `agent` see the task: without it raw media goes nowhere, and nothing to agents for them."""
    raw = not policy.raw_media_capabilities.isdisjoint(agent.capabilities)
    return demand.consented or not (raw or demand.raw_media)


def _score(demand: Demand, view: AgentView, policy: Policy) -> float:
    row, weights = policy.task_types[demand.task_type].capabilities, policy.weights
    place = next(i for i, capability in enumerate(row) if capability in view.agent.capabilities)
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


def _two_choices(
    kept: list[Candidate], views: Mapping[str, AgentView], demand: Demand, policy: Policy
) -> list[Candidate]:
    """Power of two choices between the equally good: two by lot, of them the less busy (Mitzenmacher, 2001).

    The lot is drawn by a hash of the task's id, so that it can be drawn again.
    """
    equals = [
        c
        for c in kept
        if _tier(c) == _tier(kept[0]) and (c.score or 0.0) - (kept[0].score or 0.0) < policy.equal_within
    ]
    if len(equals) < 2:
        return kept
    lot = int.from_bytes(blake2b(demand.key.encode(), digest_size=8).digest())
    first = equals.pop(lot % len(equals))
    second = equals[(lot >> 32) % len(equals)]
    chosen = min((first, second), key=lambda c: views[c.agent_id].in_flight / views[c.agent_id].agent.max_concurrency)
    return [chosen, *(c for c in kept if c is not chosen)]
