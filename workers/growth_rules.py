"""When growth needs a second look (monitor) or a specialist (refer). A demonstration, not a medical device.

The lines of the UK-WHO charts are two thirds of an SDS apart, a "centile space": 0.4th, 2nd, 9th, 25th, 50th, 75th,
91st, 98th, 99.6th (T. Cole, BMJ 308, 1994). The thresholds:

- refer: the latest is below the 0.4th centile (SDS < -2.67) or above the 99.6th (SDS > 2.67).
- refer: weight fell by 2 centile spaces (1.33 SDS) or more; by 1 if it began below the 9th centile, by 3 if it began
  above the 91st (NICE guideline NG75, 1.2.1, which goes by the birth weight; here by the earliest one compared).
- refer: height, head circumference or BMI moved by 2 centile spaces or more, either way (the same measure, by analogy).
- monitor: the latest is below the 2nd centile (SDS < -2) or above the 98th (SDS > 2).
- monitor: any kind moved by 1 centile space (0.67 SDS) or more, either way.

Each kind is judged for itself. A move is from the highest or lowest earlier measurement to the latest one. Those of the
first two weeks are placed, not compared: newborns lose weight and gain it back (NG75, 1.1.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.workers.growth_reference import Placed

LEVELS = ("none", "monitor", "refer")

SPACE = 2 / 3
CENTILE_2, CENTILE_98 = -2.0, 2.0
CENTILE_9, CENTILE_91 = -2 * SPACE, 2 * SPACE
CENTILE_0_4, CENTILE_99_6 = -4 * SPACE, 4 * SPACE
COMPARED_FROM = 14 / 365.25
"""Years of age from which measurements are compared."""
SHORTEST_SPAN = 28 / 365.25
"""Years; over less, a change per year is only the error of measuring."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a level was reached: a stable code and a sentence."""

    level: str
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Trend:
    """How one kind of measurement went: the latest one, its moves since the extremes before it, and the yearly rate.

    `start` is the SDS of the first one compared. `fall` and `rise`, in SDS, are 0 or more. `per_year` is in SDS per
    year from the first to the latest, None if they are less than 28 days apart.
    """

    kind: str
    latest: Placed
    start: float
    fall: float
    rise: float
    per_year: float | None


def trend(placed: Sequence[Placed]) -> Trend:
    """The trend of one kind's measurements, which are by date and at least one."""
    latest = placed[-1]
    compared = [one for one in placed if one.age >= COMPARED_FROM] or [latest]
    first, earlier = compared[0], [one.sds for one in compared]
    years = latest.age - first.age
    return Trend(
        kind=latest.measurement.kind,
        latest=latest,
        start=first.sds,
        fall=max(earlier) - latest.sds,
        rise=latest.sds - min(earlier),
        per_year=(latest.sds - first.sds) / years if years >= SHORTEST_SPAN else None,
    )


def judge(trend: Trend) -> list[Reason]:
    """Every threshold that `trend` is beyond, the gravest first: one for its place, one for a fall, one for a rise."""
    moves = (_by_move(trend, falls=True), _by_move(trend, falls=False))
    found = [reason for reason in (_by_place(trend), *moves) if reason]
    return sorted(found, key=lambda reason: -LEVELS.index(reason.level))


def worst(reasons: Sequence[Reason]) -> str:
    """The gravest level among `reasons`; none if there are none."""
    return max((reason.level for reason in reasons), key=LEVELS.index, default="none")


def _by_place(trend: Trend) -> Reason | None:
    sds, kind = trend.latest.sds, trend.kind
    if sds < CENTILE_0_4:
        return Reason("refer", "below_0_4th", f"{kind} is below the 0.4th centile")
    if sds > CENTILE_99_6:
        return Reason("refer", "above_99_6th", f"{kind} is above the 99.6th centile")
    if sds < CENTILE_2:
        return Reason("monitor", "below_2nd", f"{kind} is below the 2nd centile")
    if sds > CENTILE_98:
        return Reason("monitor", "above_98th", f"{kind} is above the 98th centile")
    return None


def _by_move(trend: Trend, *, falls: bool) -> Reason | None:
    move, direction, code = (trend.fall, "fell", "fall") if falls else (trend.rise, "rose", "rise")
    spaces = int(move / SPACE)
    if spaces < 1:
        return None
    level = "refer" if spaces >= _spaces_to_refer(trend, falls) else "monitor"
    return Reason(level, code, f"{trend.kind} {direction} across {spaces} centile space{'s' if spaces > 1 else ''}")


def _spaces_to_refer(trend: Trend, falls: bool) -> float:
    if trend.kind != "weight":
        return 2
    if not falls:
        return float("inf")  # weight gained is judged by the BMI
    if trend.start < CENTILE_9:
        return 1
    return 3 if trend.start > CENTILE_91 else 2
