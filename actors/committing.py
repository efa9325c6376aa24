"""Sending a command to the audit writer, and what its silence means to a caller."""

from collections.abc import Sequence
from functools import partial

import anyio

from orchestrator.actors.messages import Commit
from orchestrator.domain.errors import AuditUnavailable, Overloaded
from orchestrator.kernel.errors import ActorCrashed, AskTimeout, NotDelivered
from orchestrator.kernel.monotonic import monotonic
from orchestrator.kernel.ref import Ref
from orchestrator.storage.commands import Command, Failed, Outcome, Transition

AGAIN_AFTER_S = 0.2


class Committer:
    """The writer as the other actors see it."""

    def __init__(self, writer: Ref[Commit], within: float) -> None:
        """`within` bounds the wait for each commit, in seconds."""
        self._writer, self._within = writer, within

    async def commit(self, command: Command) -> Outcome:
        """Applies `command`. Raises what `commit_all` raises, and AuditUnavailable if the ledger does not take it."""
        (outcome,) = await self.commit_all([command])
        if isinstance(outcome, Failed):
            raise AuditUnavailable("The ledger did not take this request; nothing was stored.")
        return outcome

    async def commit_all(self, commands: Sequence[Command]) -> list[Outcome]:
        """Applies `commands` in one transaction, each for itself; one that the ledger does not take comes to Failed.

        Raises Overloaded if the writer has too much to do, AuditUnavailable if it cannot write. After a time-out or a
        crash of the writer the commands may still take effect: AuditUnavailable does not deny it.
        """
        try:
            return await self._writer.ask(partial(Commit, commands=commands), within=self._within)
        except NotDelivered:
            raise Overloaded("The ledger has too much to write.", retry_after=1) from None
        except (ActorCrashed, AskTimeout):
            detail = "The ledger did not confirm in time. The same request under the same key is safe to repeat."
            raise AuditUnavailable(detail, retry_after=1) from None

    async def persist(self, transitions: Sequence[Transition], until: float) -> list[Outcome]:
        """Applies `transitions` for as long as it takes, up to the monotonic time `until`; each comes to what it does.

        Empty when even then they were not. Failed is what the ledger does not take though it can be written.
        """
        while True:
            try:
                return await self.commit_all(transitions)
            except (Overloaded, AuditUnavailable):
                if monotonic() + AGAIN_AFTER_S >= until:
                    return []
            await anyio.sleep(AGAIN_AFTER_S)
