"""What is counted by label, and how long things took: numbers of ours, which Prometheus' library collects."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import inf

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.history import Buckets

MOST = 1_000
"""Series of one metric. Labels come from closed sets; should one ever not, there is still an end to its series."""
OTHER = "other"


class Counters(Collector):
    """Counts by label, on one event loop: to have the library lock and count each costs ten times as much."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._counts: defaultdict[tuple[str, ...], float] = defaultdict(float)
        registry.register(self)

    def add(self, *labels: str, count: float = 1) -> None:
        """So many more with these labels; beyond MOST series a new one is counted as OTHER."""
        if labels not in self._counts and len(self._counts) >= MOST:
            labels = (OTHER,) * len(labels)
        self._counts[labels] += count

    def collect(self) -> Iterable[Metric]:
        """All of them, for the library."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, count in self._counts.items():
            family.add_metric(labels, count)
        yield family


class Durations(Collector):
    """A histogram of seconds, on one event loop: one that locks costs as much as the decision that it counts."""

    def __init__(self, name: str, text: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._text = name, text
        self._bounds: Sequence[float] = (*bounds, inf)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float, count: int = 1) -> None:
        """One more that took so long, or several that did."""
        self._counts[bisect_left(self._bounds, seconds)] += count
        self._sum += seconds * count

    @property
    def buckets(self) -> Buckets:
        """How many took no longer than each bound, since the start."""
        return dict(zip(self._bounds, accumulate(self._counts), strict=True))

    def collect(self) -> Iterable[Metric]:
        """All of them, for the library."""
        named = [("+Inf" if bound == inf else str(float(bound)), count) for bound, count in self.buckets.items()]
        family = HistogramMetricFamily(self._name, self._text)
        family.add_metric([], named, self._sum)
        yield family
