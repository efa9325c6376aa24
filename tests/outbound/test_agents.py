"""Calls to agents: what is made of an answer, and that every call ends, whoever answers."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from ports import reserved_port

from orchestrator.domain.reach import Network, Ports, Reach
from orchestrator.outbound.agents import MAX_MODEL_VERSION as LONGEST
from orchestrator.outbound.agents import HttpAgentClient, read_answer, retry_after
from orchestrator.outbound.ports import Busy, Call, Declined, Garbled, Notice, Refused, Succeeded, TimedOut
from orchestrator.testing import SUCCESS, ScriptedAgent

LOOPBACK = Reach.of([Network("127.0.0.0/8"), Network("::1/128")], [], [Ports("1-65535")])
DATE = "Mon, 01 Jan 2024 00:00:00 GMT"


@pytest.fixture
async def client() -> AsyncGenerator[HttpAgentClient]:
    client = HttpAgentClient(reach=LOOPBACK, max_answer_bytes=65_536, connect_timeout_s=0.5)
    yield client
    await client.close()


def a_call(endpoint: str, **fields: Any) -> Call:
    values: dict[str, Any] = {
        "task_id": "task-" + "0" * 32, "case_id": "c", "task_type": "embed", "payload": {}, "meta": {}, "attempt": 1,
        "deadline_at": 1e9, "traceparent": f"00-{'0' * 31}1-{'0' * 15}1-01", **fields,
    }  # fmt: skip
    return Call(endpoint=endpoint, **values)


@pytest.mark.parametrize(
    ("body", "ending"),
    [
        ({"success": True, "output": 1}, Succeeded(1)),
        ({"success": True, "output": None}, Succeeded(None)),
        ({"success": True, "output": {}, "model_version": "m"}, Succeeded({}, "m")),
        ({"success": True, "output": 1, "model_version": 7}, Succeeded(1)),
        (
            {"success": True, "output": 1, "model_version": "m" * LONGEST},
            Succeeded(1, "m" * LONGEST),
        ),
        ({"success": True, "output": 1, "model_version": "m" * (LONGEST + 1)}, Succeeded(1)),
        ({"success": True, "output": 1, "more": 2}, Succeeded(1)),
        ({"success": True}, Garbled("no_output")),
        ({"success": False}, Declined(retryable=True)),
        ({"success": False, "error": {"message": "m"}}, Declined(retryable=True)),
        ({"success": False, "error": {"retryable": True}}, Declined(retryable=True)),
        ({"success": False, "error": {"retryable": False}}, Declined(retryable=False)),
        ({"success": False, "error": {"retryable": 0}}, Declined(retryable=True)),
        ({"success": False, "error": None, "output": 1}, Declined(retryable=True)),
        ({"success": None}, Garbled("no_success")),
        ({}, Garbled("no_success")),
        ([], Garbled("not_an_object")),
        (None, Garbled("not_an_object")),
    ],
)
def test_what_an_answer_says(body: Any, ending: Any) -> None:
    """By the contract, and by nothing that resembles it."""
    assert read_answer(json.dumps(body).encode(), "task-1") == ending


@pytest.mark.parametrize("body", [b"", b"\xff", b"{", b'{"success":true,"success":true,"output":1}', b"[" * 100_000])
def test_what_is_no_json(body: bytes) -> None:
    """Is read as strictly as what clients send."""
    assert read_answer(body, "task-1") == Garbled("not_json")


@given(st.binary(max_size=200))
def test_any_bytes_at_all(body: bytes) -> None:
    """Have an ending, and raise nothing."""
    assert read_answer(body, "task-1") is not None


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        (None, DATE, None), ("0", None, 0.0), ("120", None, 120.0), (" 7 ", None, 7.0),
        ("999999999", None, 999_999_999.0),
        ("9999999999", None, None), ("-1", None, None), ("1.5", None, None), ("1e3", None, None), ("٣", None, None),
        ("0\x1f", DATE, None), ("\x0b1", DATE, None), (" 7\t", DATE, 7.0),
        ("", DATE, None), ("soon", DATE, None), ("Mon, 01 Jan 2024 00:00:30 GMT", DATE, 30.0),
        ("Mon, 01 Jan 1990 00:00:00 GMT", DATE, 0.0), ("Mon, 01 Jan 2024 00:00:30 GMT", None, None),
        ("Mon, 01 Jan 2024 00:00:30 GMT", "nonsense", None), ("Mon, 99 Jan 2024 00:00:30 GMT", DATE, None),
        ("Mon, 01 Jan 2024 00:00:30 -0000", DATE, None), ("Mon, 01 Jan 2024 01:00:30 +0100", DATE, 30.0),
    ],
)  # fmt: skip
def test_retry_after(value: str | None, date: str | None, seconds: float | None) -> None:
    """In seconds, or not at all: the agent's clock counts against itself, never against ours."""
    assert retry_after(value, date) == seconds


@given(st.text(max_size=60), st.one_of(st.none(), st.just(DATE), st.text(max_size=60)))
def test_any_retry_after_at_all(value: str, date: str | None) -> None:
    """Is a time that is not negative, or none."""
    seconds = retry_after(value, date)
    assert seconds is None or seconds >= 0


