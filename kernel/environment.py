"""Wall clock, chance and entropy, handed in: a run can be replayed from a seed."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from orchestrator.kernel.clock import Clock


@dataclass(frozen=True, slots=True)
class Environment:
    """All that is not determined by the messages. Monotonic time is the event loop's, and not in here."""

    now: Callable[[], float]
    """The wall clock, in seconds since the epoch. It may jump."""

    random: Random
    """For jitter and choices, never for secrets."""

    entropy: Callable[[int], bytes]
    """So many bytes that nobody can guess."""

    monotonic: Callable[[], float] = time.monotonic
    """What paces the wall clock where the machine's has gone back."""

    behind: Callable[[], float] = lambda: 0.0
    """By how many seconds the machine's clock is known to be behind."""

    @classmethod
    def real(cls) -> "Environment":
        """The machine's own."""
        return cls(now=time.time, random=Random(), entropy=os.urandom)

    def floored(self) -> "tuple[Environment, Clock]":
        """The same, with a wall clock that never goes back, and that clock."""
        clock = Clock(self.now, self.monotonic)
        return replace(self, now=clock.now, behind=clock.behind), clock

    def token(self, nbytes: int = 16) -> str:
        """A fresh name, as hex digits, two for each byte."""
        return self.entropy(nbytes).hex()
