"""Wall clock, chance and entropy, handed in: a run can be replayed from a seed."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Environment:
    """All that is not determined by the messages. Monotonic time is `anyio.current_time()` and not in here."""

    now: Callable[[], float]
    """The wall clock, in seconds since the epoch. It may jump."""

    random: Random
    """For jitter and choices, never for secrets."""

    entropy: Callable[[int], bytes]
    """So many bytes that nobody can guess."""

    @classmethod
    def real(cls) -> "Environment":
        """The machine's own."""
        return cls(now=time.time, random=Random(), entropy=os.urandom)

    def token(self, nbytes: int = 16) -> str:
        """A fresh name, as hex digits, two for each byte."""
        return self.entropy(nbytes).hex()
