"""Testifies to the audit trail: a signed checkpoint after so many entries, or so much time in which there were any."""

import anyio
from msgspec import Struct

from orchestrator.actors.committing import Committer
from orchestrator.actors.events import CheckpointSigned, Emit
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.signatory import Signatory
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.watch import Watch
from orchestrator.storage.commands import Note, Noted
from orchestrator.storage.ports import LedgerReader, Unreadable

AGAIN_AFTER_S = 1.0
LAST_S = 2.0


class Intervals(Struct, frozen=True):
    """After how many entries of this process, and after how many seconds with any, a checkpoint is due."""

    entries: int = 256
    seconds: float = 60.0


class Notary:
    """Each checkpoint names the heads of all writers, so that one replica testifies to the others' chains as well.

    Its place is told, and so logged: where logs are kept on another machine, that is a receipt of all before it.
    """

    def __init__(
        self,
        environment: Environment,
        reader: LedgerReader,
        committer: Committer,
        written: Watch[int],
        signatory: Signatory,
        intervals: Intervals,
        emit: Emit,
    ) -> None:
        self._environment, self._reader, self._committer = environment, reader, committer
        self._written, self._signatory, self._intervals, self._emit = written, signatory, intervals, emit
        # As if there were something new: whatever a process before this one left without a signature.
        self._signed_at = written.value - 1

    async def run(self, inbox: Inbox[object]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._follow)
            inbox.ready()
            await inbox.wait_stopping()
            group.cancel_scope.cancel()
        if self._is_news:
            # It stops after all but the writer: nothing of an orderly end is left without a signature.
            with anyio.move_on_after(LAST_S):
                await self._sign()

    @property
    def _is_news(self) -> bool:
        return self._written.value > self._signed_at

    async def _follow(self) -> None:
        while True:
            await self._until_due()
            signed = False
            while not signed:
                signed = await self._sign()
                if not signed:
                    await anyio.sleep(AGAIN_AFTER_S)

    async def _until_due(self) -> None:
        while not self._is_news:
            await self._written.changed()
        with anyio.move_on_after(self._intervals.seconds):
            while self._written.value - self._signed_at < self._intervals.entries:
                await self._written.changed()

    async def _sign(self) -> bool:
        """Whether it could be written. What is written meanwhile counts for the next one."""
        signed_at = self._written.value
        try:
            heads = await self._reader.audit_heads()
            if not heads:
                self._signed_at = signed_at
                return True
            outcome = await self._committer.commit(Note(self._signatory.checkpoint(heads, self._environment.now())))
        except (Unreadable, OrchestratorError):
            return False
        # The checkpoint's own entry is no news.
        self._signed_at = signed_at + 1
        if isinstance(outcome, Noted) and outcome.receipt is not None:
            self._emit(CheckpointSigned(outcome.receipt))
        return True
