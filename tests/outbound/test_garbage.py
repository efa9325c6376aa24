"""Agents that answer garbage, over real sockets: every class has its ending, in time, and nothing of it gets on."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from garbage import CLASSES, GOOD, LARGEST, TASK, a_request, a_silent_host, an_agent, an_answer, says
from msgspec.structs import replace

from orchestrator.domain.reach import Network, Ports, Reach
from orchestrator.outbound import connections
from orchestrator.outbound.agents import HttpAgentClient
from orchestrator.outbound.ports import Call, Refused, Succeeded, TimedOut

pytestmark = pytest.mark.anyio

LOOPBACK = Reach.of([Network("127.0.0.0/8")], [], [Ports("1-65535")])
WITHIN = 0.5


@asynccontextmanager
async def a_client() -> AsyncGenerator[HttpAgentClient]:
    client = HttpAgentClient(reach=LOOPBACK, max_answer_bytes=LARGEST, connect_timeout_s=0.3)
    try:
        yield client
    finally:
        await client.close()


def a_call(endpoint: str) -> Call:
    trace = f"00-{'0' * 31}1-{'0' * 15}1-01"
    return Call(endpoint, TASK, "c", "embed", {}, {}, 1, 1e9, trace)


@pytest.mark.parametrize("name", CLASSES)
async def test_an_answer_that_is_garbage(name: str) -> None:
    """Has its ending in time, raises nothing, and says nothing of the agent's words."""
    behave, expected = CLASSES[name]
    async with an_agent(behave) as endpoint, a_client() as client:
        began = anyio.current_time()
        ending = await client.call(a_call(endpoint), WITHIN)
        assert ending in (expected if isinstance(expected, tuple) else (expected,))
        assert anyio.current_time() - began < WITHIN + 1.5


async def test_an_address_that_swallows_everything() -> None:
    """A host that drops our packets is a refusal after the time for a connection: the agent has not seen the task."""
    async with a_silent_host() as endpoint, a_client() as client:
        assert await client.call(a_call(endpoint), 5) == Refused()


async def test_an_answer_that_names_its_task() -> None:
    """Is one for it."""
    answer = an_answer(b'{"success": true, "output": 1, "request_id": "%b"}' % TASK.encode())
    async with an_agent(says(answer)) as endpoint, a_client() as client:
        assert await client.call(a_call(endpoint), 5) == Succeeded(1)


SPARE = an_answer(b'{"success": true, "output": "of another"}')


@pytest.mark.parametrize(
    "cut", [len(SPARE), 8, 40, len(SPARE) - 5], ids=["whole", "its start", "half a head", "half a body"]
)
async def test_an_answer_too_many(cut: int) -> None:
    """Is not taken for the answer to the next task: that one has a connection of its own, and its own answer."""
    calls = 0

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        rest = b""
        while True:
            await a_request(reader)
            calls += 1
            right = an_answer(b'{"success": true, "output": "right %d"}' % calls)
            writer.write(rest + right + SPARE[:cut])
            await writer.drain()
            rest = SPARE[cut:]

    async with an_agent(behave) as endpoint, a_client() as client:
        for number in range(1, 6):
            ending: Any = await client.call(a_call(endpoint), 5)
            assert ending == Succeeded(f"right {number}")


async def test_a_connection_that_nobody_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is closed from our side after a while."""
    monkeypatch.setattr(connections, "KEPT_S", 0.02)
    monkeypatch.setattr(connections, "SWEEP_S", 0.01)
    left = anyio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        writer.write(an_answer(GOOD))
        assert await reader.read() == b""
        left.set()

    async with an_agent(behave) as endpoint, a_client() as client:
        assert await client.call(a_call(endpoint), 5) == Succeeded(1)
        with anyio.fail_after(5):
            await left.wait()


async def test_a_header_that_would_be_two() -> None:
    """Is not sent, whatever it came from: it could make a second request of one."""
    async with an_agent(says(an_answer(GOOD))) as endpoint, a_client() as client:
        for text in ("a\r\nX: b", "a\nX: b", "a\rb"):
            with pytest.raises(ValueError, match="no line"):
                await client.call(replace(a_call(endpoint), traceparent=text), 5)


async def test_a_connection_that_the_agent_ended() -> None:
    """Is not used again: the next call finds another, whether or not the end was announced."""
    calls, closed = 0, anyio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        await a_request(reader)
        calls += 1
        writer.write(an_answer(GOOD, *(["Connection: close"] if calls % 2 else [])))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with an_agent(behave) as endpoint, a_client() as client:
        for number in range(1, 5):
            closed = anyio.Event()
            assert await client.call(a_call(endpoint), 5) == Succeeded(1)
            assert calls == number
            await closed.wait()
            # The end has come by now; the loop has to look at the socket once more.
            for _ in range(3):
                await anyio.lowlevel.checkpoint()


async def test_a_late_answer() -> None:
    """To a call that was given up is not taken for the answer to the next one."""
    released = anyio.Event()
    calls = 0

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        await a_request(reader)
        calls += 1
        if calls == 1:
            await released.wait()
        writer.write(an_answer(b'{"success": true, "output": %d}' % calls))
        await writer.drain()

    async with an_agent(behave) as endpoint, a_client() as client:
        assert await client.call(a_call(endpoint), 0.2) == TimedOut()
        released.set()
        assert await client.call(a_call(endpoint), 5) == Succeeded(2)


@pytest.mark.parametrize(("first", "second"), [(1, 10), (10, 1)])
async def test_the_time_of_a_call_on_a_connection_that_was_used(first: float, second: float) -> None:
    """Is its own, whether the one before had less or more."""
    released = anyio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        writer.write(an_answer(GOOD))
        await a_request(reader)
        await released.wait()
        writer.write(an_answer(GOOD))
        await reader.read()

    async with an_agent(behave) as endpoint, an_agent(says(then_wait=True)) as mute, a_client() as client:
        assert await client.call(a_call(endpoint), first) == Succeeded(1)

        async def beside() -> None:
            # Over when the time of the shorter call is over as well.
            assert await client.call(a_call(mute), 1.5) == TimedOut()
            released.set()

        async with anyio.create_task_group() as group:
            group.start_soon(beside)
            expected = TimedOut() if second < first else Succeeded(1)
            assert await client.call(a_call(endpoint), second) == expected
