"""From HTTP to real agents and back: who is asked, how often, in which order, and what becomes of failures."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from aiohttp import web
from ports import reserved_port

from orchestrator.storage.queue import EmbeddedQueue
from orchestrator.testing import SUCCESS, ScriptedAgent, Service

pytestmark = pytest.mark.anyio

QUICK = {
    "ORCHESTRATOR_RETRY_BASE": "0.01",
    "ORCHESTRATOR_RETRY_CAP_S": "0.05",
    "ORCHESTRATOR_TASK_MAX_RETRIES": "2",
}
FAILURE = {"success": False, "error": {"message": "canary of the agent"}}
PERMANENT = {"success": False, "error": {"message": "canary of the agent", "retryable": False}}
CANARY = "canary"


@pytest.fixture
async def service(ledger: dict[str, str]) -> AsyncGenerator[Service]:
    async with Service(ledger, QUICK) as service:
        yield service


class Gate:
    """An agent's answer that waits until it may go."""

    def __init__(self) -> None:
        self.open = anyio.Event()

    async def __call__(self, _request: web.Request) -> web.Response:
        await self.open.wait()
        return web.json_response(SUCCESS)


async def events(service: Service, task_id: str) -> list[tuple[str, str | None]]:
    """What happened to the task, with the reasons."""
    return [(entry["event"], entry["reason"]) for entry in await service.audit(task_id=task_id)]


async def register(service: Service, agent_id: str, endpoint: str, **fields: Any) -> None:
    body = {"agent_id": agent_id, "endpoint": endpoint, "capabilities": ["embed"], **fields}
    assert (await service.ask("POST", "/register_agent", json=body)).status == 200


# The call.


async def test_a_call_is_what_the_contract_says(service: Service) -> None:
    """Body and headers, those and no others that say anything of the task."""
    async with ScriptedAgent("a", FAILURE, SUCCESS) as agent:
        await agent.register(service)
        task = {"case_id": "case-7", "payload": {"x": [1, 2.5, None, "é"]}, "meta": {"site": "s", "m": 1}}
        task_id = (await service.route({**task, "idempotency_key": "key-7", "deadline_s": 60})).json["task_id"]
        await service.ended(task_id)
    first, second = agent.calls
    assert first.body == {
        "request_id": task_id,
        "case_id": "case-7",
        "task_type": "embed",
        "payload": task["payload"],
        "meta": task["meta"],
    }
    assert second.body == first.body
    assert [call.headers["X-Attempt"] for call in agent.calls] == ["1", "2"]
    for call in agent.calls:
        assert call.headers["Idempotency-Key"] == task_id
        assert call.headers["Content-Type"] == "application/json"
        assert abs(float(call.headers["X-Deadline"]) - datetime.now(UTC).timestamp()) < 30
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", call.headers["traceparent"])
        known = {
            "host", "accept", "accept-encoding", "user-agent", "content-type", "content-length", "idempotency-key",
            "x-attempt", "x-deadline", "traceparent",
        }  # fmt: skip
        assert {name.lower() for name in call.headers} == known
    assert first.headers["traceparent"] != second.headers["traceparent"]


# The synchronous path.


async def test_a_synchronous_task_in_time(service: Service) -> None:
    """200 with the result, in one durable attempt."""
    async with ScriptedAgent("light", capabilities=["analyze_light"]) as agent:
        await agent.register(service)
        reply = await service.route({"task_type": "analyze_monitor"})
        assert (reply.status, reply.json["status"], reply.json["result"]) == (200, "completed_sync", {"done": True})
        found = await events(service, reply.json["task_id"])
        assert found == [("accepted", None), ("succeeded", None)]
        assert len(agent.calls) == 1


