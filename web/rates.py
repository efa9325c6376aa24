"""Each caller's share: how many requests it may make, and how many urgent tasks may be among them."""

from typing import Any

from orchestrator.domain.errors import RateLimited
from orchestrator.domain.identity import ANONYMOUS, NOBODY
from orchestrator.domain.rate import Meter, Rate
from orchestrator.domain.task import Priority, TaskRequest
from orchestrator.kernel.monotonic import clock
from orchestrator.settings import Limits
from orchestrator.web.asked import Asked
from orchestrator.web.connections import peer_of
from orchestrator.web.rights import principal_of
from orchestrator.web.watch import PATHS


class Rates:
    """Raises RateLimited before anything is read or stored."""

    def __init__(self, limits: Limits) -> None:
        self._requests = Meter(Rate(limits.requests_per_s, limits.requests_burst), limits.callers)
        self._now = clock()
        self._urgent = Meter(Rate(limits.urgent_per_s, limits.urgent_burst), limits.callers)

    def admit(self, request: Asked) -> None:
        """Counts a request, but for what watches over the box: that is answered whoever floods it."""
        if request.path not in PATHS:
            _check(self._requests.take(caller_of(request), self._now()), "requests")

    def admit_stranger(self, request: Asked) -> None:
        """Counts a request whose sender could not say who it is: who guesses keys has the share of its machine."""
        _check(self._requests.take(_machine(request), self._now()), "requests")

    def admit_task(self, request: Asked, task: TaskRequest) -> None:
        """Counts a task of it, if that is urgent."""
        if task.priority is Priority.URGENT:
            _check(self._urgent.take(caller_of(request), self._now()), "urgent tasks")


def caller_of(request: Asked) -> str:
    """Whose share it is: that of the principal; where nobody is asked who he is, of the machine at the other end."""
    principal = principal_of(request)
    return _machine(request) if principal in (ANONYMOUS, NOBODY) else f"principal {principal.subject}"


def _machine(request: Asked) -> str:
    scope: Any = request.scope
    return peer_of(scope.get("client"))


def _check(wait: float | None, what: str) -> None:
    if wait is not None:
        raise RateLimited(f"This caller sends more {what} than it may.", retry_after=wait)
