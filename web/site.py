"""What a server hands to each of its connections, and what an application tells a server that can hear it."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from msgspec import Struct

from orchestrator.settings import Limits
from orchestrator.web.connections import Connections

ASGI = Callable[[Any, Any, Any], Awaitable[None]]

TERMS = "orchestrator.terms"
"""Where the application leaves its `Terms` in the state of its lifespan, which the server has the dictionary of."""


AT_ONCE = "orchestrator.at_once"
"""Where in a scope our own server leaves what takes in one call what others take in pieces: an `AtOnce`."""


class AtOnce(Protocol):
    """A request whose body may be there already, and whose answer is known as a whole.

    Its `receive` and `send` are those of ASGI. Who is called with others is not alone with the server.
    """

    async def receive(self) -> Any:
        """The next message."""
        ...

    async def send(self, message: Any) -> None:
        """A part of the answer."""
        ...

    def take(self) -> bytes | None:
        """The whole body, once; None where not all of it is there, and it has to be received."""
        ...

    def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """Answers with these lines in the head, its length among them. Raises ConnectionResetError as `send` does."""
        ...


class Terms(Struct, frozen=True):
    """What holds for those who connect, and what ends their waiting: streams and long-polls see `drain` at once.

    `revoked`: whether there is a list of certificates that were taken back. `behind` answers connections for `front`,
    the application that the server was given: whoever serves that alone need not go through it.
    """

    limits: Limits
    revoked: bool
    drain: Callable[[], None]
    front: ASGI
    behind: ASGI


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
