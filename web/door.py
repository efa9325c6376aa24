"""The server's end of a connection, before HTTP: whether there is room for it, its TLS, and who it is with.

It takes the place of Hypercorn's TCPServer. Checked with Hypercorn 0.18.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, cast

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Closed, Event, Updated

from orchestrator.web.connections import Connections
from orchestrator.web.identity.certificates import Certificate, certificate_of, with_certificate

HANDSHAKE_S = 10.0
"""How long a client may take over its handshake."""
MOST_EARLY = 1 << 20


class Door(TCPServer):
    """One connection. It is counted from its first moment: handshakes that are never finished are bounded, too."""

    refusal: int | None = None
    """The status by which the one too many is turned away."""
    certificate: Certificate | None = None
    stopped = False
    """Nothing follows what is being answered."""
    _idle = True

    async def run(self) -> None:
        # Hypercorn hands every connection the configuration that the server was started with.
        config: Any = self.config
        self.refusal = config.connections.enter(self.writer.transport, asyncio.current_task())
        if config.tls is not None:
            # Before its handshake a client understands no answer.
            if self.refusal is not None or not await self._secured(await config.tls()):
                self.writer.transport.abort()
                return
            self.certificate = certificate_of(self.writer.get_extra_info("peercert"))
        await self.speak()

    async def speak(self) -> None:
        """HTTP, to the end of the connection."""
        connections: Connections = cast("Any", self.config).connections
        connections.serve(self)
        try:
            await super().run()
        finally:
            connections.leave(self)

    def stop(self) -> None:
        self.stopped = True
        if self._idle:
            self.writer.transport.close()

    @property
    def state_of_all(self) -> dict[str, Any]:
        """What the scope of each of its requests has as `state`."""
        return with_certificate(self.state, self.certificate, lambda: self.stopped)

    def end(self) -> None:
        """The server itself ends the requests that it hears of from Hypercorn."""

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            self._idle = event.idle
            if self._idle and self.stopped:
                event = Closed()
        await super().protocol_send(event)

    async def _secured(self, tls: Any) -> bool:
        transport, early = self.writer.transport, early_bytes(self.reader)
        if transport.is_closing():
            return False

        def hand_over() -> None:
            _feed(transport.get_protocol(), early)  # pyright: ignore[reportAttributeAccessIssue]

        try:
            await _Begun(self.writer.start_tls(tls, ssl_handshake_timeout=HANDSHAKE_S), self.loop, hand_over)
        except OSError:
            # A certificate that does not hold, an old version, or no TLS at all. ssl.SSLError is one of them.
            return False
        return True


class _Begun:
    """A coroutine, and what is to happen in the event loop right after what it began, before anything is read."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, then: Callable[[], None]
    ) -> None:
        self._coroutine, self._loop, self._then = coroutine, loop, then

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._coroutine.__await__()
        waiting = next(steps)
        self._loop.call_soon(self._then)
        try:
            yield waiting
        except BaseException as error:  # noqa: BLE001 - it goes on to where it would have been raised
            steps.throw(error)
        yield from steps


def early_bytes(reader: asyncio.StreamReader) -> bytes:
    """What was read before anybody asked for it, as uvloop does; `read` hands that over at once."""
    reading = reader.read(MOST_EARLY)
    try:
        reading.send(None)
    except StopIteration as done:
        return done.value
    reading.close()
    return b""


def _feed(protocol: Any, data: bytes) -> None:
    while data:
        buffer = protocol.get_buffer(len(data))
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        protocol.buffer_updated(size)
        data = data[size:]
