"""What the server hands to each of its connections."""

import ssl
from collections.abc import Awaitable, Callable

from hypercorn.config import Config, Sockets

from orchestrator.settings import Limits
from orchestrator.web.connections import Connections
from orchestrator.web.site import ASGI

FindTLS = Callable[[], Awaitable[ssl.SSLContext]]
"""What a connection that begins now is secured with."""


class ServerConfig(Config):
    """Hypercorn's configuration, which it hands to each connection, and the connections with their limits."""

    # By Hypercorn's own list HTTP/2 would come with TLS, past all that stands in this file.
    alpn_protocols = ["http/1.1"]  # noqa: RUF012 - as Hypercorn has it
    app: ASGI
    """What is served, without what Hypercorn puts around it."""
    connections: Connections
    limits: Limits
    tls: FindTLS | None = None
    """Of our own: Hypercorn would count no connection before its handshake is done."""
    _fresh_until = 0.0
    _date = b""

    def create_sockets(self) -> Sockets:
        """Hypercorn would let child processes inherit them, which would then hold the port when we are gone."""
        sockets = super().create_sockets()
        for listener in sockets.insecure_sockets:
            listener.set_inheritable(False)
        return sockets

    def dated(self, now: float) -> bytes:
        """The header Date as it stands in a head; made anew once a second of the monotonic `now`."""
        if now >= self._fresh_until:
            self._fresh_until = now + 1.0
            self._date = b"".join(b"%b: %b\r\n" % header for header in self.response_headers("h11"))
        return self._date
