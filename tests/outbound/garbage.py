"""Agents that answer garbage: what they do on their socket, and how a call to each has to end."""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio

from orchestrator.outbound.ports import Busy, Ending, Garbled, Succeeded, TimedOut

LARGEST = 65_536
"""Bytes of an answer that are read."""
TASK = "task-" + "0" * 32
GOOD = b'{"success": true, "output": 1}'
Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def an_agent(behave: Behave) -> AsyncGenerator[str]:
    """An agent on a socket; `behave` is called once the head of a request has come."""

    serving: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await behave(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            serving.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)


@asynccontextmanager
async def a_closed_port() -> AsyncGenerator[str]:
    """An address where nobody listens, and nobody else can."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@asynccontextmanager
async def a_silent_host() -> AsyncGenerator[str]:
    """An address that swallows every packet."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(8)]
        try:
            for one in waiting:  # They fill the queue of connections that nobody accepts; then SYNs are dropped.
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            yield f"http://127.0.0.1:{port}"
        finally:
            for one in waiting:
                one.close()


async def a_request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    await reader.readexactly(length)


def an_answer(body: bytes, *headers: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def says(*parts: bytes, then_wait: bool = False, reset: bool = False) -> Behave:
    """Sends these bytes, whatever is asked; then closes, waits for the client to leave, or resets."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
        if then_wait:
            await reader.read()
        if reset:
            writer.transport.abort()

    return behave


async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Goes on for ever, in chunks."""
    await a_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        await writer.drain()


async def trickles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A good answer, a byte now and then."""
    await a_request(reader)
    for byte in an_answer(GOOD):
        writer.write(bytes([byte]))
        await writer.drain()
        with suppress(TimeoutError), anyio.fail_after(0.05):
            if await reader.read() == b"":
                return


def nested(depth: int) -> bytes:
    return b'{"success": true, "output": ' + b"[" * depth + b"]" * depth + b"}"


def filled(size: int) -> bytes:
    """A good answer of so many bytes."""
    return b'{"success": true, "output": "' + b"a" * (size - EMPTY) + b'"}'


EMPTY = len(b'{"success": true, "output": ""}')


def chunked(body: bytes) -> bytes:
    """The body in one chunk."""
    return CHUNKED + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"


BOMB = gzip.compress(b'{"success": true, "output": "' + b"a" * 50_000_000 + b'"}')
CUT, CLOSED = Garbled("transport_garbled"), Garbled("transport_closed")
ABSURD = str(10**12)
TODAY = "Fri, 01 Jan 2027 00:00:00 GMT"
KIND = b"Content-Type: application/json"
CHUNKED = b"HTTP/1.1 200 OK\r\n" + KIND + b"\r\nTransfer-Encoding: chunked\r\n\r\n"

CLASSES: dict[str, tuple[Behave, Ending | tuple[Ending, ...]]] = {
    "never answers": (says(then_wait=True), TimedOut()),
    "a byte now and then": (trickles, TimedOut()),
    "half a head, then silence": (says(b"HTTP/1.1 200 O", then_wait=True), TimedOut()),
    "half a body, then silence": (says(an_answer(GOOD)[:-5], then_wait=True), TimedOut()),
    "closes without a word": (says(), CLOSED),
    "half a head, then the end": (says(b"HTTP/1.1 200 O"), (CLOSED, CUT)),
    "half a body, then the end": (says(an_answer(GOOD)[:-5]), CUT),
    "half a body, then a reset": (says(an_answer(GOOD)[:-5], reset=True), (CUT, CLOSED)),
    "half a chunk, then the end": (
        says(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"),
        CUT,
    ),
    "another protocol": (says(b"SSH-2.0-OpenSSH_9.2\r\n"), (CUT, CLOSED)),
    "rubbish": (says(bytes(range(256)) * 4), (CUT, CLOSED)),
    "a head of a megabyte": (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**20), (CUT, CLOSED)),
    "ten thousand headers": (says(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 10_000 + b"\r\n"), (CUT, CLOSED, Garbled("not_json"))),
    "both framings": (says(an_answer(GOOD, "Transfer-Encoding: chunked")), (CUT, CLOSED)),
    "two lengths": (says(an_answer(GOOD, "Content-Length: 7")), (CUT, CLOSED)),
    "HTML": (says(an_answer(b"<html>ok</html>", kind="text/html")), Garbled("not_json")),
    "JSON as text": (says(an_answer(GOOD, kind="text/plain")), Garbled("not_json")),
    "no type": (says(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n" + GOOD), Garbled("not_json")),
    "words for JSON": (says(an_answer(b"all is well")), Garbled("not_json")),
    "nothing for JSON": (says(an_answer(b"")), Garbled("not_json")),
    "UTF-16": (says(an_answer(GOOD.decode().encode("utf-16"))), Garbled("not_json")),
    "NaN": (says(an_answer(b'{"success": true, "output": NaN}')), Garbled("not_json")),
    "a duplicate key": (says(an_answer(b'{"success": false, "success": true, "output": 1}')), Garbled("not_json")),
    "33 levels": (says(an_answer(nested(32))), Garbled("not_json")),
    "30,000 levels": (says(an_answer(nested(30_000))), Garbled("not_json")),
    "2,000 keys": (says(an_answer(json.dumps({str(n): n for n in range(2_000)}).encode())), Garbled("not_json")),
    "a list": (says(an_answer(b"[]")), Garbled("not_an_object")),
    "no success": (says(an_answer(b'{"output": 1}')), Garbled("no_success")),
    "success as text": (says(an_answer(b'{"success": "true", "output": 1}')), Garbled("no_success")),
    "no output": (says(an_answer(b'{"success": true}')), Garbled("no_output")),
    "a body of the bound": (says(an_answer(filled(LARGEST))), Succeeded("a" * (LARGEST - EMPTY))),
    "a byte beyond the bound": (says(an_answer(filled(LARGEST + 1))), Garbled("too_large")),
    "chunks of the bound": (says(chunked(filled(LARGEST))), Succeeded("a" * (LARGEST - EMPTY))),
    "chunks of a byte more": (says(chunked(filled(LARGEST + 1))), Garbled("too_large")),
    "ten gigabytes announced": (
        says(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10000000000\r\n\r\n{", then_wait=True),
        Garbled("too_large"),
    ),
    "chunks without end": (floods, Garbled("too_large")),
    "a bomb, declared": (says(an_answer(BOMB, "Content-Encoding: gzip")), Garbled("not_json")),
    "a bomb, not declared": (says(an_answer(BOMB)), (Garbled("not_json"), Garbled("too_large"))),
    "an unknown encoding": (says(an_answer(GOOD, "Content-Encoding: aes128gcm")), Garbled("not_json")),
    "a redirect to a metadata service": (
        says(an_answer(GOOD, "Location: http://169.254.169.254/latest", status="307 Temporary Redirect")),
        Garbled("status_307"),
    ),
    "see other": (says(an_answer(GOOD, "Location: /call", status="303 See Other")), Garbled("status_303")),
    "created": (says(an_answer(GOOD, status="201 Created")), Garbled("status_201")),
    "an error": (says(an_answer(GOOD, status="500 Internal Server Error")), Garbled("status_500")),
    "a status of 999": (says(an_answer(GOOD, status="999 Odd")), Garbled("status_999")),
    "a status of four digits": (says(an_answer(GOOD, status="2000 OK")), (CUT, CLOSED)),
    "switching protocols": (says(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"), (Garbled("status_101"), CLOSED)),
    "early answers without end": (says(*[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 1_000, then_wait=True), (TimedOut(), CLOSED, CUT)),
    "early hints, then an answer": (says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + an_answer(GOOD)), Succeeded(1)),
    "an answer up to the end": (says(b"HTTP/1.1 200 OK\r\n" + KIND + b"\r\n\r\n" + GOOD), Succeeded(1)),
    "an older version": (says(b"HTTP/1.0 200 OK\r\n" + KIND + b"\r\n\r\n" + GOOD), Succeeded(1)),
    "chunks of a byte": (says(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD) + b"0\r\n\r\n"), Succeeded(1)),
    "a type that comes behind": (
        says(CHUNKED.replace(KIND, b"X: x") + b"1e\r\n" + GOOD + b"\r\n0\r\n" + KIND + b"\r\n\r\n"), Garbled("not_json"),
    ),
    "words beside a chunk without end": (says(CHUNKED + b"1e;" + b"a=b;" * 10**6, then_wait=True), (CUT, CLOSED)),
    "an answer for another task": (
        says(an_answer(b'{"success": true, "output": 1, "request_id": "task-%s"}' % (b"f" * 32))), Garbled("another_task"),
    ),
    "an answer for no task": (says(an_answer(b'{"success": true, "output": 1, "request_id": null}')), Garbled("another_task")),
    "a failure of another task": (
        says(an_answer(b'{"success": false, "error": {"retryable": false}, "request_id": "x"}')), Garbled("another_task"),
    ),
    "a clock of 1970": (says(an_answer(GOOD, "Date: Thu, 01 Jan 1970 00:00:00 GMT")), Succeeded(1)),
    "a clock that is none": (says(an_answer(GOOD, "Date: tomorrow", "Age: -1")), Succeeded(1)),
    "a clock of 9999": (says(an_answer(GOOD, "Date: Fri, 31 Dec 9999 23:59:59 GMT")), Succeeded(1)),
    "busy until a time in the past": (
        says(an_answer(b"", "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT", f"Date: {TODAY}", status="503 Busy")), Busy(0.0),
    ),
    "busy until 9999": (
        says(an_answer(b"", "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT", f"Date: {TODAY}", status="429 Busy")),
        Busy(251_603_539_199.0),
    ),
    "busy by a clock of 1970": (
        says(an_answer(b"", f"Retry-After: {TODAY}", "Date: Thu, 01 Jan 1970 00:00:00 GMT", status="503 Busy")),
        Busy(1_798_761_600.0),
    ),
    "busy for thirty years": (says(an_answer(b"", "Retry-After: 999999999", status="503 Busy")), Busy(999_999_999.0)),
    "busy for ages": (says(an_answer(b"", f"Retry-After: {ABSURD}", status="503 Busy")), Busy(None)),
    "busy since ages": (says(an_answer(b"", "Retry-After: -5", status="429 Busy")), Busy(None)),
    "busy in words": (says(an_answer(b"", "Retry-After: soon", status="429 Busy")), Busy(None)),
}  # fmt: skip
