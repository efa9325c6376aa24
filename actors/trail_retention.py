"""Removes the beginning of the audit trail once it was kept for long enough, behind an anchor that testifies to it."""

import anyio

from orchestrator.actors.committing import Committer
from orchestrator.actors.events import DataRemoved, Emit, RemovalRefused
from orchestrator.actors.retention import Pace
from orchestrator.domain.audit import rfc3339
from orchestrator.domain.retention import Periods, due_entries
from orchestrator.domain.signatory import Signatory
from orchestrator.kernel.environment import Environment
from orchestrator.storage.commands import EntriesRemoved, Failed, RemoveEntries
from orchestrator.storage.ports import LedgerReader


class TrailRetention:
    """A little at a time, each with its anchor. Where another replica is at it, it is left to that one."""

    def __init__(
        self,
        environment: Environment,
        reader: LedgerReader,
        committer: Committer,
        signatory: Signatory,
        periods: Periods,
        pace: Pace,
        emit: Emit,
    ) -> None:
        self._environment, self._reader, self._committer = environment, reader, committer
        self._signatory, self._kept_s, self._pace, self._emit = signatory, periods.audit_s, pace, emit

    async def sweep(self) -> None:
        """Removes what is due. Raises Unreadable or an OrchestratorError; then each chain begins at its last anchor."""
        before = rfc3339(self._environment.now() - self._kept_s)
        more = self._kept_s > 0
        while more:
            more = await self._step(before)
            await anyio.sleep(self._pace.pause_s)

    async def _step(self, before: str) -> bool:
        """Whether more may be due."""
        most = self._pace.entries
        # One more, since the last one of what is read stays.
        due, begins = due_entries(await self._reader.oldest(before, most + 1), before, most)
        if not due:
            return False
        anchor = self._signatory.anchor(begins, int(self._kept_s), self._environment.now())
        (outcome,) = await self._committer.commit_all([RemoveEntries(anchor)])
        if isinstance(outcome, Failed):
            self._emit(RemovalRefused(outcome.error))
        elif isinstance(outcome, EntriesRemoved):
            self._emit(DataRemoved(entries=outcome.entries))
        return isinstance(outcome, EntriesRemoved)
