"""One request and its answer as the application has them, on a connection of `fast_http.py`."""

import asyncio
from typing import TYPE_CHECKING, Any

from orchestrator.web import heads, http_rules
from orchestrator.web.fast_reading import Chunked, Counted, Head
from orchestrator.web.faults import log_fault
from orchestrator.web.site import AT_ONCE

if TYPE_CHECKING:
    from orchestrator.web.fast_http import Connection

_GONE = {"type": "http.disconnect"}


class Exchange:
    """One request and its answer, as the application has them (ASGI 3.0)."""

    body = b""
    """What of the body has come, and nobody has taken yet."""
    begun = running = False
    _told = _ended = _left = _chunked = False
    _waiting: asyncio.Future[None] | None = None
    _start: Any = None

    def __init__(self, connection: "Connection", head: Head, said: dict[str, Any]) -> None:
        """`said` is what the connection and the head have in the scope of ASGI."""
        self._connection, self.head, self._said = connection, head, said
        self._framing = Chunked() if head.length is None else Counted(head.length)
        self._expects, self._keeps, self.whole = head.expects, head.keeps, self._framing.done

    async def run(self) -> None:
        """Has the application answer. Of what it does wrong the client hears only that."""
        self.running = True
        scope = self._said.copy()
        scope["state"], scope[AT_ONCE] = self._connection.state.copy(), self
        try:
            await self._connection.app(scope, self.receive, self.send)
        except ConnectionResetError:
            self._connection.broken(self)
        except Exception as error:  # noqa: BLE001 - of the framework's faults, too
            log_fault(error)
            await self.break_off(500)
        else:
            if not self._left:
                await self.break_off(503)

    def feed(self, data: bytes) -> bytes:
        """Takes what of that belongs to the body, and gives back the rest. Raises Refused."""
        piece, rest = self._framing.take(data)
        self.body = self.body + piece if self.body else piece
        self.whole = self._framing.done
        self._wake()
        return rest

    def leave(self) -> None:
        """The client is gone, or has all it gets."""
        self._left = True
        self._wake()

    def end(self) -> None:
        """The application is to see its client leave; one that does not look is cancelled. The client is told why."""
        self._ended = True
        if self.running and self._waiting is None:
            self._connection.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def take(self) -> bytes | None:
        """What nobody has had of the body yet, if the end of it is there."""
        if not self.whole or self._told or self._left or self._ended:
            return None
        body, self.body, self._told = self.body, b"", True
        return body

    async def receive(self) -> dict[str, Any]:
        """The next piece of the body, or that the client is gone."""
        while True:
            if self._left or self._ended:
                return _GONE
            if self.body or (self.whole and not self._told):
                body, self.body, self._told = self.body, b"", self.whole
                if not self.whole:
                    self._connection.wanted()
                return {"type": "http.request", "body": body, "more_body": not self._told}
            if self._expects and not self.whole:
                self._expects = False
                self._connection.write(b"HTTP/1.1 100 \r\n\r\n")
            self._waiting = self._connection.loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None

    async def send(self, message: Any) -> None:
        """A part of the answer. Raises ConnectionResetError where nobody can be told any more (ASGI 3.0, 2.4)."""
        if self._left:
            raise ConnectionResetError
        if message["type"] == "http.response.start":
            self._start = message
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        data = self._framed(body, more=more) if self.begun else self._begin(body, more=more)
        if data:
            self._connection.write(data)
        if more:
            await self._connection.drained()
        else:
            self._connection.finished(self, closing=not self._keeps)

    def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """The whole answer, whose length is among the lines of its head. Raises as `send` does."""
        if self._left:
            raise ConnectionResetError
        head = self._head(status, lines)
        self._connection.write(head + body if self._has_body(status) else head)
        self._connection.finished(self, closing=not self._keeps)

    def _begin(self, body: bytes, *, more: bool) -> bytes:
        """The head, with the first of the body."""
        status, headers = self._start["status"], list(self._start["headers"])
        said = counted = False
        for name, value in headers:
            match name.lower():
                case b"content-length":
                    counted = True
                case b"connection":
                    said = value.lower() == b"close"
                case _:
                    pass
        if not counted and status >= 200 and status not in (204, 304):
            if not more:
                headers.append((b"content-length", b"%d" % len(body)))
            elif self.head.version == "1.0":
                self._keeps = False
            else:
                self._chunked = True
                headers.append((b"transfer-encoding", b"chunked"))
        return self._head(status, heads.lines(headers), said=said) + self._framed(body, more=more)

    def _head(self, status: int, lines: bytes, *, said: bool = False) -> bytes:
        """The head, with what becomes of the connection, unless that was `said`."""
        if said or self._connection.last or not self.whole:
            self._keeps = False
        if not self._keeps and not said:
            lines += b"connection: close\r\n"
        self.begun = True
        return heads.head(status, lines, self._connection.site.dated(self._connection.loop.time()))

    def _has_body(self, status: int) -> bool:
        return self.head.method != "HEAD" and status not in (204, 304)

    def _framed(self, body: bytes, *, more: bool) -> bytes:
        if not self._has_body(self._start["status"]):
            return b""
        if not self._chunked:
            return body
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return chunk if more else chunk + b"0\r\n\r\n"

    async def break_off(self, status: int) -> None:
        """A client that is still there, and was told nothing yet, is told this."""
        if self._left:
            return
        if self.begun:
            self._connection.broken(self)
            return
        headers, body = http_rules.broken_off(status)
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