async def test_a_synchronous_task_that_takes_longer(ledger: dict[str, str]) -> None:
    """202 after the time-out; the same single call goes on, and its result is stored."""
    gate = Gate()
    async with (
        Service(ledger, {**QUICK, "ORCHESTRATOR_SYNC_TIMEOUT": "0.2"}) as service,
        ScriptedAgent("light", gate, capabilities=["analyze_light"]) as agent,
    ):
        await agent.register(service)
        reply = await service.route({"task_type": "analyze_monitor"})
        assert (reply.status, reply.json["status"]) == (202, "queued")
        task_id = reply.json["task_id"]
        assert (await service.ask("GET", f"/task/{task_id}")).json["status"] == "leased"
        gate.open.set()
        status = await service.ended(task_id)
        assert (status["status"], status["attempts"], status["result"]) == ("succeeded", 1, {"done": True})
        assert len(agent.calls) == 1
        metrics = (await service.ask("GET", "/metrics")).body.decode()
        assert 'orchestrator_sync_attempts_total{outcome="timeout"} 1.0' in metrics


async def test_a_synchronous_task_whose_first_agent_is_not_there(service: Service) -> None:
    """Moves to the next candidate, as a new attempt, within the same request."""
    port = reserved_port()
    async with ScriptedAgent("second", capabilities=["analyze_light"]) as agent:
        await register(
            service, "edge-first", f"http://127.0.0.1:{port}", capabilities=["analyze_light"], location="edge"
        )
        await agent.register(service)
        reply = await service.route({"task_type": "analyze_monitor"})
        assert (reply.status, reply.json["agent_id"]) == (200, "second")
        found = await events(service, reply.json["task_id"])
        assert found == [("accepted", None), ("moved", None), ("succeeded", None)]
        assert agent.calls[0].headers["X-Attempt"] == "2"


async def test_a_synchronous_task_that_fails_for_good(service: Service) -> None:
    """Is told as it is, and not called completed."""
    async with ScriptedAgent("light", PERMANENT, capabilities=["analyze_light"]) as agent:
        await agent.register(service)
        reply = await service.route({"task_type": "analyze_monitor"})
        assert (reply.status, reply.json["status"]) == (202, "dead")
        assert CANARY not in reply.body.decode()


# Retries.


async def test_a_refused_connection(service: Service) -> None:
    """Moves to the next candidate as a new attempt, and costs no retry."""
    async with ScriptedAgent("second") as agent:
        await register(service, "edge-first", f"http://127.0.0.1:{reserved_port()}", location="edge")
        await agent.register(service)
        status = await service.ended((await service.route({})).json["task_id"])
        assert (status["status"], status["attempts"], status["failures"]) == ("succeeded", 2, 0)
        assert status["agent_id"] == "second"


async def test_a_retry_goes_to_another_agent_first(service: Service) -> None:
    """Although the first is preferred."""
    async with ScriptedAgent("edge-first", FAILURE, location="edge") as first, ScriptedAgent("second") as second:
        await first.register(service)
        await second.register(service)
        status = await service.ended((await service.route({})).json["task_id"])
        assert (status["status"], status["agent_id"], status["failures"]) == ("succeeded", "second", 1)
        assert (len(first.calls), len(second.calls)) == (1, 1)


async def test_a_failure_that_may_not_be_retried(service: Service) -> None:
    """Is a dead letter at once."""
    async with ScriptedAgent("a", PERMANENT) as agent:
        await agent.register(service)
        status = await service.ended((await service.route({})).json["task_id"])
        assert (status["status"], status["reason"], status["attempts"]) == ("dead", "agent_error_permanent", 1)
        assert len(agent.calls) == 1


async def test_retries_that_are_used_up(service: Service) -> None:
    """Leave a dead letter, after one attempt and as many retries as are set."""
    async with ScriptedAgent("a", FAILURE) as agent:
        await agent.register(service)
        task_id = (await service.route({})).json["task_id"]
        status = await service.ended(task_id)
        assert (status["status"], status["reason"], status["failures"]) == ("dead", "agent_error", 3)
        assert len(agent.calls) == 3
        dead = (await service.ask("GET", "/dlq")).json["entries"]
        assert [entry["task_id"] for entry in dead] == [task_id]


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_obeyed(service: Service, status: int) -> None:
    """The agent is left alone for so long; the task goes elsewhere meanwhile, or waits."""
    called: list[float] = []

    async def busy_once(_request: web.Request) -> web.Response:
        called.append(anyio.current_time())
        if len(called) == 1:
            return web.Response(status=status, headers={"Retry-After": "1"})
        return web.json_response(SUCCESS)

    async with ScriptedAgent("a", busy_once) as agent:
        await agent.register(service)
        ended = await service.ended((await service.route({})).json["task_id"])
        assert ended["status"] == "succeeded"
        assert called[1] - called[0] >= 1


