"""How often a caller may ask: a leaky bucket as one number a caller (GCRA, ITU-T I.371).

Purely: time comes in. The library `limits` reads the clock itself, and has a thread forget the callers.
"""

from collections import OrderedDict

from msgspec import Struct


class Rate(Struct, frozen=True):
    """So many a second in the long run, and `burst` at once after a pause. None at all is no limit."""

    per_s: float
    burst: int


class Meter:
    """Counts what each caller takes. Holds `callers` of them at most: who was silent for longest is forgotten first."""

    def __init__(self, rate: Rate, callers: int) -> None:
        self._rate, self._callers = rate, callers
        self._paid_until: OrderedDict[str, float] = OrderedDict()
        """When the bucket of each caller will be empty again."""

    def __repr__(self) -> str:
        return f"<Meter {len(self._paid_until)}/{self._callers} callers>"

    def take(self, caller: str, now: float) -> float | None:
        """Takes one for `caller` at `now` (seconds, never going back); or says in how many seconds there is one."""
        if not self._rate.per_s:
            return None
        paid_until = max(now, self._paid_until.get(caller, now)) + 1 / self._rate.per_s
        too_early = paid_until - now - self._rate.burst / self._rate.per_s
        # The millionth part of a second is the noise of the arithmetic.
        if too_early > 1e-6:
            return too_early
        self._paid_until[caller] = paid_until
        self._paid_until.move_to_end(caller)
        if len(self._paid_until) > self._callers:
            self._paid_until.popitem(last=False)
        return None
