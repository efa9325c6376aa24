"""The database's clock, by which all replicas go."""

from collections.abc import Callable

import anyio

from orchestrator.storage.postgres import sql
from orchestrator.storage.postgres.connecting import Connection

EVERY_S = 60.0
_TOLERANCE_S = 0.25
_GRAIN = 16
"""Parts of a second. With so round an offset adding and taking off again is exact, for times of this century."""


class Clock:
    """How far the database's clock is ahead of ours.

    Times that replicas compare (`due_at`, `lease_until`, `deadline_at`, a key's expiry) are stored by the database's
    clock: `offset` is added when they are written or asked for, and taken off when they are read, so that each replica
    sees them by a clock of its own. The offset is measured when connecting, every minute, and when our clock was set.
    It changes only when it is off by more than a quarter of a second: clocks that are kept right have none.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.offset = 0.0
        self._measured_at: float | None = None
        self._base = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time to measure."""
        tick = anyio.current_time()
        if self._measured_at is None or tick - self._measured_at >= EVERY_S:
            return True
        return abs(self._now() - tick - self._base) > _TOLERANCE_S

    async def measure(self, connection: Connection) -> None:
        """Asks the database for its time."""
        before = self._now()
        theirs = await connection.fetchval(sql.CLOCK)
        after = self._now()
        self._measured_at = anyio.current_time()
        self._base = after - self._measured_at
        ahead = theirs - (before + after) / 2
        if abs(ahead - self.offset) > _TOLERANCE_S + abs(after - before) / 2:
            self.offset = round(ahead * _GRAIN) / _GRAIN
