"""Reading the ledger, and what it means that it cannot be read."""

from collections.abc import Awaitable
from typing import TypeVar

from orchestrator.domain.errors import AuditUnavailable
from orchestrator.storage.ports import Unreadable

R = TypeVar("R")


async def read(reading: Awaitable[R]) -> R:
    """What `reading` gives. Raises AuditUnavailable while the ledger is away: no reason for an actor to fail."""
    try:
        return await reading
    except Unreadable:
        raise AuditUnavailable("The ledger cannot be read.", retry_after=1) from None
