"""What the kernel raises. Names of actors only: what an actor raised, or was told, may hold private data."""

from typing import cast


class KernelError(Exception):
    """The base of all of them."""


class NotDelivered(KernelError):
    """The mailbox is full or closed: nobody has handled the message, and nobody will."""

    def __init__(self, mailbox: str, why: str) -> None:
        super().__init__(f"{mailbox} is {why}")
        self.mailbox = mailbox
        self.why = why


class ActorCrashed(KernelError):
    """The actor ended before it answered: whether the request took effect is unknown."""

    def __init__(self, actor: str) -> None:
        super().__init__(f"{actor} ended before it answered")
        self.actor = actor


class AskTimeout(KernelError):
    """No answer came in time. The request is still being handled, or will be."""

    def __init__(self, actor: str, within: float) -> None:
        super().__init__(f"{actor} did not answer within {within} s")
        self.actor = actor
        self.within = within


class NotReady(KernelError):
    """An actor did not report ready in time."""


class Stalled(KernelError):
    """An actor had work pending and made no progress."""


class Returned(KernelError):
    """A permanent actor returned without being asked to."""


class RestartsExhausted(KernelError):
    """A child failed too often: restarting does not help any more."""

    def __init__(self, child: str, restarts: int) -> None:
        super().__init__(f"{child} failed again after {restarts} restarts")
        self.child = child
        self.restarts = restarts


class Fatal(KernelError):
    """Raise a subclass in an actor when no restart can help: the whole tree stops, and `Supervisor.run` raises it."""


class Stuck(Fatal):
    """An actor did not end though it was cancelled: a second one beside it would be worse than none."""


def root_cause(error: Exception) -> Exception:
    """The error that counts: a `Fatal` wherever it is in a group, else what is in a group of one, else `error`."""
    if not isinstance(error, ExceptionGroup):
        return error
    group = cast("ExceptionGroup[Exception]", error)
    fatal = group.subgroup(Fatal)
    first, *others = (fatal or group).exceptions
    return group if others and fatal is None else root_cause(first)
