"""The classes that speak HTTP/1.1, where the corpus does not look: answers, and which is taken on Hypercorn."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
import trustme

from orchestrator.kernel.inbox import Inbox, Stop
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.settings import load
from orchestrator.web import doors, server
from orchestrator.web.door import Door
from orchestrator.web.fast_door import FastDoor
from orchestrator.web.server import listen
from orchestrator.web.server_config import FindTLS

pytestmark = pytest.mark.anyio
Message = dict[str, Any]


async def at_once(scope: Any, receive: Any, send: Any) -> None:
    """An application that says yes."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": f"{(await receive())['type']}.complete"})
        return
    await send(start(200, (b"content-length", b"2")))
    await send(piece(b"ok"))


@asynccontextmanager
async def answering(*messages: Message, body: list[Message] | None = None) -> AsyncGenerator[int]:
    """A server whose application answers so, and leaves what it received in `body` if it is to read."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await at_once(scope, receive, send)
            return
        while body is not None:
            body.append(await receive())
            if not body[-1].get("more_body"):
                break
        for message in messages:
            await send(message)

    async with running(app) as port:
        yield port


@asynccontextmanager
async def running(app: Any, tls: FindTLS | None = None) -> AsyncGenerator[int]:
    """A server of that application."""
    listener, inbox = listen("127.0.0.1", 0), Inbox[object](Mailbox("web", 1))
    async with anyio.create_task_group() as group:
        group.start_soon(server.WebServer(app, listener, load().limits, tls).run, inbox)
        try:
            yield listener.getsockname()[1]
        finally:
            inbox.stop(Stop.FINAL)
    listener.close()


async def told(port: int, *sent: bytes) -> bytes:
    """All that comes back; what is sent later waits for an answer to what came before."""
    answer = b""
    with anyio.fail_after(10):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            for part in sent:
                await stream.send(part)
                if part is not sent[-1]:
                    answer += await stream.receive()
            while True:
                try:
                    answer += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return answer


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def piece(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


KEPT = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
GET = KEPT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


async def test_an_answer_in_pieces(door: type) -> None:
    """Is sent in chunks; to HTTP/1.0, which knows none, up to the end of the connection."""
    async with answering(start(), piece(b"ab", more=True), piece(b"", more=True), piece(b"c")) as port:
        head, _, body = (await told(port, GET)).partition(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head.lower()
        assert body == b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
        head, _, body = (await told(port, GET.replace(b"1.1", b"1.0"))).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert body == b"abc"


async def test_answers_without_a_body(door: type) -> None:
    """To HEAD, and with 204 and 304, nothing follows the head."""
    for status, request in ((200, GET.replace(b"GET", b"HEAD")), (204, GET), (304, GET)):
        async with answering(start(status), piece(b"" if status != 200 else b"abc")) as port:
            assert (await told(port, request)).endswith(b"\r\n\r\n")


async def test_a_client_that_asks_before_it_sends(door: type) -> None:
    """Is told 100, sends its body, and gets its answer."""
    seen: list[Message] = []
    async with answering(start(), piece(b"ok"), body=seen) as port:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        answer = await told(port, head, b"abc")
    assert answer.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 200 " in answer
    assert b"".join(message["body"] for message in seen) == b"abc"


async def test_a_header_that_would_be_two(door: type) -> None:
    """Is never sent: the client hears of a fault."""
    async with answering(start(200, (b"location", b"/a\r\nx-injected: y")), piece(b"ok")) as port:
        answer = await told(port, GET)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"injected" not in answer


async def test_an_answer_that_breaks_off(door: type) -> None:
    """Does not look like a whole one."""
    async with answering(start(), piece(b"ab", more=True)) as port:
        assert not (await told(port, GET)).endswith(b"0\r\n\r\n")


async def test_an_encoding_that_nobody_knows(door: type) -> None:
    """Is not implemented."""
    async with answering(start(), piece(b"ok")) as port:
        answer = await told(port, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 501 ")


async def test_a_large_body(door: type) -> None:
    """Arrives whole, piece by piece."""
    seen: list[Message] = []
    sent = bytes(range(256)) * 4096
    async with answering(start(), piece(b"ok"), body=seen) as port:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(sent)
        assert b"200" in await told(port, head + sent)
    assert b"".join(message["body"] for message in seen) == sent
    assert len(seen) > 1


async def is_answered(stream: anyio.abc.ByteReceiveStream) -> None:
    """With `at_once`'s answer, and nothing after it."""
    answer = b""
    while not answer.endswith(b"\r\n\r\nok"):
        answer += await stream.receive()
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("door", [FastDoor, Door], indirect=True)
async def test_connections_of_before(door: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the files of TLS were replaced: those without a request end, those with one when it is answered."""
    monkeypatch.setattr(server, "FOLLOW_S", 0.05)
    begun, release = anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/held":
            begun.set()
            await release.wait()
        await at_once(scope, receive, send)

    authority = trustme.CA()
    contexts = [ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) for _ in range(2)]
    for context in contexts:
        authority.issue_cert("127.0.0.1").configure_cert(context)
    used = contexts[0]

    async def tls() -> ssl.SSLContext:
        return used

    async with running(app, tls) as port, AsyncExitStack() as stack:
        client = ssl.create_default_context()
        authority.configure_trust(client)
        idle, busy = [
            await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port, ssl_context=client))
            for _ in range(2)
        ]
        for _ in range(2):
            await idle.send(KEPT)
            await is_answered(idle)
        await busy.send(KEPT.replace(b"/", b"/held", 1))
        with anyio.fail_after(10):
            await begun.wait()
            used = contexts[1]
            with pytest.raises(anyio.EndOfStream):
                await idle.receive()
            release.set()
            await is_answered(busy)
            with pytest.raises(anyio.EndOfStream):
                await busy.receive()
            async with await anyio.connect_tcp("127.0.0.1", port, ssl_context=client) as anew:
                await anew.send(KEPT)
                await is_answered(anew)


def test_which_class_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours, unless httptools is missing or Hypercorn is one that it was not checked with."""
    assert doors.best_door() is FastDoor
    with monkeypatch.context() as patch:
        patch.setattr(doors, "find_spec", lambda _: None)
        assert doors.best_door() is Door
    for installed, expected in (("0.18.3", FastDoor), ("0.19.0", Door), ("1.0", Door), ("0.180", Door)):
        monkeypatch.setattr(doors, "version", lambda _, installed=installed: installed)
        assert doors.best_door() is expected
