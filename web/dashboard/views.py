"""From what the system tells of itself to what the overview shows: pure functions."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from orchestrator.actors.feed import Headway
from orchestrator.domain.agent import AgentView
from orchestrator.domain.discretion import discreet
from orchestrator.domain.health import Availability, Health
from orchestrator.domain.identity import Principal, Scope
from orchestrator.domain.task import Priority
from orchestrator.history import HOUR_S, History, Point
from orchestrator.kernel.child import ChildStatus, State
from orchestrator.web.dashboard.words import span

MOST_UNDER_WAY = 4
MINUTE_S = 60.0


class Actor(Struct, frozen=True):
    """A line of the supervision tree."""

    name: str
    state: str
    tone: str
    restarts: int
    depth: int
    capacity: int
    peak: int
    last_error: str | None


def actors(children: Sequence[ChildStatus]) -> list[Actor]:
    """The tree in start order: each depends on those above it."""
    return [
        Actor(c.name, c.state.value, _tone_of(c), c.restarts, c.depth, c.capacity, c.peak, c.last_error)
        for c in children
    ]


def _tone_of(child: ChildStatus) -> str:
    if child.state in (State.RUNNING, State.FINISHED):
        return "warn" if child.depth * 2 > child.capacity else "good"
    return "bad" if child.state is State.FAILED else "warn"


def plots(points: Sequence[Point]) -> dict[str, list[list[float] | list[float | None]]]:
    """The series of the plots, each list as long as that of the times, which is the first: those of the last hour."""
    points = [point for point in points if point.at >= points[-1].at - HOUR_S]
    times = [round(point.at, 1) for point in points]
    ready = [[float(p.ready.get(name, 0)) for p in points] for name in Priority]
    oldest = [[round(p.oldest.get(name, 0.0), 1) for p in points] for name in Priority]
    rates = [_rates(points, name) for name in ("accepted", "succeeded", "failures")]
    return {"ready": [times, *ready], "oldest": [times, *oldest], "rates": [times, *rates]}


def _rates(points: Sequence[Point], name: str) -> list[float | None]:
    """What was counted in the minute before each sample; nobody knows it of the first one.

    In the first minute it is what was counted so far: the few seconds after a start say nothing of a minute.
    """
    found, begin = list[float | None]([None] if points else []), 0
    for now in points[1:]:
        while points[begin + 1].at <= now.at - MINUTE_S:
            begin += 1
        counted, minutes = getattr(now, name) - getattr(points[begin], name), (now.at - points[begin].at) / MINUTE_S
        found.append(round(counted / max(1.0, minutes), 1))
    return found


class UnderWay(Struct, frozen=True):
    """How far a task is, as its agent tells."""

    task_id: str
    done: float | None
    note: str | None

    __repr__ = discreet


class AgentRow(Struct, frozen=True):
    """An agent, how it is and why, and what may be done with it."""

    agent_id: str
    location: str
    model: str | None
    mode: str
    capabilities: tuple[str, ...]
    state: str
    tone: str
    why: str
    in_flight: int
    most: int
    latency: float | None
    seen_ago: float | None
    work: int
    share: float
    under_way: list[UnderWay]
    drain: bool
    allow: bool


class _Work(Struct, frozen=True):
    """What an agent did in the last hour, its share of what all did, and what it has in hand."""

    attempts: int
    share: float
    pulled: float | None
    """How long it takes for what it asked for, in seconds."""
    under_way: list[UnderWay]


def agents(
    directory: Mapping[str, AgentView],
    now: float,
    ttl: float,
    history: History,
    under_way: Sequence[tuple[str, Headway]],
    principal: Principal,
) -> list[AgentRow]:
    """All agents by their ids, at `now` in monotonic seconds, as `principal` may see them."""
    work = history.work()
    total = sum(work.values())
    doing: dict[str, list[UnderWay]] = {}
    for task_id, headway in under_way if principal.operates else ():
        doing.setdefault(headway.agent_id, []).append(UnderWay(task_id, headway.done, headway.note))

    def of(name: str) -> _Work:
        done, pulled = work.get(name, 0), history.latencies.get(name)
        return _Work(done, done / total if total else 0.0, pulled, doing.get(name, [])[-MOST_UNDER_WAY:])

    return [_agent(view, now, ttl, of(name), principal) for name, view in sorted(directory.items())]


def _agent(view: AgentView, now: float, ttl: float, work: _Work, principal: Principal) -> AgentRow:
    agent, health = view.agent, view.health
    availability = health.availability(now, ttl)
    state = "quarantined" if agent.quarantined else availability.value
    mine = principal.owns(agent.agent_id) and Scope.AGENTS_REGISTER in principal.scopes
    return AgentRow(
        agent_id=agent.agent_id,
        location=agent.location,
        model=agent.model_version,
        mode="pull" if agent.pulls else "push",
        capabilities=agent.capabilities,
        state=state,
        tone="bad" if agent.quarantined else _TONES[availability],
        why=_QUARANTINED if agent.quarantined else why(health, availability, now),
        in_flight=view.in_flight,
        most=agent.max_concurrency,
        latency=work.pulled if agent.pulls else health.latency,
        seen_ago=None if health.last_seen is None else now - health.last_seen,
        work=work.attempts,
        share=work.share,
        under_way=work.under_way,
        drain=mine and not health.draining,
        allow=agent.quarantined and principal.operates,
    )


_TONES = {
    Availability.READY: "good",
    Availability.TRIAL: "warn",
    Availability.UNKNOWN: "quiet",
    Availability.STALE: "bad",
    Availability.EJECTED: "bad",
    Availability.PAUSED: "warn",
    Availability.DRAINING: "quiet",
}
_QUARANTINED = "It is not what it was when it was first known. It gets no work until it is allowed."


def why(health: Health, availability: Availability, now: float) -> str:
    """Why an agent is as it is; empty where there is nothing to say."""
    match availability:
        case Availability.STALE:
            heard = health.since if health.last_seen is None else health.last_seen
            return f"Not heard of since {span(_coarse(now - heard))}."
        case Availability.EJECTED if health.on_trial:
            return "Ejected; a single call is trying it."
        case Availability.EJECTED:
            return f"Ejected after {health.failures} failures; tried again in {span(_left(health.ejected_until, now))}."
        case Availability.PAUSED:
            return f"It asked to be left alone for another {span(_left(health.paused_until, now))}."
        case Availability.TRIAL:
            return "Its ejection is over: the next call tries it."
        case Availability.UNKNOWN:
            return "Known from before; not heard of since the start."
        case Availability.DRAINING:
            return "It gets no more work until it registers again."
        case Availability.READY:
            return ""


def _left(until: float | None, now: float) -> float:
    return max(1.0, _coarse((until or now) - now + 4))


def _coarse(seconds: float) -> float:
    """In steps of five seconds, so that the page does not change with each."""
    return seconds - seconds % 5