# Waiting for somebody.


async def test_a_task_waits_for_its_agent(
    ledger: dict[str, str], monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """And the registration starts it: within 100 ms on an idle machine, and not because somebody looks now and then."""
    usual = EmbeddedQueue.__init__.__kwdefaults__ or {}
    seldom = {"sweep_s": 3600.0, "patience_s": 3600.0}
    monkeypatch.setattr(EmbeddedQueue.__init__, "__kwdefaults__", {**usual, **seldom})
    for name in ("HUNGRY_S", "BLOCKED_S"):
        monkeypatch.setattr(f"orchestrator.storage.streams.queue.{name}", 3600.0)
    async with Service(ledger, QUICK) as service, ScriptedAgent() as agent:
        task_ids = [(await service.route({"case_id": f"c{n}"})).json["task_id"] for n in range(3)]
        began = anyio.current_time()
        await agent.register(service)
        await agent.until_called()
        took = anyio.current_time() - began
        record_property("seen", f"first call {took * 1000:.1f} ms after the registration was sent")
        for task_id in task_ids:
            await service.ended(task_id)


async def test_work_without_an_agent_holds_up_nothing_else(service: Service) -> None:
    """However urgent it is."""
    waiting = [
        (await service.route({"task_type": "indexing", "priority": "urgent"})).json["task_id"] for _ in range(20)
    ]
    async with ScriptedAgent() as agent:
        await agent.register(service)
        other = (await service.route({"priority": "low"})).json["task_id"]
        assert (await service.ended(other))["status"] == "succeeded"
    assert (await service.ask("GET", f"/task/{waiting[0]}")).json["status"] == "queued"


async def test_not_before(service: Service) -> None:
    """The task does not start earlier, and does start."""
    async with ScriptedAgent() as agent:
        await agent.register(service)
        start = datetime.now(UTC) + timedelta(seconds=0.7)
        task_id = (await service.route({"not_before": start.isoformat()})).json["task_id"]
        await service.ended(task_id)
        assert datetime.now(UTC) >= start
        later = (await service.route({"not_before": (start + timedelta(hours=1)).isoformat()})).json["task_id"]
        assert (await service.ask("GET", f"/task/{later}")).json["due_at"] is not None
        assert [call.body["request_id"] for call in agent.calls] == [task_id]


async def test_a_deadline(service: Service) -> None:
    """Ends a task that waits, and one that runs."""
    waiting = (await service.route({"deadline_s": 0.3})).json["task_id"]
    ended = await service.ended(waiting)
    assert (ended["status"], ended["reason"], ended["attempts"]) == ("expired", "deadline", 0)
    async with ScriptedAgent("a", Gate()) as agent:
        await agent.register(service)
        for seconds in (1, 4, 16):
            ended = await service.ended((await service.route({"deadline_s": seconds})).json["task_id"])
            if agent.calls:
                break  # Else it was over before the call began: the machine stalled.
        assert (ended["status"], ended["attempts"]) == ("expired", 1)


# Who is asked.


async def test_a_healthy_edge_agent_comes_first(service: Service) -> None:
    """Then the others, when it is gone."""
    async with ScriptedAgent("a-cloud") as cloud, ScriptedAgent("z-edge", location="edge-1", cost=100) as edge:
        await cloud.register(service)
        await edge.register(service)
        for _ in range(5):
            await service.ended((await service.route({})).json["task_id"])
        assert (len(edge.calls), len(cloud.calls)) == (5, 0)
        await service.ask("POST", "/agents/z-edge/drain")
        await service.ended((await service.route({})).json["task_id"])
        assert (len(edge.calls), len(cloud.calls)) == (5, 1)


async def test_a_site(service: Service) -> None:
    """A task that names one never reaches an edge agent of another."""
    async with (
        ScriptedAgent("a", location="edge-a", site="a") as a,
        ScriptedAgent("b", location="edge-b", site="b") as b,
    ):
        await a.register(service)
        await b.register(service)
        for _ in range(5):
            await service.ended((await service.route({"meta": {"site": "b"}})).json["task_id"])
        assert (len(a.calls), len(b.calls)) == (0, 5)
        elsewhere = (await service.route({"meta": {"site": "c"}, "deadline_s": 0.3})).json["task_id"]
        assert (await service.ended(elsewhere))["status"] == "expired"


async def test_max_concurrency_under_load(ledger: dict[str, str]) -> None:
    """Is never exceeded, and one of the slots is kept for urgent work."""
    gate = Gate()
    async with (
        Service(ledger, {**QUICK, "ORCHESTRATOR_TASKS_EMBED_TIMEOUT_S": "20"}) as service,
        ScriptedAgent("a", gate, max_concurrency=3) as agent,
    ):
        await agent.register(service)
        replies = await asyncio.gather(*(service.route({"case_id": f"c{n}"}) for n in range(30)))
        await agent.until_called(2)
        urgent = (await service.route({"priority": "urgent"})).json["task_id"]
        await agent.until_called(3)
        assert {call.body["request_id"] for call in agent.calls[2:]} == {urgent}
        gate.open.set()
        for reply in replies:
            assert (await service.ended(reply.json["task_id"]))["status"] == "succeeded"
        assert agent.peak == 3
        assert len(agent.calls) == 31


async def test_a_mixed_load_over_several_agents(service: Service) -> None:
    """Every task is run once, by somebody who may, and no agent is asked for more than it can take at once."""
    async with AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(ScriptedAgent(f"a{n}", max_concurrency=1 + n)) for n in range(4)]
        for agent in agents:
            await agent.register(service)
        classes = ("urgent", "high", "normal", "low")
        replies = await asyncio.gather(*(service.route({"priority": classes[n % 4]}) for n in range(120)))
        ids = {reply.json["task_id"] for reply in replies}
        for task_id in ids:
            assert (await service.ended(task_id))["status"] == "succeeded"
        called = [call.body["request_id"] for agent in agents for call in agent.calls]
        assert sorted(called) == sorted(ids)
        assert all(agent.peak <= 1 + n for n, agent in enumerate(agents))


