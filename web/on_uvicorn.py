"""Our class for connections on uvicorn: `uvicorn --factory orchestrator:create_app --http orchestrator:HttpProtocol`.

It takes and refuses the same requests as on Hypercorn, and holds the same `[limits]`. Checked with uvicorn 0.54.
"""

import asyncio
from ssl import VERIFY_CRL_CHECK_LEAF
from sys import maxsize
from typing import TYPE_CHECKING, Any, cast

from orchestrator.web.connections import Connections
from orchestrator.web.fast_exchange import Exchange
from orchestrator.web.fast_http import Connection
from orchestrator.web.identity.certificates import Certificate, certificate_of
from orchestrator.web.site import ASGI, TERMS, Terms

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

ABORT_S = 1.0
"""What is left of uvicorn's time for the end to tell clients that they were not served."""
_SITE = "orchestrator.site"
_Loop = asyncio.AbstractEventLoop | None


class UvicornSite:
    """What all connections of one server of uvicorn's have in common."""

    keep_alive_max_requests = maxsize

    def __init__(self, terms: Terms, config: "Config", server: "ServerState") -> None:
        self.root_path, self.limits, self.revoked = config.root_path, terms.limits, terms.revoked
        most = min(terms.limits.connections, config.limit_concurrency or maxsize)
        self.connections = Connections(most, terms.limits.connections_per_peer)
        self._server, self._drain, self._within = server, terms.drain, config.timeout_graceful_shutdown
        self._headers: list[tuple[bytes, bytes]] = []
        self._dated = b""

    def dated(self, now: float) -> bytes:
        """The headers of every answer as they stand in a head. uvicorn makes them anew once a second."""
        headers = self._server.default_headers
        if headers is not self._headers:
            self._headers, self._dated = headers, b"".join([b"%b: %b\r\n" % header for header in headers])
        return self._dated

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Service ends; requests have their time, as uvicorn was told, to be answered. Twice is safe."""
        if self.connections.stopping:
            return
        self.connections.stop_all()
        self._drain()
        if self._within is not None:
            # uvicorn would cancel them, and the framework would leave behind what it runs them in.
            loop.call_later(self._within - min(ABORT_S, self._within / 2), self.connections.end_all)


class HttpProtocol(Connection):
    """A connection, as uvicorn makes them and tells them of its end."""

    alpn_protocols = ["http/1.1"]  # noqa: RUF012 - as uvicorn has it
    """What its TLS offers."""
    site: UvicornSite

    def __new__(
        cls, config: "Config", server_state: "ServerState", app_state: dict[str, Any], _loop: _Loop = None
    ) -> asyncio.Protocol:
        return super().__new__(cls) if TERMS in app_state else _Misused()

    def __init__(
        self, config: "Config", server_state: "ServerState", app_state: dict[str, Any], _loop: _Loop = None
    ) -> None:
        """`app_state` is the state of the lifespan."""
        terms: Terms = app_state[TERMS]
        if _SITE not in app_state:
            app_state[_SITE] = UvicornSite(terms, config, server_state)
        app = cast("ASGI", config.loaded_app)  # pyright: ignore[reportUnknownMemberType] - it has no type there
        # What stands in front of ours, if anything does, stays there.
        app = terms.behind if app == terms.front else app
        super().__init__(app, app_state[_SITE], app_state, _loop or asyncio.get_running_loop())
        self._server = server_state

    def connection_made(self, transport: Any) -> None:
        self._server.connections.add(self)  # pyright: ignore[reportArgumentType] - uvicorn lists its own classes
        # uvicorn waits for what is among its tasks.
        task = self.loop.create_task(self.serve())
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)
        self.begin(transport, self._certificate(transport), self.site.connections.enter(transport, task))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._server.connections.discard(self)  # pyright: ignore[reportArgumentType]

    def finished(self, exchange: Exchange, *, closing: bool) -> None:
        self._server.total_requests += 1
        super().finished(exchange, closing=closing)

    def shutdown(self) -> None:
        """uvicorn ends, and tells each connection."""
        self.site.stop(self.loop)

    def _certificate(self, transport: asyncio.Transport) -> Certificate | None:
        """The client's. Where some were taken back, and uvicorn's TLS does not look for that, none counts."""
        context = transport.get_extra_info("sslcontext")
        if context is None or (self.site.revoked and not context.verify_flags & VERIFY_CRL_CHECK_LEAF):
            return None
        return certificate_of(transport.get_extra_info("peercert"))


class _Misused(asyncio.Protocol):
    """Ends connections, and says why. What goes wrong before there is a connection, event loops tell nobody."""

    def connection_made(self, transport: Any) -> None:
        transport.abort()
        raise RuntimeError("orchestrator:HttpProtocol serves orchestrator:create_app alone, with its lifespan")
