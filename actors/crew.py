"""Tasks that stay when what they did is done. To hand the next thing to one costs a fifth of what a new task does."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from anyio.abc import TaskGroup

from orchestrator.kernel.reply import Expired, Reply
from orchestrator.kernel.signal import signals

T = TypeVar("T")


class Crew(Generic[T]):
    """As many as there ever were things to do at once; they belong to `group`, and end once they are dismissed.

    To be made in the event loop that they belong to.
    """

    def __init__(self, group: TaskGroup, work: Callable[[T], Awaitable[None]]) -> None:
        self._group, self._work = group, work
        self._idle: list[Reply[T]] = []
        self._signal = signals()
        self._dismissed = False

    def give(self, thing: T) -> None:
        """Have `work(thing)` done by somebody, beginning when the caller next waits."""
        if self._idle:
            self._idle.pop().send(thing)
        else:
            self._group.start_soon(self._serve, thing)

    def dismiss(self) -> None:
        """Who has nothing to do ends now, the others when they are done; what is given after that is done, too."""
        self._dismissed = True
        while self._idle:
            self._idle.pop().expire()

    async def _serve(self, thing: T) -> None:
        while True:
            await self._work(thing)
            if self._dismissed:
                return
            place: Reply[T] = Reply()
            self._idle.append(place)
            try:
                thing = await place.wait(self._signal)
            except Expired:
                return
