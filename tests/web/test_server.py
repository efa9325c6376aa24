"""The server alone, around small applications: connections beyond the bound, clients that do not read, and its end."""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.abc
import pytest
from msgspec.structs import replace

from orchestrator.kernel.inbox import Inbox, Stop
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.settings import load
from orchestrator.web import http_rules, server
from orchestrator.web.protocol import ServerConfig
from orchestrator.web.server import listen

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("door")]

LIMITS = load().limits
GET = b"GET / HTTP/1.1\r\nHost: box\r\n\r\n"
Run = Callable[..., AbstractAsyncContextManager[Callable[[], Any]]]


class Running:
    """A server, how to connect to it and how to stop it."""

    def __init__(self, port: int, inbox: Inbox[object], ended: anyio.Event, scope: anyio.CancelScope) -> None:
        self.port, self._inbox, self._ended, self._scope = port, inbox, ended, scope

    async def connect(self) -> anyio.abc.SocketStream:
        return await anyio.connect_tcp("127.0.0.1", self.port)

    async def stop(self, *, cancelled: bool = False) -> float:
        """Stops it as the supervisor would, and returns how many seconds that took."""
        began = anyio.current_time()
        self._inbox.stop(Stop.FINAL)
        if cancelled:
            self._scope.cancel()
        with anyio.fail_after(15):
            await self._ended.wait()
        return anyio.current_time() - began


@asynccontextmanager
async def running(app: Any, **limits: Any) -> AsyncGenerator[Running]:
    listener = listen("127.0.0.1", 0)
    inbox: Inbox[object] = Inbox(Mailbox("web", 1))
    ended = anyio.Event()
    scope = anyio.CancelScope()
    ends: list[str] = []

    async def run() -> None:
        try:
            with scope:
                await server.WebServer(app, listener, replace(LIMITS, **limits)).run(inbox)
            ends.append("clean" if not scope.cancelled_caught else "cancelled")
        finally:
            ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        try:
            yield Running(listener.getsockname()[1], inbox, ended, scope)
        finally:
            inbox.stop(Stop.FINAL)
            with anyio.CancelScope(shield=True):
                await ended.wait()
            listener.close()
    assert ends, "it ended by an exception"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answers everything."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def read_all(stream: anyio.abc.ByteReceiveStream) -> bytes:
    found = b""
    with anyio.fail_after(10):
        while True:
            try:
                found += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return found


async def test_more_connections_than_the_bound() -> None:
    """The one too many is told 503; once another is closed, the next is served."""
    async with running(hello, connections=2) as web:
        async with await web.connect() as first, await web.connect() as second:
            for stream in (first, second):
                await stream.send(GET)
                assert b"hello" in await stream.receive()
            async with await web.connect() as third:
                refused = await read_all(third)
            assert refused.startswith(b"HTTP/1.1 503")
            assert b"E_OVERLOADED" in refused
            assert b"retry-after: 1\r\n" in refused
        answer = b""
        with anyio.fail_after(5):
            while not answer.startswith(b"HTTP/1.1 200"):
                async with await web.connect() as stream:
                    await stream.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                    answer = await read_all(stream)


async def test_an_application_that_fails() -> None:
    """Its client hears 500 and nothing of the error, which goes to the log by its kind alone."""

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        raise RuntimeError("canary")

    async with running(failing) as web, await web.connect() as stream:
        await stream.send(GET)
        answer = await read_all(stream)
        assert answer.startswith(b"HTTP/1.1 500")
        assert b"E_INTERNAL" in answer
        assert b"canary" not in answer


async def test_a_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is broken off when its answer has waited too long, and holds nothing."""
    monkeypatch.setattr(http_rules, "SEND_S", 0.2)
    over = anyio.Event()

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(64):
                await send({"type": "http.response.body", "body": b"x" * 2**20, "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            over.set()

    async with running(flood, connections=1) as web, await web.connect() as stream:
        await stream.send(GET)
        with anyio.fail_after(10):
            await over.wait()
        assert await web.stop() < 3


async def test_requests_ahead_of_answers_that_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Are not read either, but for what the system holds of them: nobody fills the memory with them."""
    monkeypatch.setattr(http_rules, "SEND_S", 1.0)

    async def large(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 2**24})

    sent = 0
    async with running(large) as web, await web.connect() as stream:
        with anyio.fail_after(30), suppress(anyio.BrokenResourceError):
            while sent < 2**27:
                await stream.send(GET * 1_000)
                sent += len(GET) * 1_000
    assert sent < 2**24


@pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": fast}) for fast in (False, True)], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize("cancelled", [False, True], ids=["stopped", "cancelled"])
async def test_the_end_with_every_kind_of_connection_open(cancelled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends in time: who waits for an answer is told 503, everybody else is closed, however they behave."""
    monkeypatch.setattr(server, "STOP_S", 0.3)
    monkeypatch.setattr(server, "ABORT_S", 0.3)
    waiting, stuck = anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["path"] == "/flood":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            stuck.set()
            while True:
                await send({"type": "http.response.body", "body": b"x" * 2**20, "more_body": True})
        elif scope["path"] == "/wait":
            waiting.set()
            while (await receive())["type"] != "http.disconnect":
                pass
        elif scope["path"] == "/deaf":
            await anyio.sleep_forever()
        else:
            await hello(scope, receive, send)

    async with (
        running(app) as web,
        await web.connect() as idle,
        await web.connect() as silent,
        await web.connect() as half_header,
        await web.connect() as half_body,
        await web.connect() as waits,
        await web.connect() as deaf,
        await web.connect() as flooded,
    ):
        await idle.send(GET)
        assert b"hello" in await idle.receive()
        await half_header.send(GET[:20])
        await half_body.send(b"POST /wait HTTP/1.1\r\nHost: box\r\nContent-Length: 10\r\n\r\nhalf")
        await waits.send(GET.replace(b"/ ", b"/wait "))
        await deaf.send(GET.replace(b"/ ", b"/deaf "))
        await flooded.send(GET.replace(b"/ ", b"/flood "))
        with anyio.fail_after(5):
            await waiting.wait()
            await stuck.wait()
        seconds = await web.stop(cancelled=cancelled)
        assert seconds < 3
        for told in (half_body, waits, deaf):
            answer = await read_all(told)
            assert answer.startswith(b"HTTP/1.1 503"), answer
            assert b"E_SHUTTING_DOWN" in answer
        for closed in (idle, silent, half_header):
            assert await read_all(closed) == b""


IDLE_S = 0.3


async def until_closed(stream: anyio.abc.SocketStream, drops: bytes) -> None:
    """As long as the server keeps a connection on which the client says so much, byte by byte, and no more."""

    async def drip() -> None:
        with suppress(anyio.BrokenResourceError):
            for number in range(len(drops)):
                await stream.send(drops[number : number + 1])
                await anyio.sleep(IDLE_S / 10)

    async with anyio.create_task_group() as group:
        group.start_soon(drip)
        assert await read_all(stream) == b""
        group.cancel_scope.cancel()


@pytest.mark.parametrize("after_an_answer", [False, True])
@pytest.mark.parametrize("drops", [b"", GET[:3], GET[:-2] + b"X: " + b"x" * 200], ids=["nothing", "a little", "drops"])
async def test_a_client_that_takes_its_time_over_a_head(drops: bytes, after_an_answer: bool) -> None:
    """It has `idle_s` for the whole of it, from its connection or the last answer on; drops do not renew that."""
    async with running(hello, idle_s=IDLE_S) as web:
        # Before the server can count, since it may have counted for long when we are told of a connection or an answer.
        began = anyio.current_time()
        async with await web.connect() as stream:
            if after_an_answer:
                began = anyio.current_time()
                await stream.send(GET)
                assert b"hello" in await stream.receive()
            await until_closed(stream, drops)
            assert 0.95 * IDLE_S <= anyio.current_time() - began < 10 * IDLE_S


async def test_an_answer_that_takes_its_time() -> None:
    """Is given all the same: the time is for clients."""

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await anyio.sleep(3 * IDLE_S)
        await hello(scope, receive, send)

    async with running(slow, idle_s=IDLE_S) as web, await web.connect() as stream:
        await stream.send(GET)
        with anyio.fail_after(10):
            assert b"hello" in await stream.receive()


async def test_a_second_life_on_the_same_socket() -> None:
    """Who connects between two incarnations waits, and is served by the second."""
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    try:
        for _ in range(2):
            inbox: Inbox[object] = Inbox(Mailbox("web", 1))
            async with await anyio.connect_tcp("127.0.0.1", port) as early, anyio.create_task_group() as group:
                await early.send(GET)
                group.start_soon(server.WebServer(hello, listener, LIMITS).run, inbox)
                with anyio.fail_after(5):
                    assert b"hello" in await early.receive()
                inbox.stop(Stop.FINAL)
    finally:
        listener.close()


def test_child_processes_do_not_hold_the_port() -> None:
    """The socket is not inherited: with the end of this process the port is free, whoever else still lives."""
    with listen("127.0.0.1", 0) as listener:
        config = ServerConfig()
        config.bind = [f"fd://{os.dup(listener.fileno())}"]
        (served,) = config.create_sockets().insecure_sockets
        with served:
            assert not served.get_inheritable()
