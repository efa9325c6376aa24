"""What a ledger is asked about what is kept in it for too long."""

from typing import Protocol

from orchestrator.domain.retention import Begin, Ended, Entry


class RetentionReader(Protocol):
    """The part of a ledger's reader that looks for what is due to be removed."""

    async def ended(self, now: float, before: float, after: tuple[float, int], limit: int) -> list[Ended]:
        """Tasks that ended before `before` and after the place `after`, in the order in which they ended.

        A page costs what `limit` tasks cost, however many there are. Keys that are over at `now` do not count.
        """
        ...

    async def oldest(self, before: str, limit: int) -> list[Entry]:
        """The `limit` oldest entries of each chain that are there, chain by chain in the order of `seq`.

        `before` is in the form of an entry's `created_at`; it decides which of them are held.
        """
        ...

    async def begins(self) -> list[Begin]:
        """Where each chain begins that does not begin with its first entry any more."""
        ...
