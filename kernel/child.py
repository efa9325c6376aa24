"""What a supervisor is told about a child, and what it tells about it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Generic, TypeVar

from orchestrator.kernel.actor import Actor
from orchestrator.kernel.mailbox import Mailbox

# Covariant, so that a list of children of all types is a Sequence[Child[object]] in which each is checked on its own.
M_co = TypeVar("M_co", covariant=True)


class Restart(Enum):
    """Which ends are failures: all (permanent), or only a crash (transient, which may finish)."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"


@dataclass(frozen=True, slots=True)
class Child(Generic[M_co]):
    """One line of the tree. Times are in seconds.

    `start` makes a fresh actor for each incarnation. An actor that waits for another is not stalled as long as the
    deadline of its `ask` is below `stall_after`.
    """

    name: str
    mailbox: Mailbox[M_co]
    start: Callable[[], Actor[M_co]]
    restart: Restart = Restart.PERMANENT
    stop_within: float = 5.0
    start_within: float = 10.0
    stall_after: float = 10.0


class State(StrEnum):
    """Where a child is. A finished child was transient and returned: it is not started again."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """A child as operators see it. `restarts` counts all later incarnations, whosever fault they were."""

    name: str
    state: State
    restarts: int
    depth: int
    capacity: int
    peak: int
    last_error: str | None
