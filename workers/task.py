"""What a handler is given and what it may raise."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from orchestrator.workers.reports import Reports, Said


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt at one task. `deadline` is in seconds since the epoch, None without one.

    A handler may see the same task again, as another attempt: what it changes outside, it keys by `task_id`.
    The repr shows ids only, so that a payload never slips into a log.
    """

    task_id: str
    case_id: str = field(repr=False)
    task_type: str
    payload: Mapping[str, Any] = field(repr=False)
    meta: Mapping[str, Any] = field(repr=False)
    attempt: int = 1
    deadline: float | None = None
    lease: str | None = field(default=None, repr=False)
    """What a pull agent shows for it; None where the agent was called."""
    lease_s: float = 0.0
    reports: Reports = field(default_factory=Reports, repr=False, compare=False)

    def progress(self, share: float | None = None, note: str | None = None) -> Said:
        """Tells how far it is: `share` from 0 to 1, `note` of up to 200 characters, seen by whoever follows the task.

        `await task.progress(0.4, "reading")`; from a plain function, which runs in a thread, without `await`.
        """
        return self.reports.say(share, note)

    def time_left(self) -> float:
        """Seconds until the deadline: negative once it passed, infinite without one."""
        return inf if self.deadline is None else self.deadline - time.time()


Handler = Callable[[Task], Awaitable[Mapping[str, Any]] | Mapping[str, Any]]
"""A coroutine function, or a plain one, which is run in a thread. What it returns goes back as JSON."""


class AgentError(Exception):
    """The task failed, and `retryable` says whether another attempt may do better.

    The message goes to the orchestrator, which stores it with the attempt: it names fields and causes, never values.
    """

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable


class Permanent(AgentError):
    """No attempt, here or elsewhere, will do better: the input is wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)


class Retryable(AgentError):
    """Something beside the input went wrong: another attempt may do better."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)