@pytest.mark.anyio
async def test_a_port_where_nobody_listens(client: HttpAgentClient) -> None:
    """Is a refusal: the agent has not seen the task."""
    assert await client.call(a_call(f"http://127.0.0.1:{reserved_port()}"), 5) == Refused()


@pytest.mark.anyio
async def test_a_name_that_does_not_exist(client: HttpAgentClient) -> None:
    """Is a refusal too."""
    assert await client.call(a_call("http://nobody.invalid"), 5) in (Refused(), TimedOut())


@pytest.mark.anyio
async def test_an_agent_that_takes_too_long(client: HttpAgentClient) -> None:
    """Is cut off at the time given, and its connection is closed."""
    gone = anyio.Event()

    async def answer(request: web.Request) -> web.Response:
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - aiohttp tells its handlers nothing of this
            await asyncio.sleep(0.01)
        gone.set()
        return web.Response()

    async with ScriptedAgent("a", answer) as agent:
        began = anyio.current_time()
        assert await client.call(a_call(agent.endpoint), 0.2) == TimedOut()
        assert anyio.current_time() - began < 2
        with anyio.fail_after(5):
            await gone.wait()


@pytest.mark.anyio
async def test_a_connection_is_used_again(client: HttpAgentClient) -> None:
    """Calls to one agent share it, and no cookie is kept between them."""
    peers: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.append((request.transport.get_extra_info("peername"), request.headers.get("Cookie")))
        response = web.json_response(SUCCESS)
        response.set_cookie("a", "b")
        return response

    async with ScriptedAgent("a", answer) as agent:
        for _ in range(3):
            assert await client.call(a_call(agent.endpoint), 5) == Succeeded({"done": True})
    assert len(set(peers)) == 1
    assert peers[0][1] is None


@pytest.mark.anyio
async def test_a_redirect_is_not_followed(client: HttpAgentClient) -> None:
    """Nobody else gets the payload."""
    async with ScriptedAgent("target") as target:

        async def answer(_request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": f"{target.endpoint}/call"})

        async with ScriptedAgent("a", answer) as agent:
            assert await client.call(a_call(agent.endpoint), 5) == Garbled("status_307")
        assert not target.calls


@pytest.mark.anyio
async def test_a_proxy_of_the_environment_is_not_used(client: HttpAgentClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Payloads go to the agent and nowhere else."""
    async with ScriptedAgent("proxy") as proxy, ScriptedAgent("a", 503) as agent:
        monkeypatch.setenv("HTTP_PROXY", proxy.endpoint)
        monkeypatch.setenv("http_proxy", proxy.endpoint)
        assert await client.call(a_call(agent.endpoint), 5) == Busy(None)
        assert (len(proxy.calls), len(agent.calls)) == (0, 1)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("http://[::1]:9", "refused"),
        ("http://127.1:9", "refused"),
        ("http://ex ample", "not_allowed"),
        ("http://a..b", "not_allowed"),
        ("http://é:9", "not_allowed"),
        ("http://" + "x" * 64, "not_allowed"),
        ("http://" + "x" * 63, "refused"),
        ("http://" + "x.x" * 200, "refused"),
        ("http://xn--a", "refused"),
    ],
)
async def test_an_odd_endpoint(client: HttpAgentClient, endpoint: str, reason: str) -> None:
    """Has an ending, and raises nothing."""
    assert await client.call(a_call(endpoint), 5) == Refused(reason)


@pytest.mark.anyio
async def test_closing_twice(client: HttpAgentClient) -> None:
    """Is safe."""
    await client.close()
    await client.close()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "ending"),
    [
        (200, Succeeded(None)), (204, Succeeded(None)), (302, Garbled("status_302")), (404, Garbled("status_404")),
        (410, Garbled("status_410")), (429, Busy(None)), (500, Garbled("status_500")), (503, Busy(None)),
    ],
)  # fmt: skip
async def test_a_notice(client: HttpAgentClient, status: int, ending: Any) -> None:
    """Arrives as it is, headers and all; a 2xx is success, a redirect is not followed."""
    async with ScriptedAgent("receiver", status) as receiver:
        notice = Notice(f"{receiver.endpoint}/call", {"webhook-id": "1"}, b'{"told": 1}')
        assert await client.post(notice, 5.0) == ending
        (seen,) = receiver.calls
    assert (seen.headers["webhook-id"], seen.body) == ("1", {"told": 1})


@pytest.mark.anyio
async def test_a_notice_to_nobody_and_to_somebody_slow(client: HttpAgentClient) -> None:
    """Ends as a call to an agent does."""
    assert await client.post(Notice("http://127.0.0.1:1/x", {}, b"{}"), 5.0) == Refused()
    never = anyio.Event()

    async def wait(_request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async with ScriptedAgent("receiver", wait) as receiver:
        assert await client.post(Notice(f"{receiver.endpoint}/call", {}, b"{}"), 0.1) == TimedOut()
        never.set()
