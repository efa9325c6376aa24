"""The sending side of a mailbox: all that one actor may know of another."""

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from orchestrator.kernel.deadlines import Deadlines
from orchestrator.kernel.reply import Reply

M_contra = TypeVar("M_contra", contravariant=True)
R = TypeVar("R")


class Ref(Generic[M_contra]):
    """Posts messages to an actor. It stays valid across the actor's restarts."""

    __slots__ = ("_deadlines", "_post", "name")

    def __init__(self, name: str, post: Callable[[M_contra], None], deadlines: Deadlines) -> None:
        self.name = name
        self._post, self._deadlines = post, deadlines

    def tell(self, message: M_contra) -> None:
        """Post a message without waiting. Raises `NotDelivered` when the mailbox is full or closed."""
        self._post(message)

    def ask(self, make: Callable[[Reply[R]], M_contra], within: float) -> Coroutine[Any, Any, R]:
        """Post the request that `make` builds around a reply slot; awaited, it waits `within` seconds for the answer.

        `await router.ask(partial(RouteTask, task=task), within=5.0)`; a lambda does too, where the type of the answer
        is declared: `outcome: Outcome = await router.ask(lambda reply: RouteTask(reply, task), within=5.0)`.

        Raises `NotDelivered` at once, `ActorCrashed` when the actor ends with the request in hand, `AskTimeout`, and
        what the actor gave to `Reply.fail`. After a timeout, or a cancellation once it is posted, the request still
        completes; only its answer goes nowhere.
        """
        reply: Reply[R] = Reply()
        self._post(make(reply))
        return self._deadlines.wait(reply, within)

    def __repr__(self) -> str:
        return f"<Ref {self.name}>"
