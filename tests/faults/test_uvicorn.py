"""`create_app()` on another server, started with the command that docs/operations.md gives."""

import signal

import anyio
import pytest
from aiohttp import web

from orchestrator.testing import ScriptedAgent, a_task

pytestmark = pytest.mark.anyio

OPTIONS = ("--timeout-graceful-shutdown", "30", "--no-access-log", "--no-server-header", "--no-proxy-headers")
ENDED = (-signal.SIGTERM, "")
"""Its lifespan is over, then it ends by the signal that it was sent; and nothing was complained of."""


@pytest.fixture
async def server(served):
    """Makes one that is ready; a second call starts it again on the same ledger."""
    one = served(ORCHESTRATOR_WEB_MAX_BODY_BYTES="2000", ORCHESTRATOR_WEB_BODY_TIMEOUT_S="1")

    async def start():
        program = ("-m", "uvicorn", "--factory", "orchestrator:create_app")
        port = str(one.port)
        one.process = await one.spawn("--port", port, "--log-level", "warning", *OPTIONS, program=program)
        await one.until_ready(True)
        return one

    return start


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


@pytest.mark.parametrize("sent", [b"", b"{"])
async def test_a_slow_body_there(server, sent):
    """Whether nothing of it is there when it is read, or some of it: 408 when its time is over."""
    one = await server()
    head = b"POST /route_task HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    with anyio.fail_after(10):
        async with await anyio.connect_tcp("127.0.0.1", one.port) as stream:
            await stream.send(head + sent)
            assert (await stream.receive()).startswith(b"HTTP/1.1 408 ")
    assert await one.stop() == ENDED


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