# Consent.


async def test_raw_media_with_consent(service: Service) -> None:
    """Goes to the raw-media agent."""
    async with ScriptedAgent("raw", capabilities=["embed", "raw_image"]) as agent:
        await agent.register(service)
        task = {"payload": {"image_ref": "x"}, "consent": {"consent_given": True, "consent_id": "c"}}
        assert (await service.ended((await service.route(task)).json["task_id"]))["status"] == "succeeded"
        assert len(agent.calls) == 1


async def test_no_consent(service: Service) -> None:
    """Raw media is refused; anything else never reaches an agent for raw media, not even when there is no other."""
    async with ScriptedAgent("raw", capabilities=["embed", "raw_image"], location="edge") as agent:
        await agent.register(service)
        assert (await service.route({"payload": {"image_ref": "x"}})).status == 403
        waiting = (await service.route({"deadline_s": 0.5})).json["task_id"]
        async with ScriptedAgent("plain") as plain:
            await plain.register(service)
            status = await service.ended((await service.route({})).json["task_id"])
            assert status["agent_id"] == "plain"
        await service.ended(waiting)
        assert not agent.calls


async def test_consent_that_expires_before_dispatch(service: Service) -> None:
    """Raw media that waited too long is denied, and is never sent."""
    for seconds in (0.5, 2.0, 8.0):
        expires = datetime.now(UTC) + timedelta(seconds=seconds)
        consent = {"consent_given": True, "consent_id": "c", "expires_at": expires.isoformat()}
        reply = await service.route({"payload": {"image_ref": "x"}, "consent": consent})
        if reply.status == 202:
            break  # Else it had expired before it was looked at: the machine stalled.
    assert reply.status == 202
    await anyio.sleep(max(0.0, (expires - datetime.now(UTC)).total_seconds()))  # Time itself is the situation.
    async with ScriptedAgent("raw", capabilities=["embed", "raw_image"]) as agent:
        await agent.register(service)
        status = await service.ended(reply.json["task_id"])
        assert (status["status"], status["reason"], status["attempts"]) == ("denied", "consent", 0)
        assert not agent.calls


