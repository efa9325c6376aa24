"""HTTP/1.1 on httptools, in the place of Hypercorn's own: a sixth of its time for each request, with stricter refusals.

A head is checked as a whole and read at once, a body that has arrived is handed over without a queue, an answer is one
write, and no task or timer is made for what has not gone wrong. Checked with Hypercorn 0.18 and httptools 0.9.
"""

import asyncio
from typing import Any, cast
from urllib.parse import unquote

import anyio

from orchestrator.web import http_rules
from orchestrator.web.asked import ARRIVED
from orchestrator.web.door import Door, early_bytes
from orchestrator.web.fast_reading import Chunked, Counted, Head, Refused, read_head
from orchestrator.web.faults import log_fault
from orchestrator.web.identity.certificates import STATE
from orchestrator.web.server_config import ServerConfig

AHEAD = 65_536
"""Bytes of a body, or of later requests, that are read before anybody wants them."""
_GONE = {"type": "http.disconnect"}


class FastDoor(Door):
    """A connection that is taken over from Hypercorn's streams."""

    async def speak(self) -> None:
        transport: Any = self.writer.transport
        connection = Connection(self, transport)
        transport.set_protocol(connection)
        try:
            connection.begin(early_bytes(self.reader))
            if self.reader.at_eof():
                transport.close()
            await connection.over.wait()
        finally:
            transport.abort()


class Connection(asyncio.Protocol):
    """One request after the other. What is sent ahead waits, and beyond a bound is not read."""

    def __init__(self, door: Door, transport: asyncio.Transport) -> None:
        self.over = anyio.Event()
        # Hypercorn hands every connection the configuration that the server was started with.
        self.config = cast("ServerConfig", door.config)
        self.loop, self._door, self._transport = door.loop, door, transport
        self._peers = (_address(transport.get_extra_info("peername")), _address(transport.get_extra_info("sockname")))
        self._scheme = "http" if transport.get_extra_info("ssl_object") is None else "https"
        self._state = {**door.state, STATE: door.certificate}
        self._buffer, self._requests = b"", 0
        # Most clients send the same head again and again: what it says was read once.
        self._read: tuple[bytes, Head | None] = (b"", None)
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._until, self._timer = 0.0, cast("asyncio.TimerHandle | None", None)
        self._lingering = self._paused = self._stopped = False
        self._writable: anyio.Event | None = None
        self._abort: asyncio.TimerHandle | None = None

    def begin(self, early: bytes) -> None:
        """Serves, beginning with what was read already."""
        self.config.connections.serve(self)
        if self._door.refusal is not None:
            self._refuse(self._door.refusal)
        elif self.config.connections.stopping:
            self._transport.close()
        else:
            self._rest()
            if early:
                self.data_received(early)

    # What the event loop tells.

    def data_received(self, data: bytes) -> None:
        if self._lingering or self._transport.is_closing():
            return
        self._buffer = self._buffer + data if self._buffer else data
        self._advance()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.config.connections.leave(self)
        for timer in (self._timer, self._abort):
            if timer is not None:
                timer.cancel()
        if self._exchange is not None:
            self._exchange.leave()
        if self._writable is not None:
            self._writable.set()
        self.over.set()

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
                    data, self._buffer = exchange.framing.take(self._buffer)
                    exchange.feed(data)
                    if len(self._buffer) == before:
                        break
        except Refused as refused:
            self._refuse(refused.status)
        self._throttle()

    def _throttle(self) -> None:
        """Reads on, unless there is more than enough."""
        paused = self._exchange is not None and len(self._buffer) + len(self._exchange.body) > AHEAD
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
        if text != self._read[0]:
            head = read_head(text, self.config.limits)
            if head is None:
                return False
            self._read = (text, head)
        head = cast("Head", self._read[1])
        self._buffer = self._buffer[end + 4 :]
        self._requests += 1
        self._exchange = exchange = Exchange(self, head)
        if self.config.connections.ending:
            exchange.end()
        # Its own task, as every server has one for each request: it is held here, and ends with the answer.
        self._task = self.loop.create_task(exchange.run(self.scope(head, exchange)))
        return True

    def scope(self, head: Head, exchange: "Exchange") -> dict[str, Any]:
        """The request as ASGI has it (HTTP connection scope, 2.1)."""
        path, _, query = head.target.partition(b"?")
        decoded = path.decode("ascii")
        return {
            "type": "http", "asgi": {"spec_version": "2.1", "version": "3.0"}, "http_version": head.version,
            "method": head.method, "scheme": self._scheme, "path": unquote(decoded) if "%" in decoded else decoded,
            "raw_path": path, "query_string": query, "root_path": "", "headers": list(head.headers),
            "client": self._peers[0], "server": self._peers[1], "state": self._state.copy(),
            "extensions": {ARRIVED: exchange.arrived},
        }  # fmt: skip

    def wanted(self) -> None:
        """The application has taken what there was of the body."""
        self._advance()

    # Writing.

    @property
    def last(self) -> bool:
        """Whether no request follows the present one."""
        return self._stopped or self._requests >= self.config.keep_alive_max_requests

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    async def drained(self) -> None:
        """Waits for a reader that is slow."""
        if self._writable is not None:
            await self._writable.wait()

    def finished(self, exchange: "Exchange", *, closing: bool) -> None:
        """The answer is written."""
        self._exchange = None
        exchange.leave()
        # What was begun before the stop was told that its connection stays.
        if closing or self._stopped or self._transport.is_closing():
            surprised = not exchange.goes and not self._stopped
            self._close(linger=surprised or not exchange.whole)
        else:
            self._rest()
            self._advance()

    def broken(self, exchange: "Exchange") -> None:
        """An answer that was begun has no end."""
        if self._exchange is exchange:
            self._transport.abort()

    def _refuse(self, status: int) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None or not exchange.begun:
            headers, body = http_rules.answer_to(status)
            self.write(http_rules.head(status, headers, self.config.dated(self.loop.time())) + body)
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
        self._until = self.loop.time() + self.config.limits.idle_s
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


