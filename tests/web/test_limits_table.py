"""Every limit of a request as a line of a table: what is one below it and what just fits is served, one more is not.

Over real sockets, and what HTTP itself bounds for each of the classes that read it. What is refused leaves nothing
behind.
"""

import json
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream
from stores import count

from orchestrator import HttpProtocol
from orchestrator.settings import SettingsError, load
from orchestrator.settings_sources import variable_of
from orchestrator.testing import Service, a_task
from orchestrator.web.door import Door
from orchestrator.web.fast_door import FastDoor

pytestmark = pytest.mark.anyio

PATIENCE_S = 10.0
KEPT = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
HOST = ("Host: localhost", "Connection: close")
AGENT = {"agent_id": "agent-1", "endpoint": "http://127.0.0.1:9009", "capabilities": ["embed"]}
Answer = tuple[int, dict[str, str], bytes]
Ask = Callable[[Service, int], Awaitable[Answer]]


def parted(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split(" ")[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}, body


def head(method: str, target: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", *HOST, *headers, "", ""]).encode()


def filled(size: int, template: str, filler: str) -> str:
    """`template` with so much of `filler` at the place of % that it is `size` long."""
    return template.replace("%", filler * (size - len(template) + 1))


# How a request is made that takes `n` of what is limited; of several, the last one's answer counts.


async def a_head(service: Service, n: int) -> Answer:
    return parted(await service.raw(filled(n, head("GET", "/health", "X: %").decode(), "x").encode()))


async def a_head_of_spaces(service: Service, n: int) -> Answer:
    """Which are no part of any header."""
    return parted(await service.raw(filled(n, head("GET", "/health", "X:%x").decode(), " ").encode()))


async def a_head_in_two_pieces(service: Service, n: int) -> Answer:
    """Its last byte comes alone, when the server has read the others: they came with a request that it answered."""
    text = filled(n, head("GET", "/health", "X: %").decode(), "x").encode()
    async with await anyio.connect_tcp("127.0.0.1", service.port) as stream:
        await stream.send(KEPT + text[:-1])
        with anyio.fail_after(PATIENCE_S):
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        await stream.send(text[-1:])
        return parted(await all_of(stream))


async def headers(service: Service, n: int) -> Answer:
    return parted(await service.raw(head("GET", "/health", *(f"X-{number}: x" for number in range(n - len(HOST))))))


async def a_target(service: Service, n: int) -> Answer:
    return parted(await service.raw(head("GET", filled(n, "/health?%", "x"))))


async def sent(path: str, body: bytes, service: Service, *, chunked: bool = False) -> Answer:
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    return parted(await service.raw(head("POST", path, "Content-Type: application/json", length) + framed))


def body(path: str, value: Any, *, chunked: bool = False) -> Ask:
    """A body of n bytes: spaces make it so long."""

    async def ask(service: Service, n: int) -> Answer:
        return await sent(path, json.dumps(value).encode().ljust(n), service, chunked=chunked)

    return ask


def depth(path: str, around: Callable[[Any], Any], above: int) -> Ask:
    """JSON in which a value stands in n containers, `above` of which are there anyway."""

    async def ask(service: Service, n: int) -> Answer:
        nested = json.loads("[" * (n - above) + "]" * (n - above))
        return await sent(path, json.dumps(around(nested)).encode(), service)

    return ask


def keys(path: str, around: Callable[[Any], Any]) -> Ask:
    """JSON in which all objects have n keys together."""

    async def ask(service: Service, n: int) -> Answer:
        there = json.dumps(around({})).count('": ')
        return await sent(path, json.dumps(around({str(k): k for k in range(n - there)})).encode(), service)

    return ask


def a_task_around(payload: Any) -> Any:
    return {**a_task(), "payload": {"a": payload}}


def an_agent_around(more: Any) -> Any:
    """With a field that there is not: what is within the bounds is 422, what is not 400."""
    return {**AGENT, "more": more}


async def requests(service: Service, n: int) -> Answer:
    for _ in range(n - 1):
        await service.raw(head("GET", "/openapi.json"))
    return parted(await service.raw(head("GET", "/openapi.json")))


def tasks(priority: str) -> Ask:
    async def ask(service: Service, n: int) -> Answer:
        answers = [await sent("/route_task", json.dumps(a_task(priority=priority)).encode(), service) for _ in range(n)]
        return answers[-1]

    return ask


async def all_of(stream: SocketStream) -> bytes:
    found = b""
    with anyio.fail_after(PATIENCE_S):
        while True:
            try:
                found += await stream.receive()
            except anyio.EndOfStream:
                return found


async def served(stack: AsyncExitStack, service: Service, peer: str) -> bytes:
    """The answer on a connection that then stays."""
    connection = await anyio.connect_tcp("127.0.0.1", service.port, local_host=peer)
    stream = await stack.enter_async_context(connection)
    await stream.send(KEPT)
    with anyio.fail_after(PATIENCE_S):
        return await stream.receive()


def connections(most: int, *, apart: bool) -> Ask:
    """The n-th connection at once, each from a peer of its own or all from one."""

    async def ask(service: Service, n: int) -> Answer:
        peers = [f"127.0.0.{2 + number * apart}" for number in range(n)]
        async with AsyncExitStack() as stack:
            for peer in peers[: min(n, most)]:
                answer = await served(stack, service, peer)
                assert answer.startswith(b"HTTP/1.1 200")
            if n > most:
                # It is told so before it says anything.
                extra = await anyio.connect_tcp("127.0.0.1", service.port, local_host=peers[-1])
                answer = await all_of(await stack.enter_async_context(extra))
            return parted(answer)

    return ask


async def streams(service: Service, n: int) -> Answer:
    """The n-th stream of a task's events at once."""
    task_id = (await service.route({"task_type": "indexing"})).json["task_id"]
    asked = f"GET /task/{task_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    async with AsyncExitStack() as stack:
        answer = b""
        for _ in range(n):
            stream = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", service.port))
            await stream.send(asked)
            with anyio.fail_after(PATIENCE_S):
                answer = await stream.receive()
        return parted(answer)


async def agents(service: Service, n: int) -> Answer:
    answers = [await service.ask("POST", "/register_agent", json={**AGENT, "agent_id": f"a-{k}"}) for k in range(n)]
    return answers[-1].status, {name.lower(): text for name, text in answers[-1].headers.items()}, answers[-1].body


@dataclass(frozen=True)
class Limit:
    """The setting and its value; the request, its answers within the limit and beyond it, and what is stored then."""

    setting: str
    most: int
    ask: Ask
    served: int
    refused: int
    code: str
    tasks: int = 0


TASK, BATCH, AGENTS, RESULT = "/route_task", "/route_tasks", "/register_agent", "/task/x/result"
GIVEN = {"agent_id": "a", "attempt": 1, "lease": "0" * 32, "success": True, "output": {}}
TOO_LARGE, NOT_JSON, LIMITED, FULL = "E_TOO_LARGE", "E_INVALID_JSON", "E_RATE_LIMITED", "E_OVERLOADED"
HEAD = "E_HEADERS_TOO_LARGE"

TABLE: dict[str, Limit] = {
    "connections": Limit("limits.connections", 4, connections(4, apart=True), 200, 503, FULL),
    "connections of a peer": Limit("limits.connections_per_peer", 4, connections(4, apart=False), 200, 429, LIMITED),
    "bytes of a head": Limit("limits.header_bytes", 1_500, a_head, 200, 431, HEAD),
    "bytes of a head of spaces": Limit("limits.header_bytes", 1_500, a_head_of_spaces, 200, 431, HEAD),
    "bytes of a head in pieces": Limit("limits.header_bytes", 1_500, a_head_in_two_pieces, 200, 431, HEAD),
    "headers": Limit("limits.headers", 10, headers, 200, 431, HEAD),
    "bytes of a target": Limit("limits.target_bytes", 300, a_target, 200, 414, "E_TARGET_TOO_LONG"),
    "bytes of a task": Limit("web.max_body_bytes", 1_100, body(TASK, a_task()), 202, 413, TOO_LARGE),
    "bytes of a task in chunks": Limit(
        "web.max_body_bytes", 1_100, body(TASK, a_task(), chunked=True), 202, 413, TOO_LARGE
    ),
    "bytes of an agent": Limit("web.max_body_bytes", 1_100, body(AGENTS, AGENT), 200, 413, TOO_LARGE),
    "bytes of an agent in chunks": Limit(
        "web.max_body_bytes", 1_100, body(AGENTS, AGENT, chunked=True), 200, 413, TOO_LARGE
    ),
    "bytes of a batch": Limit("web.max_batch_bytes", 1_100, body(BATCH, [a_task()]), 207, 413, TOO_LARGE),
    "bytes of a batch in chunks": Limit(
        "web.max_batch_bytes", 1_100, body(BATCH, [a_task()], chunked=True), 207, 413, TOO_LARGE
    ),
    # There is no such task: a result within the bounds is 404.
    "bytes of a result": Limit("agents.max_answer_bytes", 1_100, body(RESULT, GIVEN), 404, 413, TOO_LARGE),
    "depth of a task": Limit("limits.json_depth", 6, depth(TASK, a_task_around, 2), 202, 400, NOT_JSON),
    "depth of an agent": Limit("limits.json_depth", 6, depth(AGENTS, an_agent_around, 1), 422, 400, NOT_JSON),
    "keys of a task": Limit("limits.json_keys", 20, keys(TASK, a_task_around), 202, 400, NOT_JSON),
    "keys of an agent": Limit("limits.json_keys", 20, keys(AGENTS, an_agent_around), 422, 400, NOT_JSON),
    "requests of a caller": Limit("limits.requests_burst", 5, requests, 200, 429, LIMITED),
    "urgent tasks of a caller": Limit("limits.urgent_burst", 4, tasks("urgent"), 202, 429, LIMITED, 4),
    **{
        f"open {name} tasks": Limit(f"queue.max_open_{name}", 3, tasks(name), 202, 503, FULL, 3)
        for name in ("urgent", "high", "normal", "low")
    },
    "streams of events": Limit("web.max_streams", 2, streams, 200, 503, FULL, 1),
    "agents": Limit("agents.max_agents", 3, agents, 200, 503, FULL),
}
SLOW_RATES = {"ORCHESTRATOR_LIMITS_REQUESTS_PER_S": "0.01", "ORCHESTRATOR_LIMITS_URGENT_PER_S": "0.01"}
"""So that nothing comes back while a burst is used up."""
OF_HTTP = re.compile(r"limits\.(connections|header|target)|web\.max_b")
DOORS = [
    (name, door)
    for name, limit in TABLE.items()
    for door in ((FastDoor, Door, HttpProtocol) if OF_HTTP.match(limit.setting) else (FastDoor,))
]


@pytest.mark.parametrize("over", [-1, 0, 1], ids=["below", "at", "above"])
@pytest.mark.parametrize(("name", "door"), DOORS, indirect=["door"])
async def test_a_limit(name: str, door: type, over: int, tmp_path: Path) -> None:
    """Below and at it the request is served; above it is refused by a problem, with a time where waiting helps."""
    limit = TABLE[name]
    rates = SLOW_RATES if limit.code == LIMITED else {}
    async with Service(tmp_path / "ledger.db", {**rates, variable_of(limit.setting): str(limit.most)}) as service:
        status, told, text = await limit.ask(service, limit.most + over)
        assert status == (limit.refused if over > 0 else limit.served), text
        stored = count(f"sqlite:///{tmp_path}/ledger.db", "tasks")
    if over > 0:
        assert told["content-type"] == "application/problem+json"
        assert (json.loads(text)["code"], json.loads(text)["status"]) == (limit.code, limit.refused)
        assert ("retry-after" in told) == (limit.refused in (429, 503))
        assert stored == limit.tasks


LARGEST = {
    "bytes of a head": 2**20,
    "bytes of a head in pieces": 2**20,
    "headers": 1_000,
    "bytes of a target": 65_536,
    "depth of a task": 200,
}


@pytest.mark.parametrize("over", [0, 1], ids=["at", "above"])
@pytest.mark.parametrize("name", LARGEST)
async def test_the_largest_that_can_be_set(name: str, door: type, over: int, tmp_path: Path) -> None:
    """Holds as well: no bound of a library's own comes before it; and a larger one cannot be set."""
    limit, most = TABLE[name], LARGEST[name]
    # A large head, or a long target, has to fit into the other bounds.
    environ = {"ORCHESTRATOR_LIMITS_HEADER_BYTES": str(2**20), variable_of(limit.setting): str(most)}
    async with Service(tmp_path / "ledger.db", environ) as service:
        status, _, text = await limit.ask(service, most + over)
    assert status == (limit.refused if over else limit.served), text[:300]
    with pytest.raises(SettingsError, match=limit.setting):
        load(environ={variable_of(limit.setting): str(most + 1)})


def test_the_table_has_every_limit() -> None:
    """Each setting that bounds a request by a number has a line, or the name of the test that tries it."""
    elsewhere = {
        "limits.idle_s",  # web/test_server.py
        "limits.requests_per_s", "limits.urgent_per_s", "limits.callers",  # domain/test_rate.py
        "web.max_batches",  # web/test_batches.py
        "queue.max_open",  # web/test_limits.py
    }  # fmt: skip
    settings = load()
    bounds = {f"limits.{name}" for name in settings.limits.__struct_fields__}
    bounds |= {f"web.{name}" for name in settings.web.__struct_fields__ if name.startswith("max_")} - {"web.max_wait_s"}
    bounds |= {f"queue.{name}" for name in settings.queue.__struct_fields__ if name.startswith("max_")}
    assert bounds - elsewhere <= {limit.setting for limit in TABLE.values()}
    assert elsewhere <= bounds


@pytest.mark.usefixtures("door")
@pytest.mark.parametrize("path", [TASK, BATCH, AGENTS, RESULT])
async def test_a_body_that_stops_half_way(path: str, tmp_path: Path) -> None:
    """408 when its time is over, whoever reads it, and nothing is stored."""
    begun = head("POST", path, "Content-Type: application/json", "Content-Length: 100") + b'{"case_id"'
    async with Service(tmp_path / "ledger.db", {"ORCHESTRATOR_WEB_BODY_TIMEOUT_S": "0.2"}) as service:
        status, _, text = parted(await service.raw(begun))
        assert (status, json.loads(text)["code"]) == (408, "E_REQUEST_TIMEOUT")
        assert count(f"sqlite:///{tmp_path}/ledger.db", "tasks") == 0
