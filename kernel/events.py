"""What a supervisor reports. Errors go by the name of their class: their text may hold private data."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["clean", "cancelled"]


@dataclass(frozen=True, slots=True)
class ActorStarted:
    """It reported ready."""

    actor: str


@dataclass(frozen=True, slots=True)
class ActorFailed:
    """It raised, stalled, was not ready in time, or returned though permanent."""

    actor: str
    error: str


@dataclass(frozen=True, slots=True)
class ActorRestarting:
    """It will be started again after `delay` seconds, with its dependants if the strategy says so."""

    actor: str
    delay: float


@dataclass(frozen=True, slots=True)
class ActorStopped:
    """It ended as it was asked to, or as it may: by itself, or by cancellation."""

    actor: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class SupervisorGaveUp:
    """The tree stops because of this actor; `error` is what the supervisor's run will raise."""

    actor: str
    error: str


KernelEvent = ActorStarted | ActorFailed | ActorRestarting | ActorStopped | SupervisorGaveUp
