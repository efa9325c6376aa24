"""The ends of attempts, written together: those of one turn of the event loop are one request to the ledger."""

from collections.abc import Callable, Sequence
from math import inf

from anyio.abc import TaskGroup
from msgspec import Struct

from orchestrator.actors.committing import Committer
from orchestrator.actors.crew import Crew
from orchestrator.actors.messages import Heard, RegistryMessage, Report
from orchestrator.kernel.ref import Ref
from orchestrator.kernel.reply import Reply
from orchestrator.storage.commands import Transition


class Unwritten(Struct, frozen=True):
    """What an attempt that reached its agent makes of its task, and what it tells of the agent."""

    transition: Transition
    heard: Heard


class Endings:
    """Keeps an end for as long as the ledger cannot be written; then the registry hears of it, and the slot is free."""

    def __init__(
        self,
        group: TaskGroup,
        owner: str,
        committer: Committer,
        registry: Ref[RegistryMessage],
        written: Callable[[int], None],
    ) -> None:
        """`written` hears of how many are done with. What is not written when `group` is cancelled is a lost lease."""
        self._owner, self._committer, self._registry, self._written = owner, committer, registry, written
        self._waiting: list[Unwritten] = []
        self._crew = Crew(group, self._write)

    def add(self, ended: Unwritten) -> None:
        """To be written with what else comes before the caller's turn is over. Never waits."""
        self._waiting.append(ended)
        if len(self._waiting) == 1:
            self._crew.give(self._waiting)

    def dismiss(self) -> None:
        """No more comes soon; see `Crew.dismiss`."""
        self._crew.dismiss()

    async def _write(self, endings: Sequence[Unwritten]) -> None:
        self._waiting = []
        await self._committer.persist([ended.transition for ended in endings], inf)
        # Nothing that follows depends on it.
        self._registry.tell(Report(Reply(), self._owner, [ended.heard for ended in endings]))
        self._written(len(endings))
