"""What a ledger is asked about what is kept in it for too long."""

from typing import Protocol

from orchestrator.domain.retention import Ended


class RetentionReader(Protocol):
    """The part of a ledger's reader that looks for what is due to be removed."""

    async def ended(self, now: float, before: float, after: tuple[float, int], limit: int) -> list[Ended]:
        """Tasks that ended before `before` and after the place `after`, in the order in which they ended.

        A page costs what `limit` tasks cost, however many there are. Keys that are over at `now` do not count.
        """
        ...