class Exchange:
    """One request and its answer, as the application has them (ASGI 3.0)."""

    def __init__(self, connection: Connection, head: Head) -> None:
        self._connection, self._method, self._old = connection, head.method, head.version == "1.0"
        self.framing = Chunked() if head.length is None else Counted(head.length)
        self._expects, self._keeps, self.goes = head.expects, head.keeps, head.goes
        self.body, self.whole = b"", self.framing.done
        self._told = self._ended = self._left = self.begun = self._chunked = False
        self._waiting: asyncio.Future[None] | None = None
        self._running: anyio.CancelScope | None = None
        self._start: Any = None

    async def run(self, scope: dict[str, Any]) -> None:
        """Has the application answer. Of what it does wrong the client hears only that."""
        try:
            with anyio.CancelScope() as self._running:
                await self._connection.config.app(scope, self.receive, self.send)
        except ConnectionResetError:
            self._connection.broken(self)
        except Exception as error:  # noqa: BLE001 - of the framework's faults, too
            log_fault(error)
            await self._break_off(500)
        else:
            await self._break_off(503)

    def feed(self, data: bytes) -> None:
        """More of the body."""
        self.body = self.body + data if self.body else data
        self.whole = self.framing.done
        self._wake()

    def leave(self) -> None:
        """The client is gone, or has all it gets."""
        self._left = True
        self._wake()

    def end(self) -> None:
        """The application is to see its client leave; one that does not look is cancelled. The client is told why."""
        self._ended = True
        if self._waiting is None and self._running is not None:
            self._running.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def arrived(self) -> bool:
        """Whether `receive` would return at once."""
        return self._left or self._ended or bool(self.body) or (self.whole and not self._told)

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

    def _begin(self, body: bytes, *, more: bool) -> bytes:
        """The head, with the first of the body."""
        status, headers = self._start["status"], list(self._start["headers"])
        names = {name.lower(): value for name, value in headers}
        if status >= 200 and status not in (204, 304) and b"content-length" not in names:
            if not more:
                headers.append((b"content-length", b"%d" % len(body)))
            elif self._old:
                self._keeps = False
            else:
                self._chunked = True
                headers.append((b"transfer-encoding", b"chunked"))
        said = names.get(b"connection", b"").lower() == b"close"
        if said or self._connection.last or not self.whole:
            self._keeps = False
        if not self._keeps and not said:
            headers.append((b"connection", b"close"))
        written = http_rules.head(status, headers, self._connection.config.dated(self._connection.loop.time()))
        self.begun = True
        return written + self._framed(body, more=more)

    def _framed(self, body: bytes, *, more: bool) -> bytes:
        if self._method == "HEAD" or self._start["status"] in (204, 304):
            return b""
        if not self._chunked:
            return body
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return chunk if more else chunk + b"0\r\n\r\n"

    async def _break_off(self, status: int) -> None:
        """A client that is still there, and was told nothing yet, is told this."""
        if self._left:
            return
        if self.begun:
            self._connection.broken(self)
            return
        headers, body = http_rules.broken_off(status)
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _address(address: Any) -> tuple[str, int] | None:
    """Host and port; None for a socket file."""
    return cast("tuple[str, int]", address[:2]) if isinstance(address, tuple) else None
