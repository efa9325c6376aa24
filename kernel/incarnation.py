"""One life of a child: from a fresh actor to its end, however it ends."""

import math
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio

from orchestrator.kernel.child import Child
from orchestrator.kernel.errors import Fatal, NotReady, Stalled, Stuck, root_cause
from orchestrator.kernel.events import Outcome
from orchestrator.kernel.inbox import Inbox, Stop
from orchestrator.kernel.monotonic import monotonic

M = TypeVar("M")


class Incarnation(Generic[M]):
    """Runs the actor in a cancel scope of its own, which is shielded: only the supervisor decides when it ends."""

    def __init__(self, child: Child[M], changed: Callable[[], None]) -> None:
        self.inbox = Inbox(child.mailbox, on_ready=changed)
        self._child = child
        self._changed = changed
        self._scope = anyio.CancelScope(shield=True)
        self._ended = anyio.Event()
        self._raised: Exception | None = None
        self._late: Exception | None = None
        self._born_at = monotonic()
        self._pending_since = math.inf

    async def run(self) -> None:
        """Start the actor and run it to its end. Its errors do not leave here; see `error`."""
        try:
            with self._scope:
                await self._child.start().run(self.inbox)
        except Exception as error:  # noqa: BLE001 - judging all of them is what a supervisor is for
            self._raised = root_cause(error)
        finally:
            self.inbox.abandon()
            self._ended.set()
            self._changed()

    @property
    def ended(self) -> bool:
        """Whether the actor has ended."""
        return self._ended.is_set()

    @property
    def overdue(self) -> bool:
        """Whether `check` has found it late: it must be ended."""
        return self._late is not None

    @property
    def error(self) -> Exception | None:
        """Why it failed. That it was overdue counts more than what it raised when cancelled for it, unless `Fatal`."""
        return self._raised if isinstance(self._raised, Fatal) else self._late or self._raised

    def check(self, now: float) -> None:
        """Note that it is late: not ready in time, or work has been pending for too long without progress."""
        if self.ended or self.overdue:
            return
        self._pending_since = min(self._pending_since, now) if self.inbox.pending else math.inf
        if not self.inbox.is_ready:
            if now - self._born_at >= self._child.start_within:
                self._late = NotReady(self._child.name)
        elif now - max(self._pending_since, self.inbox.progressed_at) >= self._child.stall_after:
            self._late = Stalled(self._child.name)
        if self.overdue:
            self._changed()

    async def end(self, stop: Stop, within: float) -> Outcome:
        """Ask it to stop, cancel it after `within` seconds (0: at once), and join it.

        An actor that is still there `stop_within` seconds after it was cancelled has the error `Stuck`. When this is
        cancelled, the actor has been asked to stop, no more.
        """
        self.inbox.stop(stop)
        if self.ended or (within > 0 and await self._joined(within)):
            return "clean"
        self._scope.cancel()
        if not await self._joined(self._child.stop_within):
            self._raised = Stuck(self._child.name)
        return "cancelled"

    async def _joined(self, within: float) -> bool:
        with anyio.move_on_after(within):
            await self._ended.wait()
        return self.ended
