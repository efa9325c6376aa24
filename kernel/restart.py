"""Whether and when a child that failed is started again. Pure: time and chance come as arguments."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Intensity:
    """The failure that is number `restarts` within `period` seconds is not answered by a restart any more."""

    restarts: int = 3
    period: float = 30.0

    def recent(self, failures: Sequence[float]) -> list[float]:
        """Those of `failures` (times, in order) that are in the same period as the last."""
        return [at for at in failures if failures[-1] - at <= self.period]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential with full jitter: anything from nothing to `base` seconds, then twice that each time, up to `cap`."""

    base: float = 0.1
    cap: float = 5.0

    def delay(self, attempt: int, random: Random) -> float:
        """Seconds to wait before restart number `attempt`, counted from 1."""
        # 2**64 seconds is beyond any cap, and floats end at 2**1024.
        return random.uniform(0.0, min(self.cap, self.base * 2.0 ** min(attempt - 1, 64)))


def delay_before_restart(
    failures: Sequence[float], intensity: Intensity, backoff: Backoff, random: Random
) -> float | None:
    """Seconds to wait after the last of `failures` (times, in order, at least one); None to give up."""
    recent = len(intensity.recent(failures))
    return None if recent >= intensity.restarts else backoff.delay(recent, random)
