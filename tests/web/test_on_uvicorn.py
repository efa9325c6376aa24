"""Our class on uvicorn: what uvicorn's options mean for it, and how the two end together."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from uvicorn_serving import OnUvicorn

from orchestrator import create_app
from orchestrator.kernel.inbox import Inbox, Stop
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.settings import load
from orchestrator.testing import a_task
from orchestrator.web.server import listen

pytestmark = pytest.mark.anyio

GET = b"GET /a%20b?c=d HTTP/1.1\r\nHost: box\r\n\r\n"


class App:
    """Answers everything at once, but `/wait` when it is let go; and remembers each scope."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.begun, self.let_go = anyio.Event(), anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["shared"] = "yes"
            for _ in range(2):
                await send({"type": f"{(await receive())['type']}.complete"})
            return
        self.scopes.append(scope)
        if scope["path"] == "/wait":
            self.begun.set()
            await self.let_go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Running:
    """A server on uvicorn, and its end."""

    def __init__(self, port: int, server: OnUvicorn, inbox: Inbox[object]) -> None:
        self.port, self.server, self.ended, self.stop = port, server, anyio.Event(), lambda: inbox.stop(Stop.FINAL)

    async def connect(self) -> anyio.abc.SocketStream:
        return await anyio.connect_tcp("127.0.0.1", self.port)


@asynccontextmanager
async def running(app: Any, **options: Any) -> AsyncGenerator[Running]:
    listener, inbox = listen("127.0.0.1", 0), Inbox[object](Mailbox("web", 1))
    one = Running(listener.getsockname()[1], OnUvicorn(app, listener, load().limits, **options), inbox)

    async def run() -> None:
        await one.server.run(inbox)
        one.ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        try:
            with anyio.fail_after(20):
                yield one
        finally:
            one.stop()
    listener.close()


async def answer(stream: anyio.abc.ByteReceiveStream) -> bytes:
    """One, with a body of two bytes."""
    found = b""
    while not found.endswith(b"\r\n\r\nok"):
        found += await stream.receive()
    return found


async def rest(stream: anyio.abc.ByteReceiveStream) -> bytes:
    """All up to the end of the connection."""
    found = b""
    while True:
        try:
            found += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return found


async def test_what_the_application_is_told() -> None:
    """The state of the lifespan, a copy for each request; the root path before every path; both ends."""
    app = App()
    async with running(app, root_path="/box") as web, await web.connect() as stream:
        for _ in range(2):
            await stream.send(GET)
            await answer(stream)
        mine = stream.extra_attributes[anyio.abc.SocketAttribute.local_address]()
    first, second = app.scopes
    assert first["state"]["shared"] == second["state"]["shared"] == "yes"
    assert first["state"] is not second["state"]
    assert (first["root_path"], first["path"], first["raw_path"]) == ("/box", "/box/a b", b"/box/a%20b")
    assert (first["query_string"], first["scheme"]) == (b"c=d", "http")
    assert (first["client"], first["server"]) == (mine, ("127.0.0.1", web.port))


async def test_headers_of_every_answer() -> None:
    """Are uvicorn's: its date, its name unless it was told otherwise, and what it was given; of refusals as well."""
    async with running(App(), server_header=True, headers=[("X-Box", "1")]) as web:
        async with await web.connect() as stream:
            await stream.send(GET)
            good = await answer(stream)
        async with await web.connect() as stream:
            await stream.send(b"GET / HTTP/1.1\n\n")
            bad = await rest(stream)
    for told, status in ((good, b"200"), (bad, b"400")):
        assert told.startswith(b"HTTP/1.1 " + status)
        for header in (b"\r\ndate: ", b"\r\nserver: uvicorn\r\n", b"\r\nx-box: 1\r\n"):
            assert told.count(header) == 1


async def test_what_stands_in_front() -> None:
    """Sees every part of every request and answer that passes it, of the calls as well that go past the framework."""
    seen: list[str] = []

    async def front(scope: Any, receive: Any, send: Any) -> None:
        async def heard() -> Any:
            message = await receive()
            seen.append(message["type"])
            return message

        async def told(message: Any) -> None:
            seen.append(message["type"])
            await send(message)

        await ours(scope, *((receive, send) if scope["type"] == "lifespan" else (heard, told)))

    ours = create_app(load(environ={"DATABASE_URL": "memory://", "LOG_LEVEL": "ERROR"}))
    async with running(front) as web, await web.connect() as stream:
        body = json.dumps(a_task()).encode()
        head = f"POST /route_task HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        await stream.send(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        assert (await rest(stream)).startswith(b"HTTP/1.1 202 ")
    assert seen == ["http.request", "http.response.start", "http.response.body"]


async def test_an_address_that_a_proxy_says() -> None:
    """Counts where uvicorn trusts the proxy, each request's own on one connection."""
    app = App()
    async with running(app, proxy_headers=True) as web, await web.connect() as stream:
        for client in ("203.0.113.7", "203.0.113.8", "203.0.113.8"):
            await stream.send(GET[:-2] + f"X-Forwarded-For: {client}\r\n\r\n".encode())
            await answer(stream)
    assert [scope["client"][0] for scope in app.scopes] == ["203.0.113.7", "203.0.113.8", "203.0.113.8"]


async def test_its_own_limit_of_connections() -> None:
    """Holds where it is the lower one: the next is told 503, as a problem."""
    async with running(App(), limit_concurrency=1) as web, await web.connect() as first:
        await first.send(GET)
        await answer(first)
        async with await web.connect() as second:
            refused = await rest(second)
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"E_OVERLOADED" in refused


async def test_its_limit_of_requests() -> None:
    """Ends it once so many were answered, over however few connections."""
    async with running(App(), limit_max_requests=3) as web, await web.connect() as stream:
        for number in range(3):
            assert not web.ended.is_set(), number
            await stream.send(GET)
            await answer(stream)
        assert await rest(stream) == b""
        await web.ended.wait()


async def test_a_request_under_way_at_the_end() -> None:
    """Is answered, and told that nothing follows; whoever waits in the application hears of the end at once."""
    app = App()
    async with running(app, timeout_graceful_shutdown=15) as web, await web.connect() as stream:
        await stream.send(GET.replace(b"/a%20b", b"/wait") + GET)
        await app.begun.wait()
        web.stop()
        await web.server.drained.wait()
        app.let_go.set()
        told = await rest(stream)
        await web.ended.wait()
    assert told.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in told
    assert told.count(b"HTTP/1.1 ") == len(app.scopes) == 1


async def test_another_application() -> None:
    """Is not served: which limits hold for it nobody said. The event loop is told so."""

    class Other(OnUvicorn):
        async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
            await self._app(scope, receive, send)

    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    app = App()
    listener, inbox = listen("127.0.0.1", 0), Inbox[object](Mailbox("web", 1))
    async with anyio.create_task_group() as group:
        group.start_soon(Other(app, listener, load().limits).run, inbox)
        async with await anyio.connect_tcp("127.0.0.1", listener.getsockname()[1]) as stream:
            with anyio.fail_after(20):
                await stream.send(GET)
                assert await rest(stream) == b""
        inbox.stop(Stop.FINAL)
    listener.close()
    (failure,) = failures
    assert "create_app" in str(failure)
    assert app.scopes == []