async def test_an_agent_that_turns_into_one_for_raw_media(service: Service) -> None:
    """Gets nothing without consent from then on, not even what was accepted before."""
    gate = Gate()
    async with ScriptedAgent("a", gate, max_concurrency=1) as agent:
        await agent.register(service)
        first = (await service.route({})).json["task_id"]
        await agent.until_called()
        waiting = (await service.route({})).json["task_id"]
        await register(service, "a", agent.endpoint, capabilities=["embed", "raw_image"], max_concurrency=1)
        gate.open.set()
        await service.ended(first)
        other = (await service.route({"consent": {"consent_given": True}})).json["task_id"]
        await service.ended(other)
        assert [call.body["request_id"] for call in agent.calls] == [first, other]
        assert (await service.ask("GET", f"/task/{waiting}")).json["status"] == "queued"


# Agents that answer garbage.

Connection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawAgent:
    """A port where each connection is handled by a function, once a request has come."""

    def __init__(self, handle: Connection) -> None:
        self._handle, self.connections, self.tasks = handle, 0, set[asyncio.Task[Any]]()

    async def __aenter__(self) -> "RawAgent":
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        with suppress(ConnectionError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
            await reader.readexactly(length)
            await self._handle(reader, writer)
        writer.transport.abort()


def saying(*parts: bytes) -> Connection:
    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        writer.write_eof()
        await _reader.read()

    return handle


async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def one_byte_at_a_time(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in answer(b'{"success": true, "output": "canary"}'):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def half_an_answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b'{"success": true, "output": "canary"}')[:-10])
    await writer.drain()


async def endless_chunks(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"[" * 65536 + b"\r\n")
        await writer.drain()


