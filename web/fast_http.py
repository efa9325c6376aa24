"""HTTP/1.1 on httptools, in the place of a server's own: a sixth of Hypercorn's time for a request, stricter refusals.

A head is checked as a whole and read at once, a body that has arrived is handed over without a queue, an answer is one
write, one task serves all requests of a connection, and no timer is made for what has not gone wrong. `fast_door.py`
and `on_uvicorn.py` have servers hand over their connections. Checked with httptools 0.9.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import unquote

import anyio

from orchestrator.web import heads, http_rules
from orchestrator.web.asked import HEADERS, DirectHeaders
from orchestrator.web.fast_exchange import Exchange
from orchestrator.web.fast_reading import Head, Refused, read_head
from orchestrator.web.identity.certificates import Certificate, with_certificate
from orchestrator.web.site import ASGI, Site

AHEAD = 65_536
"""Bytes of a body, or of later requests, that are read before anybody wants them."""


class Connection(asyncio.Protocol):
    """One request after the other. What is sent ahead waits, and beyond a bound is not read."""

    _transport: asyncio.Transport
    _place: dict[str, Any]

    def __init__(self, app: ASGI, site: Site, state: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        """`app` answers; `state` is that of its lifespan."""
        self.app, self.site, self.loop, self.state = app, site, loop, dict(state)
        self._stopped = False
        self._buffer, self._requests = b"", 0
        # Most clients send the same head again and again: what it says was read once.
        self._head: Head | None = None
        self._text, self._said = b"", dict[str, Any]()
        self._exchange: Exchange | None = None
        self._over = False
        self._coming: asyncio.Future[None] | None = None
        self._running: anyio.CancelScope | None = None
        self._until, self._timer = 0.0, cast("asyncio.TimerHandle | None", None)
        self._lingering = self._paused = False
        self._writable: anyio.Event | None = None
        self._abort: asyncio.TimerHandle | None = None

    def begin(self, transport: asyncio.Transport, certificate: Certificate | None, refusal: int | None) -> None:
        """Takes what comes, or refuses it at once with a status. Somebody has to `serve` it."""
        self._transport = transport
        self._place = {
            "type": "http", "asgi": {"spec_version": "2.1", "version": "3.0"}, "root_path": self.site.root_path,
            "scheme": "http" if transport.get_extra_info("ssl_object") is None else "https",
            "client": _address(transport.get_extra_info("peername")),
            "server": _address(transport.get_extra_info("sockname")),
        }  # fmt: skip
        self.state = with_certificate(self.state, certificate, lambda: self._stopped)
        self.site.connections.serve(self)
        if refusal is not None:
            self._refuse(refusal)
        elif self.site.connections.stopping:
            transport.close()
        else:
            self._rest()

    async def serve(self) -> None:
        """Has the application answer one request after the other, until the connection is over, and ends it."""
        exchange = None
        try:
            # One scope for all of them: the first that it ends is the last.
            with anyio.CancelScope() as self._running:
                while not self._over:
                    exchange = self._exchange
                    if exchange is None or exchange.running:
                        await self._change()
                    else:
                        await exchange.run()
            if exchange is not None:
                await exchange.break_off(503)
            # What the client was told last is still on its way.
            while not self._over:
                await self._change()
        finally:
            self._transport.abort()

    def _change(self) -> asyncio.Future[None]:
        """Done when a request has come, or the connection is over."""
        self._coming = self.loop.create_future()
        return self._coming

    def _come(self) -> None:
        if self._coming is not None and not self._coming.done():
            self._coming.set_result(None)

    def cancel(self) -> None:
        """Ends the application's work at the present request, and with it the connection."""
        if self._running is not None:
            self._running.cancel()

    # What the event loop tells.

    def data_received(self, data: bytes) -> None:
        if self._lingering or self._transport.is_closing():
            return
        self._buffer = self._buffer + data if self._buffer else data
        self._advance()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.site.connections.leave(self)
        for timer in (self._timer, self._abort):
            if timer is not None:
                timer.cancel()
        if self._exchange is not None:
            self._exchange.leave()
        if self._writable is not None:
            self._writable.set()
        self._over = True
        self._come()

    def pause_writing(self) -> None:
        self._writable = anyio.Event()
        self._abort = self.loop.call_later(http_rules.SEND_S, self._transport.abort)

    def resume_writing(self) -> None:
        if self._writable is not None and self._abort is not None:
            self._abort.cancel()
            self._writable.set()
            self._writable = None
        self._advance()

    # What the server tells.

    def stop(self) -> None:
        self._stopped = True
        if self._exchange is None and not self._lingering:
            self._transport.close()

    def end(self) -> None:
        if self._exchange is not None:
            self._exchange.end()

    # Reading.

    def _advance(self) -> None:
        """Reads what can be used now."""
        try:
            while self._buffer and not self._lingering:
                exchange = self._exchange
                if exchange is None:
                    if self._writable is not None or not self._begin_request():
                        break
                elif exchange.whole or len(exchange.body) > AHEAD:
                    break
                else:
                    before = len(self._buffer)
                    self._buffer = exchange.feed(self._buffer)
                    if len(self._buffer) == before:
                        break
        except Refused as refused:
            self._refuse(refused.status)
        self._throttle()

    def _throttle(self) -> None:
        """Reads on, unless there is more than enough: behind a request, or behind answers that are not read."""
        exchange, ahead = self._exchange, len(self._buffer)
        if exchange is not None:
            ahead += len(exchange.body)
        paused = ahead > AHEAD and (exchange is not None or self._writable is not None)
        if paused is not self._paused and not self._transport.is_closing():
            self._paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _begin_request(self) -> bool:
        """Whether there was a whole head. Raises Refused."""
        end = self._buffer.find(b"\r\n\r\n")
        text = self._buffer if end < 0 else self._buffer[: end + 4]
        head = self._head
        if head is None or text != self._text:
            head = read_head(text, self.site.limits)
            if head is None:
                return False
            self._text, self._head, self._said = text, head, self._place | _said(head, self.site.root_path)
        self._buffer = self._buffer[end + 4 :]
        self._requests += 1
        self._exchange = Exchange(self, head, self._said)
        if self.site.connections.ending:
            self._exchange.end()
        self._come()
        return True

    def wanted(self) -> None:
        """The application has taken what there was of the body."""
        self._advance()

    # Writing.

    @property
    def last(self) -> bool:
        """Whether no request follows the present one."""
        return self._stopped or self._requests >= self.site.keep_alive_max_requests

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    async def drained(self) -> None:
        """Waits for a reader that is slow."""
        if self._writable is not None:
            await self._writable.wait()

    def finished(self, exchange: Exchange, *, closing: bool) -> None:
        """The answer is written."""
        self._exchange = None
        exchange.leave()
        # What was begun before the stop was told that its connection stays.
        if closing or self._stopped or self._transport.is_closing():
            surprised = not exchange.head.goes and not self._stopped
            self._close(linger=surprised or not exchange.whole)
        else:
            self._rest()
            if self._buffer or self._paused:
                self._advance()

    def broken(self, exchange: Exchange) -> None:
        """An answer that was begun has no end."""
        if self._exchange is exchange:
            self._transport.abort()

    def _refuse(self, status: int) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None or not exchange.begun:
            headers, body = http_rules.answer_to(status)
            self.write(heads.head(status, heads.lines(headers), self.site.dated(self.loop.time())) + body)
        if exchange is not None:
            exchange.leave()
        # Of connections beyond the bound none is kept, not even for a moment.
        self._close(linger=status not in (429, 503))

    def _close(self, *, linger: bool) -> None:
        """Where more may come that is not wanted, reads on for a moment, so that the client gets to read the answer."""
        self._buffer, self._lingering = b"", True
        if not linger or self._transport.is_closing():
            self._transport.close()
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._throttle()
        self._until = self.loop.time() + http_rules.LINGER_S
        self._wake_at(self._until)

    # Time.

    def _rest(self) -> None:
        """From now on the client has its time for a whole head."""
        self._until = self.loop.time() + self.site.limits.idle_s
        if self._timer is None:
            self._wake_at(self._until)

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(when, self._look_at_the_time)

    def _look_at_the_time(self) -> None:
        """One timer for many requests: it is set anew only when it was early."""
        self._timer = None
        if self._exchange is None and self.loop.time() >= self._until:
            self._transport.close()
        elif self._exchange is None:
            self._wake_at(self._until)


def _said(head: Head, root_path: str) -> dict[str, Any]:
    """What a head says, as ASGI has it (HTTP connection scope, 2.1)."""
    path, _, query = head.target.partition(b"?")
    decoded = path.decode("ascii")
    return {
        "http_version": head.version, "method": head.method, "path": root_path + unquote(decoded),
        "raw_path": root_path.encode() + path, "query_string": query, "headers": head.headers,
        HEADERS: DirectHeaders(head.headers),
    }  # fmt: skip


def _address(address: Any) -> tuple[str, int] | None:
    """Host and port; None for a socket file."""
    return cast("tuple[str, int]", address[:2]) if isinstance(address, tuple) else None
