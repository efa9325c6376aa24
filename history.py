"""The last hour as samples in memory, for people who look: a ring, and what two of its samples say together."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from orchestrator.domain.health import smoothed

HOUR_S = 3_600.0
EVERY_S = 10.0
"""Between two samples."""
KEPT = 361
"""An hour of them, and where it began."""
SHARE_EVERY = 30
"""After so many samples the agents' work is counted anew; an hour is twelve such counts."""
MOST_AGENTS = 10_000

Buckets = Mapping[float, float]
"""A cumulative histogram: how many values are not above each bound, in the order of the bounds."""


class Point(Struct, frozen=True):
    """What was true at `at` (seconds since the epoch). What only grows is counted since the start of the process."""

    at: float
    ready: Mapping[str, int]
    oldest: Mapping[str, float]
    accepted: float = 0
    succeeded: float = 0
    dead: float = 0
    failures: float = 0
    retries: float = 0
    refused: float = 0
    acceptance: Buckets = {}
    waiting: Buckets = {}
    calls: Buckets = {}


class History:
    """Bounded: an hour of points, and of what each agent did in it."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=KEPT)
        self._latencies: dict[str, float] = {}
        self._work: deque[Counter[str]] = deque([Counter()], maxlen=KEPT // SHARE_EVERY)
        self._taken = 0

    @property
    def points(self) -> Sequence[Point]:
        """The oldest first."""
        return self._points

    def due(self, at: float) -> bool:
        """Whether it is time for the next. A clock that was set back does not stop them."""
        return not self._points or not 0 <= at - self._points[-1].at < EVERY_S

    def add(self, point: Point) -> None:
        """The newest: what a clock that was set back has yet to come to is forgotten, so that time goes one way."""
        while self._points and self._points[-1].at >= point.at:
            self._points.pop()
        self._points.append(point)
        self._taken += 1
        if self._taken % SHARE_EVERY == 0:
            self._work.append(Counter())

    def worked(self, agent_id: str) -> None:
        """An attempt of the agent ended."""
        current = self._work[-1]
        if agent_id in current or len(current) < MOST_AGENTS:
            current[agent_id] += 1

    def pulled(self, agent_id: str, seconds: float) -> None:
        """An agent that had asked for a task did it in so many seconds."""
        if agent_id in self._latencies or len(self._latencies) < MOST_AGENTS:
            self._latencies[agent_id] = smoothed(self._latencies.get(agent_id), seconds)

    @property
    def latencies(self) -> Mapping[str, float]:
        """Of the agents that ask for work, how long they take: averages as the registry has them of those it calls."""
        return self._latencies

    def work(self) -> Mapping[str, int]:
        """How many attempts each agent ended in the last hour."""
        return sum(self._work, Counter[str]())


def since(points: Sequence[Point], seconds: float) -> Point | None:
    """The sample from which on `seconds` are told, or the first one where there are not so many."""
    if not points:
        return None
    begin = points[-1].at - seconds
    return next((point for point in points if point.at >= begin), points[-1])


def quantile(before: Buckets, after: Buckets, share: float) -> float | None:
    """The value that the `share` of those between two samples are not above, linear within its bucket.

    None where there were no values. What lies beyond the last bound counts as that.
    """
    counts = [(bound, count - before.get(bound, 0)) for bound, count in after.items()]
    if not counts or counts[-1][1] <= 0:
        return None
    wanted = share * counts[-1][1]
    for (below, seen), (bound, count) in pairwise([(0.0, 0.0), *counts]):
        if count >= wanted and count > seen:
            if bound == float("inf"):
                return below
            return below + (bound - below) * (wanted - seen) / (count - seen)
    return None
