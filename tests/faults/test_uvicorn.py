"""`create_app()` on another server, by the commands that docs/operations.md gives: with our class, and without it."""

import signal
from contextlib import AsyncExitStack

import anyio
import pytest
from aiohttp import web

from orchestrator.testing import ScriptedAgent, a_task

pytestmark = pytest.mark.anyio

OPTIONS = ("--timeout-graceful-shutdown", "30", "--no-access-log", "--no-server-header", "--no-proxy-headers")
OURS = ("--http", "orchestrator:HttpProtocol")
ENDED = (-signal.SIGTERM, "")
"""Its lifespan is over, then it ends by the signal that it was sent; and nothing was complained of."""


@pytest.fixture(params=[(), OURS], ids=["its class", "our class"])
def options(request) -> tuple[str, ...]:
    return (*OPTIONS, *request.param)


@pytest.fixture
async def server(served, options):
    """Makes one that is ready; a second call starts it again on the same ledger."""
    one = served(
        ORCHESTRATOR_WEB_MAX_BODY_BYTES="2000", ORCHESTRATOR_WEB_BODY_TIMEOUT_S="1", ORCHESTRATOR_LIMITS_CONNECTIONS="9"
    )

    async def start():
        program = ("-m", "uvicorn", "--factory", "orchestrator:create_app")
        port = str(one.port)
        one.process = await one.spawn("--port", port, "--log-level", "warning", *options, program=program)
        await one.until_ready(True)
        return one

    return start


async def told(one, *sent: bytes) -> bytes:
    """All that comes back on a connection of its own."""
    answer = b""
    with anyio.fail_after(10):
        async with await anyio.connect_tcp("127.0.0.1", one.port) as stream:
            for part in sent:
                await stream.send(part)
            while True:
                try:
                    answer += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return answer


async def test_the_contract_holds_there_too(server):
    """Accepted, a duplicate, a status that is waited for, events to their end; and each refusal with its code."""
    one = await server()
    first = await one.ask("POST", "/route_task", json=a_task(idempotency_key="visit-7"))
    again = await one.ask("POST", "/route_task", json=a_task(idempotency_key="visit-7"))
    assert (first[0], first[2]["status"]) == (202, "queued")
    assert (again[0], again[2]["status"], again[2]["task_id"]) == (200, "duplicate", first[2]["task_id"])
    path = first[1]["Location"]
    async with ScriptedAgent("agent-1") as agent:
        assert (await one.ask("POST", "/register_agent", json=agent.registration))[0] == 200
        status, _, task = await one.ask("GET", f"{path}?wait=20")
        assert (status, task["status"], task["result"]) == (200, "succeeded", {"done": True})
    async with one.session.get(f"http://127.0.0.1:{one.port}{path}/events") as events:
        assert events.content_type == "text/event-stream"
        assert "event: end" in await events.text()
    refusals = [
        await one.ask("POST", "/route_task", json=a_task(payload={"image_ref": "images/retina.png"})),
        await one.ask("POST", "/route_task", json=a_task(payload={"text": "x" * 2000})),
        await one.ask("GET", "/route_task"),
        await one.ask("POST", "/route_task", data=b"{", headers={"Content-Type": "application/json"}),
    ]
    assert [(status, body["code"]) for status, _, body in refusals] == [
        (403, "E_CONSENT_REQUIRED"),
        (413, "E_TOO_LARGE"),
        (405, "E_METHOD_NOT_ALLOWED"),
        (400, "E_INVALID_JSON"),
    ]
    for _, headers, _ in refusals:
        assert (headers["Cache-Control"], "Server" in headers) == ("no-store", False)
    assert await one.stop() == ENDED


async def until(stream, end: bytes) -> bytes:
    """What comes, with so much of it."""
    found = b""
    while end not in found:
        found += await stream.receive()
    return found


@pytest.mark.parametrize("sent", [b"", b"{"])
async def test_a_slow_body_there(server, sent):
    """Whether nothing of it is there when it is read, or some of it: 408 when its time is over."""
    one = await server()
    head = b"POST /route_task HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    assert (await told(one, head + sent)).startswith(b"HTTP/1.1 408 ")
    assert await one.stop() == ENDED


@pytest.mark.parametrize("options", [(*OPTIONS, *OURS)], ids=["our class"])
async def test_what_our_class_refuses_there(server):
    """A request that two readers would read differently, a head above its bound, a connection too many: problems."""
    one = await server()
    asked = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    for sent, status, code in (
        (asked.replace(b"\r\n", b"\n", 1) + b"\r\n", b"400", b"E_BAD_REQUEST"),
        (asked + b"X: " + b"x" * 20_000 + b"\r\n\r\n", b"431", b"E_HEADERS_TOO_LARGE"),
    ):
        answer = await told(one, sent)
        assert answer.startswith(b"HTTP/1.1 " + status), answer
        assert code in answer
    async with AsyncExitStack() as stack:
        for _ in range(9):
            await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", one.port))
        with anyio.fail_after(10):
            # The client of the fixture may have a connection of its own.
            while b"E_OVERLOADED" not in await told(one):
                pass
    assert await one.stop() == ENDED


@pytest.mark.parametrize("options", [("--no-access-log", *OURS)], ids=["our class, no bound"])
async def test_who_waits_when_it_ends_there(server):
    """A stream of events ends whole, a long-poll is answered, who only keeps a connection is closed: all in seconds."""
    one = await server()
    path = (await one.ask("POST", "/route_task", json=a_task()))[1]["Location"]
    address = ("127.0.0.1", one.port)
    async with (
        await anyio.connect_tcp(*address) as stream,
        await anyio.connect_tcp(*address) as poll,
        await anyio.connect_tcp(*address) as idle,
    ):
        await idle.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await poll.send(f"GET {path}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await stream.send(f"GET {path}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        with anyio.fail_after(20):
            assert (await idle.receive()).startswith(b"HTTP/1.1 200 ")
            assert b"event: state" in await until(stream, b"event: state")
            # What was sent before this was answered has been read.
            assert await one.status("GET", "/health") == 200
            assert await one.stop() == ENDED
            assert b"event: end" not in await until(stream, b"0\r\n\r\n")
            assert (await until(poll, b'"queued"')).startswith(b"HTTP/1.1 200 ")
            with pytest.raises(anyio.EndOfStream):
                await idle.receive()


async def test_sigterm_with_a_call_in_flight_there(server):
    """The call is finished and stored, what waits is there at the next start, and the trail is whole."""
    release = anyio.Event()

    async def held(_request: web.Request) -> web.Response:
        await release.wait()
        return web.json_response({"success": True, "output": {"done": True}})

    one = await server()
    waiting = (await one.ask("POST", "/route_task", json=a_task(task_type="audit_log")))[1]["Location"]
    async with ScriptedAgent("agent-1", held) as agent:
        assert (await one.ask("POST", "/register_agent", json=agent.registration))[0] == 200
        called = (await one.ask("POST", "/route_task", json=a_task()))[1]["Location"]
        await agent.until_called()
        one.process.send_signal(signal.SIGTERM)
        await one.until_ready(False)
        release.set()
        assert await one.end() == ENDED
    await server()
    finished, kept = (await one.ask("GET", called))[2], (await one.ask("GET", waiting))[2]
    assert (finished["status"], finished["attempts"], kept["status"]) == ("succeeded", 1, "queued")
    assert await one.stop() == ENDED
    code, said = await one.run("audit", "verify")
    assert code == 0, said