async def endless_headers(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: canary" + b"x" * 1000 + b"\r\n")
        await writer.drain()


def answer(body: bytes, status: str = "200 OK", kind: str = "application/json", more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode() + body


GOOD = b'{"success": true, "output": "canary"}'
NESTED = b'{"success": true, "output": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
GARBAGE: dict[str, tuple[Connection, str]] = {
    "accepts and never answers": (silence, "timeout"),
    "one byte at a time": (one_byte_at_a_time, "timeout"),
    "closes without an answer": (saying(), "transport_closed"),
    "half an answer, then reset": (half_an_answer, "transport_garbled"),
    "no HTTP": (saying(b"canary canary\r\n\r\n"), "transport_garbled"),
    "another protocol": (saying(b"SSH-2.0-canary\r\n"), "transport_garbled"),
    "a bad header": (saying(b"HTTP/1.1 200 OK\r\ncanary\r\n\r\n"), "transport_garbled"),
    "endless headers": (endless_headers, "transport_garbled"),
    "HTML": (saying(answer(b"<html>canary</html>", kind="text/html")), "not_json"),
    "HTML that says it is JSON": (saying(answer(b"<html>canary</html>")), "not_json"),
    "JSON that says it is text": (saying(answer(GOOD, kind="text/plain")), "not_json"),
    "an empty 200": (saying(answer(b"")), "not_json"),
    "a list": (saying(answer(b'["canary"]')), "not_an_object"),
    "no success": (saying(answer(b'{"output": "canary"}')), "no_success"),
    "success as a string": (saying(answer(b'{"success": "true", "output": "canary"}')), "no_success"),
    "success as a number": (saying(answer(b'{"success": 1, "output": "canary"}')), "no_success"),
    "no output": (saying(answer(b'{"success": true, "canary": 1}')), "no_output"),
    "duplicate keys": (saying(answer(b'{"success": false, "success": true, "output": "canary"}')), "not_json"),
    "NaN": (saying(answer(b'{"success": true, "output": NaN}')), "not_json"),
    "a lone surrogate": (saying(answer(b'{"success": true, "output": "\\ud800canary"}')), "not_json"),
    "UTF-16": (saying(answer(GOOD.decode().encode("utf-16"))), "not_json"),
    "deep JSON": (saying(answer(NESTED)), "not_json"),
    "10 MB announced": (saying(answer(b"canary" * 1_700_000)), "too_large"),
    "endless chunks": (endless_chunks, "too_large"),
    "gzip": (saying(answer(b"\x1f\x8bcanary", more="Content-Encoding: gzip\r\n")), "not_json"),
    "a bad chunk": (
        saying(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\ncanary"),
        "transport_garbled",
    ),
    "a redirect": (saying(answer(b"", "307 Canary", more="Location: http://169.254.169.254/canary\r\n")), "status_307"),
    "500": (saying(answer(GOOD, "500 canary")), "status_500"),
    "404": (saying(answer(GOOD, "404 canary")), "status_404"),
    "201": (saying(answer(GOOD, "201 canary")), "status_201"),
    "204": (saying(b"HTTP/1.1 204 canary\r\n\r\n"), "status_204"),
    "an upgrade": (saying(b"HTTP/1.1 101 canary\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), "status_101"),
    "429": (saying(answer(b"canary", "429 canary")), "busy"),
    "503 with words for a time": (saying(answer(b"", "503 x", more="Retry-After: canary\r\n")), "busy"),
    "503 with a negative time": (saying(answer(b"", "503 x", more="Retry-After: -1\r\n")), "busy"),
    "503 with a time in the past": (
        saying(answer(b"", "503 x", more="Retry-After: Mon, 01 Jan 1990 00:00:00 GMT\r\n")),
        "busy",
    ),
    "503 with an overflowing time": (saying(answer(b"", "503 x", more=f"Retry-After: {'9' * 400}\r\n")), "busy"),
    "503 with an impossible date": (
        saying(answer(b"", "503 x", more="Retry-After: Mon, 99 Jan 99999 99:99:99 GMT\r\n")),
        "busy",
    ),
    "an error of odd types": (saying(answer(b'{"success": false, "error": ["canary"]}')), "agent_error"),
    "an error as text": (saying(answer(b'{"success": false, "error": "canary"}')), "agent_error"),
    "retryable as text": (saying(answer(b'{"success": false, "error": {"retryable": "false"}}')), "agent_error"),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_a_garbage_agent(
    ledger: dict[str, str], name: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Ends in a retry and then a dead letter with a word of ours, never in a crash, and its words appear nowhere."""
    handle, reason = GARBAGE[name]
    within = {"ORCHESTRATOR_TASKS_EMBED_TIMEOUT_S": "0.5"} if reason == "timeout" else {}
    async with (
        Service(ledger, {**QUICK, **within, "ORCHESTRATOR_TASK_MAX_RETRIES": "1"}) as service,
        RawAgent(handle) as agent,
    ):
        await register(service, "a", agent.endpoint)
        task_id = (await service.route({})).json["task_id"]
        status = await service.ended(task_id)
        assert (status["status"], status["reason"], status["failures"]) == ("dead", reason, 2)
        assert await events(service, task_id) == [
            ("accepted", None), ("leased", None), ("retry_scheduled", reason),
            ("due", None), ("leased", None), ("dead", reason),
        ]  # fmt: skip
        assert not [child for child in service.orchestrator.status() if child.restarts]
        seen = json.dumps([status, await service.audit()]) + (await service.ask("GET", "/metrics")).body.decode()
        assert agent.connections == 2
    out, err = capfd.readouterr()
    assert CANARY not in (seen + out + err + caplog.text).lower()


async def test_a_closed_port(service: Service) -> None:
    """Gives the task back, uncounted; it waits for somebody who is there."""
    await register(service, "a", f"http://127.0.0.1:{reserved_port()}")
    task_id = (await service.route({})).json["task_id"]
    status = await service.reached(task_id, lambda status: status["reason"] == "refused")
    assert (status["status"], status["failures"], status["attempts"]) == ("queued", 0, 1)
    (agent,) = (await service.ask("GET", "/agents")).json["agents"]
    assert agent["state"] == "ejected"
    async with ScriptedAgent("b") as other:
        await other.register(service)
        assert (await service.ended(task_id))["agent_id"] == "b"


@pytest.mark.parametrize("value", ["999999999", "1e9", "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_an_absurd_retry_after(service: Service, value: str) -> None:
    """Holds up neither the task, which goes elsewhere, nor the process."""
    date = {"Retry-After": value, "Date": "Mon, 01 Jan 2024 00:00:00 GMT"}

    async def busy(_request: web.Request) -> web.Response:
        return web.Response(status=503, headers=date)

    async with ScriptedAgent("edge-busy", busy, location="edge") as first, ScriptedAgent("other") as other:
        await first.register(service)
        await other.register(service)
        status = await service.ended((await service.route({})).json["task_id"])
        assert (status["status"], status["agent_id"]) == ("succeeded", "other")


async def test_the_same_answer_twice(service: Service) -> None:
    """The second belongs to nothing: one result is accepted, and the connection is not used again."""

    async def twice(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for output in (b'"first"', b'"second"'):
            sent = answer(b'{"success": true, "output": ' + output + b"}").replace(b"Connection: close\r\n", b"")
            writer.write(sent)
        await writer.drain()
        await _reader.read()

    async with RawAgent(twice) as agent:
        await register(service, "a", agent.endpoint)
        for _ in range(3):
            status = await service.ended((await service.route({})).json["task_id"])
            assert (status["status"], status["result"]) == ("succeeded", "first")


async def test_an_answer_that_comes_too_late(ledger: dict[str, str]) -> None:
    """Of an older attempt is not accepted: the result is that of the current one."""
    first = Gate()

    async def second(_request: web.Request) -> web.Response:
        return web.json_response({"success": True, "output": "second"})

    async with (
        Service(ledger, {**QUICK, "ORCHESTRATOR_TASKS_EMBED_TIMEOUT_S": "0.2"}) as service,
        ScriptedAgent("a", first, second) as agent,
    ):
        await agent.register(service)
        task_id = (await service.route({})).json["task_id"]
        status = await service.ended(task_id)
        first.open.set()
        # An attempt of which the machine made more than that is followed by another.
        assert (status["status"], status["result"], status["attempts"]) == ("succeeded", "second", len(agent.calls))
        assert status["attempts"] > 1
        assert (await service.ended(task_id))["result"] == "second"


async def test_an_output_at_the_limit(ledger: dict[str, str]) -> None:
    """Is stored and given back whole."""
    most = 4096
    async with Service(ledger, {**QUICK, "ORCHESTRATOR_AGENTS_MAX_ANSWER_BYTES": str(most)}) as service:
        room = most - len(json.dumps({"success": True, "output": ""}))

        async def large(_request: web.Request) -> web.Response:
            return web.json_response({"success": True, "output": "x" * room})

        async def larger(_request: web.Request) -> web.Response:
            return web.json_response({"success": True, "output": "x" * (room + 1)})

        async with ScriptedAgent("a", large, larger) as agent:
            await agent.register(service)
            assert (await service.ended((await service.route({})).json["task_id"]))["result"] == "x" * room
            assert (await service.ended((await service.route({})).json["task_id"]))["reason"] == "too_large"
