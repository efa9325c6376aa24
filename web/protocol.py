"""HTTP/1.1 as Hypercorn speaks it, with bounds that it does not have, and refusals that are problem documents.

It has no setting for its protocol class, so its module is given this one. Checked with Hypercorn 0.18.
"""

import asyncio
from typing import Any, cast

import anyio
import h11
from hypercorn import protocol
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import ConnectionState

from orchestrator.web import http_rules
from orchestrator.web.door import Door
from orchestrator.web.server_config import ServerConfig
from orchestrator.web.strict_h11 import StrictConnection


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
        self.connection_state = ConnectionState({**self.connection_state, **server.state_of_all})
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
        with anyio.move_on_after(http_rules.SEND_S) as scope:
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
        with anyio.move_on_after(http_rules.LINGER_S):
            if asyncio.current_task() is self._reading:
                while await self._reader.read(65_536):
                    pass
            else:
                await self._client_done.wait()

    async def _check_protocol(self, event: h11.Request) -> None:
        """An offer of h2c is not taken up, as RFC 9110 §7.8 allows."""

    async def _create_stream(self, request: h11.Request) -> None:
        self._method = request.method
        headers = list(request.headers)
        limits = self._server_config.limits
        status = http_rules.refusal(request.method, request.target, request.http_version, headers, limits)
        if status is None:
            await super()._create_stream(_not_upgraded(request))
        else:
            await self._refuse(status)

    async def _refuse(self, status: int) -> None:
        await self._send_error_response(status)
        await self.send(Closed())

    async def _send_error_response(self, status_code: int) -> None:
        # Of connections beyond the bound none is kept, not even for a moment.
        self._refused = status_code not in (429, 503)
        own, body = http_rules.answer_to(status_code)
        headers = [*own, *self.config.response_headers("h11")]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        if self._method != b"HEAD":
            await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


def _not_upgraded(request: h11.Request) -> h11.Request:
    """The request without its offer to speak something else, which Hypercorn would take up for a WebSocket."""
    if all(name != b"upgrade" for name, _ in request.headers):
        return request
    headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
    return h11.Request(method=request.method, target=request.target, headers=headers, http_version=request.http_version)


def install() -> None:
    """Has Hypercorn use this class for its connections. Twice is safe."""
    protocol.H11Protocol = BoundedH11Protocol  # pyright: ignore[reportPrivateImportUsage]
