"""What a replica makes of what others have heard: purely."""

from collections.abc import Collection, Iterable, Mapping

from msgspec.structs import replace

from orchestrator.domain.agent import Agent, AgentView, Sighting
from orchestrator.domain.health import Health

TOLERANCE_S = 0.05
"""By so much a sign of life must be later than the last one to be another one: clocks are read one after the other."""


def merged(
    views: Mapping[str, AgentView],
    agents: Iterable[Agent],
    sightings: Mapping[str, Sighting],
    *,
    now: float,
    ahead: float,
    since: float,
    own: Collection[str],
) -> dict[str, AgentView]:
    """The views after a look at what all replicas share; calls in flight and ejections are this replica's own.

    `now` and `since`, the start of this replica, are monotonic; `ahead` is how far the wall clock is ahead of that.
    Of agents in `own` this replica knows better at this moment.
    """
    found = {agent_id: views[agent_id] for agent_id in own if agent_id in views}
    for agent in agents:
        if agent.agent_id in own:
            continue
        view = views.get(agent.agent_id) or AgentView(agent, Health(since=now))
        sighting = sightings.get(agent.agent_id)
        found[agent.agent_id] = _sighted(replace(view, agent=agent), sighting, now=now, ahead=ahead, since=since)
    return found


def _sighted(view: AgentView, sighting: Sighting | None, *, now: float, ahead: float, since: float) -> AgentView:
    if sighting is None:
        return view
    health, at = view.health, min(now, sighting.seen_at - ahead)
    last = since if health.last_seen is None else health.last_seen
    if at > last + TOLERANCE_S:
        # What was heard before this replica started proves nothing of anybody.
        health = replace(health.heard(at, sighting.load), draining=health.draining)
    if sighting.draining is not None:
        health = replace(health, draining=sighting.draining)
    return replace(view, health=health)
