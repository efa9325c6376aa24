"""One connection to an agent: a request, then its answer (HTTP/1.1, RFC 9112), read by httptools.

Nothing is made for a call but a future. An answer that came of itself, or that is not whole when the call is over,
ends the connection: it is never taken for the answer to another task.
"""

import asyncio
from collections.abc import Mapping
from typing import cast

import httptools
from msgspec import Struct

from orchestrator.domain.discretion import discreet
from orchestrator.outbound.ports import Garbled, TimedOut

MOST_HEAD = 32_768
"""Bytes before the body of an answer, early answers with them."""
MOST_FRAMING = 8
"""Bytes that may come for each byte of the body: one-byte chunks take six."""
CUT, CLOSED = Garbled("transport_garbled"), Garbled("transport_closed")


class Answer(Struct, frozen=True):
    """What came; header names in lower case, the first of each. `body` is None where it is not read, or is too large.

    Of an answer that is not 200 the body is not read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | None = None

    __repr__ = discreet


class Exchange(asyncio.Protocol):
    """One call at a time. Needs asyncio."""

    def __init__(self, most: int) -> None:
        """`most` bounds the bytes of a body."""
        self._most, self._loop = most, asyncio.get_running_loop()
        self._waiting: asyncio.Future[Answer | Garbled | TimedOut] | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        """Stays when a call is over: to set one anew for each call costs as much as reading its answer."""
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._keep = False
        self.idle_since = 0.0
        self._forget()

    @property
    def reusable(self) -> bool:
        """Whether the last answer came whole and nothing after it, and both sides keep the connection."""
        return self._keep and self._transport is not None

    async def call(self, request: bytes, within: float) -> Answer | Garbled | TimedOut:
        """Sends the request and waits for its answer; cancelling breaks the connection, and so does the time-out."""
        if self._transport is None:
            return CLOSED
        self._forget()
        waiting = self._waiting = self._loop.create_future()
        self._until = self._loop.time() + within
        if self._timer is None or self._timer.when() > self._until:
            self._wake_at(self._until)
        try:
            self._transport.write(request)
            return await waiting
        finally:
            self._waiting = None
            if self._keep:
                self.idle_since = self._loop.time()
            else:
                self.close()

    def close(self) -> None:
        """At once. Twice is safe."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._drop_timer()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._waiting is None:
            self.close()
            return
        self._came += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break(CUT)
            return
        if not self._whole and self._came > MOST_HEAD + (self._most * MOST_FRAMING if self._in_body else 0):
            self._break(CUT)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._drop_timer()
        if exc is None and self._in_body and self._ends_with_connection:
            self._settle(Answer(self._status, self._headers, b"".join(self._body)))
        self._settle(CUT if self._in_body else CLOSED)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._whole:
            self._break(CUT)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # Trailers are nobody's business.
            self._headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._is_early:
            return
        self._in_body = True
        length = self._headers.get("content-length", "")
        self._ends_with_connection = not length and "transfer-encoding" not in self._headers
        if self._status != 200 or (length.isdecimal() and int(length) > self._most):
            self._settle(Answer(self._status, self._headers))

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._most:
            self._settle(Answer(self._status, self._headers))
            self._body.clear()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._is_early:
            self._headers = {}
            return
        self._whole, self._keep = True, self._size <= self._most and self._parser.should_keep_alive()
        self._settle(Answer(self._status, self._headers, b"".join(self._body)))

    @property
    def _is_early(self) -> bool:
        # 101 would be another protocol, which nobody asked for.
        return self._status < 200 and self._status != 101

    def _forget(self) -> None:
        """What came of the last answer."""
        self._keep = self._whole = self._in_body = self._ends_with_connection = False
        self._status = self._came = self._size = 0
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def _wake_at(self, until: float) -> None:
        self._drop_timer()
        self._timer = self._loop.call_at(until, self._look)

    def _look(self) -> None:
        """Whether the call is over its time; a later one has a later end."""
        self._timer = None
        if self._waiting is None:
            return
        if self._until <= self._loop.time():
            self._settle(TimedOut())
        else:
            self._wake_at(self._until)

    def _drop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _break(self, ending: Garbled) -> None:
        self._keep = False
        self._settle(ending)
        self.close()

    def _settle(self, ending: Answer | Garbled | TimedOut) -> None:
        """The first ending counts."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(ending)
