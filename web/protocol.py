"""HTTP/1.1 as Hypercorn speaks it, with bounds that it does not have, and refusals that are problem documents.

It has no setting for its protocol class, so its module is given this one. Checked with Hypercorn 0.18.
"""

import asyncio
import ssl
from typing import Any, cast

import anyio
import h11
from hypercorn import protocol
from hypercorn.asyncio import run
from hypercorn.config import Config, Sockets
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import ConnectionState

from orchestrator.domain.errors import Overloaded
from orchestrator.settings import Limits
from orchestrator.web.connections import Connections
from orchestrator.web.door import Door
from orchestrator.web.identity.certificates import STATE
from orchestrator.web.problems import CONTENT_TYPE, http_document
from orchestrator.web.strict_h11 import StrictConnection

METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"})
"""In these letters: Hypercorn would make capitals of any, and what follows a body that was too long looks like one."""
SEND_S = 30.0
"""How long a client may take to read so much of its answer that the next piece fits into the buffers."""
LINGER_S = 2.0
"""How long a body that was refused is still read, and thrown away: a reset would take the answer with it."""


class ServerConfig(Config):
    """Hypercorn's configuration, which it hands to each connection, and the connections with their limits."""

    # By Hypercorn's own list HTTP/2 would come with TLS, past all that stands in this file.
    alpn_protocols = ["http/1.1"]  # noqa: RUF012 - as Hypercorn has it
    connections: Connections
    limits: Limits
    tls: ssl.SSLContext | None = None
    """Of our own: Hypercorn would count no connection before its handshake is done."""

    def create_sockets(self) -> Sockets:
        """Hypercorn would let child processes inherit them, which would then hold the port when we are gone."""
        sockets = super().create_sockets()
        for listener in sockets.insecure_sockets:
            listener.set_inheritable(False)
        return sockets


class BoundedH11Protocol(H11Protocol):
    """One connection. No answer waits for its reader for ever, headers have their bounds, nothing is upgraded."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # Hypercorn hands every connection the configuration that the server was started with.
        self._server_config = cast("ServerConfig", self.config)
        self.connection = StrictConnection(self._server_config.limits.header_bytes)
        self._pass_on = self.send
        self.send = self._send_in_time
        # `send` is a method of the server's end of the connection, and the only way from here to it.
        server: Door = getattr(self._pass_on, "__self__")  # noqa: B009 - to the type checker it is any callable
        # A copy for this connection: Hypercorn hands the same to all of them.
        self.connection_state = ConnectionState({**self.connection_state, STATE: server.certificate})
        self._refusal = server.refusal
        self._reader: asyncio.StreamReader = server.reader
        self._writer: asyncio.StreamWriter = server.writer
        self._reading: asyncio.Task[Any] | None = None
        self._method = b""
        self._client_done = anyio.Event()
        self._lingering = self._refused = False

    async def initiate(self) -> None:
        self._reading = asyncio.current_task()
        if self._refusal is not None:
            await self._refuse(self._refusal)

    async def handle(self, event: Event) -> None:
        if self._lingering and isinstance(event, RawData):
            return
        await super().handle(event)
        if isinstance(event, Closed):
            self._client_done.set()
            # Hypercorn would keep what a client has left until its idle time is over.
            await self.send(Closed())

    async def _send_in_time(self, event: Event) -> None:
        if isinstance(event, Closed):
            await self._linger()
        with anyio.move_on_after(SEND_S) as scope:
            await self._pass_on(event)
        if scope.cancel_called:
            self._writer.transport.abort()

    async def _linger(self) -> None:
        """Where a body was not wanted, reads on for a moment, so that the client gets to read why."""
        unread = self._refused or self.connection.their_state in (h11.SEND_BODY, h11.ERROR)
        if not unread or self._lingering or self._client_done.is_set() or self._writer.is_closing():
            return
        self._lingering = True
        if self._writer.can_write_eof():
            self._writer.write_eof()
        with anyio.move_on_after(LINGER_S):
            if asyncio.current_task() is self._reading:
                while await self._reader.read(65_536):
                    pass
            else:
                await self._client_done.wait()

    async def _check_protocol(self, event: h11.Request) -> None:
        """An offer of h2c is not taken up, as RFC 9110 §7.8 allows."""

    async def _create_stream(self, request: h11.Request) -> None:
        self._method = request.method
        status = refusal(request, self._server_config.limits)
        if status is None:
            await super()._create_stream(_not_upgraded(request))
        else:
            await self._refuse(status)

    async def _refuse(self, status: int) -> None:
        await self._send_error_response(status)
        await self.send(Closed())

    async def _send_error_response(self, status_code: int) -> None:
        full = status_code in (429, 503)
        # Of connections beyond the bound none is kept, not even for a moment.
        self._refused = not full
        body = http_document(status_code, Overloaded.code if status_code == 503 else None)
        headers: list[Any] = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *([(b"retry-after", b"1")] if full else []),
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        if self._method != b"HEAD":
            await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


def refusal(request: h11.Request, limits: Limits) -> int | None:
    """The status with which a request is refused that h11 lets through, if it is."""
    names = [name for name, _ in request.headers]
    size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)
    if request.http_version not in (b"1.0", b"1.1"):
        return 505
    if request.method not in METHODS:
        return 400
    if len(request.target) > limits.target_bytes:
        return 414
    if len(names) > limits.headers or size > limits.header_bytes:
        return 431
    # Which of two lengths counts, and whether a reader of HTTP/1.0 knows of chunks, differs from reader to reader.
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
        return 400
    return None if request.target.startswith((b"/", b"*", b"http://", b"https://")) else 400


def _not_upgraded(request: h11.Request) -> h11.Request:
    """The request without its offer to speak something else, which Hypercorn would take up for a WebSocket."""
    if all(name != b"upgrade" for name, _ in request.headers):
        return request
    headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
    return h11.Request(method=request.method, target=request.target, headers=headers, http_version=request.http_version)


def install() -> None:
    """Has Hypercorn use our classes for its connections. Twice is safe."""
    run.TCPServer = Door  # pyright: ignore[reportPrivateImportUsage]
    protocol.H11Protocol = BoundedH11Protocol  # pyright: ignore[reportPrivateImportUsage]
