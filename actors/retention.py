"""Removes what has been kept for long enough, a little at a time: each step is a transaction with its audit entry."""

from collections.abc import Sequence
from typing import Protocol

import anyio
import msgspec
from msgspec import Struct

from orchestrator.actors.committing import Committer
from orchestrator.actors.events import DataRemoved, Emit
from orchestrator.domain.audit import AuditDraft
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.retention import FIRST, Ended, Periods, due, within
from orchestrator.kernel.environment import Environment
from orchestrator.storage.commands import Noted, Remove
from orchestrator.storage.ports import LedgerReader, Unreadable

EVENT = "removed"
AGAIN_S = 60.0


class Pace(Struct, frozen=True):
    """How often everything is looked through, how much of it in a step, and the pause after one. Times are in seconds.

    A step has so many tasks with so many bytes, or so many audit entries. What it removes goes through the log of the
    database, for which a disk that is almost full must have room.
    """

    every_s: float = 3600.0
    page: int = 250
    page_bytes: int = 4 << 20
    entries: int = 500
    pause_s: float = 0.02


class Sweep(Protocol):
    """What else is removed in each pass."""

    async def sweep(self) -> None: ...


class Retention:
    """Any replica may do it: what another one has removed is not there any more, and a step that meets that is left."""

    def __init__(
        self,
        environment: Environment,
        reader: LedgerReader,
        committer: Committer,
        periods: Periods,
        pace: Pace,
        emit: Emit,
        trail: Sweep | None = None,
    ) -> None:
        """`trail` removes the beginning of the audit trail, where that is not kept for ever."""
        self._environment, self._reader, self._committer = environment, reader, committer
        self._periods, self._pace, self._emit, self._trail = periods, pace, emit, trail

    async def run(self) -> None:
        """For ever. A pass that cannot go on is begun anew a little later; whatever it removed, it removed whole."""
        while True:
            try:
                await self._pass()
            except (Unreadable, OrchestratorError):
                await anyio.sleep(min(AGAIN_S, self._pace.every_s))
            else:
                await anyio.sleep(self._pace.every_s)

    async def _pass(self) -> None:
        now = self._environment.now()
        before, after = self._periods.before(now), FIRST
        while before is not None and (more := await self._reader.ended(now, before, after, self._pace.page)):
            found = within(more, self._pace.page_bytes)
            await self._step(found, now)
            after = (found[-1].ended_at, found[-1].seq)
            await anyio.sleep(self._pace.pause_s)
        if self._trail is not None:
            await self._trail.sweep()

    async def _step(self, found: Sequence[Ended], now: float) -> None:
        command = removal(found, self._periods, now)
        if command is not None and isinstance(await self._committer.commit(command), Noted):
            self._emit(DataRemoved(len(command.payloads), len(command.results), len(command.tasks)))


def removal(found: Sequence[Ended], periods: Periods, now: float) -> Remove | None:
    """What of these tasks is to be removed, with counts for the audit and nothing else; None if nothing is."""
    judged = [(ended.task_id, due(ended, periods, now)) for ended in found]
    tasks = tuple(task_id for task_id, it in judged if it.task)
    payloads = tuple(task_id for task_id, it in judged if it.payload and not it.task)
    results = tuple(task_id for task_id, it in judged if it.result and not it.task)
    if not (tasks or payloads or results):
        return None
    counts = {"payloads": len(payloads), "results": len(results), "tasks": len(tasks)}
    audit = AuditDraft(event=EVENT, created_at=now, reason="retention", detail=msgspec.json.encode(counts).decode())
    return Remove(audit, payloads, results, tasks)
