"""What a server hands to each of its connections, and what an application tells a server that can hear it."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from msgspec import Struct

from orchestrator.settings import Limits
from orchestrator.web.connections import Connections

ASGI = Callable[[Any, Any, Any], Awaitable[None]]

TERMS = "orchestrator.terms"
"""Where the application leaves its `Terms` in the state of its lifespan, which the server has the dictionary of."""


class Terms(Struct, frozen=True):
    """What holds for those who connect, and what ends their waiting: streams and long-polls see `drain` at once.

    `revoked`: whether there is a list of certificates that were taken back.
    """

    limits: Limits
    revoked: bool
    drain: Callable[[], None]


class Site(Protocol):
    """What all connections of a server have in common."""

    connections: Connections
    limits: Limits
    keep_alive_max_requests: int

    @property
    def root_path(self) -> str:
        """What stands before every path, as ASGI has it."""
        ...

    def dated(self, now: float) -> bytes:
        """The headers of every answer as they stand in a head, Date among them; `now` is of the monotonic clock."""
        ...
