"""A wall clock that never goes back, however the machine's may: what was over stays over."""

from collections.abc import Callable

PACE = 0.9
"""How fast time goes while the machine's clock is behind, so that a small correction is caught up with in the end."""

MOST_BEHIND_S = 60.0
"""With a machine's clock that is known to be behind by more, nobody can tell what is over."""


class Clock:
    """The machine's time; where that would be earlier than before, time goes on from where it was, a little slower."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._latest, self._at = float("-inf"), 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        at, wall = self._monotonic(), self._wall()
        paced = self._latest + (at - self._at) * PACE
        self._latest, self._at = wall if wall > paced else paced, at
        return self._latest

    def not_before(self, instant: float) -> None:
        """It is known to be at least that late."""
        self._latest = max(self.now(), instant)

    def behind(self) -> float:
        """By how many seconds the machine's clock is behind what is known."""
        return max(0.0, self.now() - self._wall())
