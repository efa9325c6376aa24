"""How work goes: what waits, what is in hand, what was done lately. A pure look at the samples of the last hour."""

from collections.abc import Sequence

from msgspec import Struct

from orchestrator.domain.task import Priority
from orchestrator.history import HOUR_S, Buckets, Point, quantile, since

LATELY_S = 300.0


class Line(Struct, frozen=True):
    """A class of the queue, and the most of it in the last hour; ages in seconds."""

    priority: str
    ready: int
    oldest_s: float
    most_ready: int
    most_oldest_s: float


class Latency(Struct, frozen=True):
    """The median and two higher percentiles, in seconds; None where there was nothing."""

    of: str
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


class Totals(Struct, frozen=True):
    """What this process did in the last hour, or since it started."""

    succeeded: int
    failures: int
    retries: int
    dead: int
    refused: int


class Flow(Struct, frozen=True):
    """How work goes. Rates and latencies are of the last five minutes, of this process."""

    ready: int
    oldest_s: float
    in_flight: int
    accepted_per_min: float
    succeeded_per_min: float
    queues: list[Line]
    latencies: list[Latency]
    last_hour: Totals


def flow(points: Sequence[Point], now: Point, in_flight: int) -> Flow:
    """What the samples of the last hour say, `now` being the newest; `in_flight` is what agents have in hand."""
    every = [*points, now]
    lately, hour = since(every, LATELY_S) or now, since(every, HOUR_S) or now
    minutes = max(1.0, (now.at - lately.at) / 60)
    return Flow(
        ready=sum(now.ready.values()),
        oldest_s=max(now.oldest.values(), default=0.0),
        in_flight=in_flight,
        accepted_per_min=(now.accepted - lately.accepted) / minutes,
        succeeded_per_min=(now.succeeded - lately.succeeded) / minutes,
        queues=[_line(priority.value, every) for priority in Priority],
        latencies=[
            _latency("acceptance", lately.acceptance, now.acceptance),
            _latency("wait for an agent", lately.waiting, now.waiting),
            _latency("call", lately.calls, now.calls),
        ],
        last_hour=Totals(
            succeeded=int(now.succeeded - hour.succeeded),
            failures=int(now.failures - hour.failures),
            retries=int(now.retries - hour.retries),
            dead=int(now.dead - hour.dead),
            refused=int(now.refused - hour.refused),
        ),
    )


def _line(name: str, points: Sequence[Point]) -> Line:
    ready, oldest = [p.ready.get(name, 0) for p in points], [p.oldest.get(name, 0.0) for p in points]
    return Line(name, ready[-1], oldest[-1], max(ready), max(oldest))


def _latency(of: str, before: Buckets, after: Buckets) -> Latency:
    p50, p95, p99 = (quantile(before, after, share) for share in (0.5, 0.95, 0.99))
    return Latency(of, p50, p95, p99)
