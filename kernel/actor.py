"""What an actor is: one coroutine that reads an inbox."""

from typing import Protocol, TypeVar

from orchestrator.kernel.inbox import Inbox

M_contra = TypeVar("M_contra", contravariant=True)


class Actor(Protocol[M_contra]):
    """A fresh object for each incarnation; what must survive a crash is not kept in it."""

    async def run(self, inbox: Inbox[M_contra]) -> None:
        """Acquire what is needed, call `inbox.ready()`, handle messages until the inbox ends, release, return.

        Raising is a crash. A cancellation may come at any await; clean-up that awaits is shielded and has a deadline
        below the child's `stop_within`.
        """
        ...
