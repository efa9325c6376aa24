"""The end of service: from then on nothing new begins, and calls in flight have until one common deadline."""

from collections.abc import Awaitable, Callable
from math import inf

import anyio

from orchestrator.kernel.monotonic import monotonic

GRACE_S = 0.2


class Drain:
    """Begun once, by SIGTERM or by whoever embeds us; shared by all that dispatch."""

    def __init__(self, within: float) -> None:
        """`within` is how many seconds calls in flight may take once it has begun."""
        self._within = within
        self.begun = False
        self._begin = anyio.Event()
        self._deadline = inf
        self._scopes: set[anyio.CancelScope] = set()

    def begin(self) -> None:
        """Twice is safe; the first time counts."""
        if not self.begun:
            self._deadline = monotonic() + self._within
            for scope in self._scopes:
                scope.deadline = self._deadline
            self.begun = True
            self._begin.set()

    async def wait(self) -> None:
        """Waits until it has begun."""
        await self._begin.wait()

    async def bounded(self, calls: Callable[[], Awaitable[None]]) -> None:
        """Awaits `calls()`, which is cancelled at the deadline, whether the drain begins before it or during it."""
        with anyio.CancelScope(deadline=self._deadline) as scope:
            self._scopes.add(scope)
            try:
                await calls()
            finally:
                self._scopes.discard(scope)

    def hurry(self, scope: anyio.CancelScope) -> None:
        """For an actor that is to stop: without a drain, something has failed, and calls in `scope` have a moment."""
        if not self.begun:
            scope.deadline = monotonic() + GRACE_S
