"""Limits beside their table: for several callers, classes, ledgers and batches; beyond them nothing is stored."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.testing import Reply, Service, a_task
from orchestrator.web.connections import peer_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("door")]

GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def limited(ledger: Mapping[str, str] | Path, **limits: Any) -> AsyncGenerator[Service]:
    environ = {f"ORCHESTRATOR_{name.upper()}": str(value) for name, value in limits.items()}
    async with Service(ledger / "ledger.db" if isinstance(ledger, Path) else ledger, environ) as service:
        yield service


def head(*headers: str) -> bytes:
    return "\r\n".join(["GET /health HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]).encode()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_a_head_without_an_end(tmp_path: Path) -> None:
    """431 beyond the bound, whether it comes at once or piece by piece."""
    async with limited(tmp_path, limits_header_bytes=2048) as service:
        endless = head("X: " + "x" * 2048)[:-4]
        assert status(await service.raw(endless)) == 431
        assert status(await service.raw(*(endless[i : i + 512] for i in range(0, len(endless), 512)))) == 431


async def test_the_depth_and_the_keys_of_json(ledger, rows) -> None:
    """400 beyond the bound, for tasks, agents and batches alike."""
    async with limited(ledger, limits_json_depth=6, limits_json_keys=20) as service:
        for depth, expected in ((5, 202), (6, 202), (7, 400)):
            nested = json.loads("[" * (depth - 2) + "]" * (depth - 2))
            reply = await service.route({"payload": {"a": nested}})
            assert reply.status == expected, (depth, reply)
            batch = await service.ask("POST", "/route_tasks", json=[{**a_task(), "payload": {"a": nested}}])
            assert batch.json["outcomes"][0]["status"] == expected, (depth, batch)
        usual = len(a_task())
        for keys, expected in ((19, 202), (20, 202), (21, 400)):
            reply = await service.route({"payload": {str(n): n for n in range(keys - usual)}})
            assert reply.status == expected, (keys, reply)
        too_many = {"agent_id": "a", "endpoint": "http://127.0.0.1:9009", **{str(n): n for n in range(20)}}
        assert (await service.ask("POST", "/register_agent", json=too_many)).json["code"] == "E_INVALID_JSON"
    assert rows("tasks") == 6


async def test_a_callers_rate(ledger, rows) -> None:
    """429 with Retry-After beyond its burst, for this caller alone; who watches over the box is still answered."""
    async with limited(ledger, limits_requests_per_s=0.01, limits_requests_burst=3) as service:
        for expected in (202, 202, 202, 429, 429):
            reply = await service.route({})
            assert reply.status == expected, reply
        assert reply.json["code"] == "E_RATE_LIMITED"
        assert 90 <= int(reply.headers["Retry-After"]) <= 100
        for path in ("/health", "/ready", "/metrics"):
            assert (await service.ask("GET", path)).status == 200
        metrics = (await service.ask("GET", "/metrics")).body
        assert b'orchestrator_tasks_failed_total{reason="E_RATE_LIMITED"} 2.0' in metrics
        assert status(await from_peer(service, "127.0.0.2", b"GET /agents HTTP/1.1\r\nHost: localhost\r\n\r\n")) == 200
    assert rows("tasks") == 3


async def test_a_callers_urgent_tasks(ledger, rows) -> None:
    """Have a smaller bound of their own: beyond it 429, one by one in a batch, while other work goes on."""
    async with limited(ledger, limits_urgent_per_s=0.01, limits_urgent_burst=3) as service:
        urgent = {"priority": "urgent"}
        assert (await service.route(urgent)).status == 202
        batch = await service.ask("POST", "/route_tasks", json=[{**a_task(), **urgent}] * 3 + [a_task()])
        outcomes = batch.json["outcomes"]
        assert [outcome["status"] for outcome in outcomes] == [202, 202, 429, 202]
        assert outcomes[2]["retry_after"] > 0
        refused = await service.route(urgent)
        assert (refused.status, refused.json["code"]) == (429, "E_RATE_LIMITED")
        assert int(refused.headers["Retry-After"]) > 0
        assert (await service.route({"priority": "high"})).status == 202
    assert rows("tasks") == 5


async def test_the_open_tasks_of_a_class(ledger, rows) -> None:
    """503 with Retry-After beyond its own bound, or beyond the common one where it has none."""
    async with limited(ledger, queue_max_open=2, queue_max_open_low=1) as service:
        for priority, bound in (("low", 1), ("normal", 2), ("urgent", 2)):
            replies = [await service.route({"priority": priority}) for _ in range(bound + 1)]
            assert [reply.status for reply in replies] == [202] * bound + [503]
            assert replies[-1].json["code"] == "E_OVERLOADED"
            assert int(replies[-1].headers["Retry-After"]) > 0
    assert rows("tasks") == 5


async def from_peer(service: Service, peer: str, sent: bytes) -> bytes:
    """What a client at that address is answered first."""
    async with await anyio.connect_tcp("127.0.0.1", service.port, local_host=peer) as stream:
        await stream.send(sent)
        with anyio.fail_after(10):
            return await stream.receive()


async def test_the_connections_of_a_peer(tmp_path: Path) -> None:
    """429 beyond its bound; another peer is served meanwhile, and the first again when one of its own is closed."""
    async with limited(tmp_path, limits_connections_per_peer=3) as service, anyio.create_task_group():
        streams = [await anyio.connect_tcp("127.0.0.1", service.port, local_host="127.0.0.2") for _ in range(3)]
        for stream in streams:
            await stream.send(GET)
            assert status(await stream.receive()) == 200
        refused = await from_peer(service, "127.0.0.2", GET)
        assert status(refused) == 429
        assert b"E_RATE_LIMITED" in refused
        assert b"retry-after: 1\r\n" in refused
        assert status(await from_peer(service, "127.0.0.3", GET)) == 200
        await streams.pop().aclose()
        answer = b"HTTP/1.1 429"
        with anyio.fail_after(10):
            while status(answer) == 429:
                answer = await from_peer(service, "127.0.0.2", GET)
        assert status(answer) == 200
        for stream in streams:
            await stream.aclose()


async def test_good_clients_beside_bad_ones(tmp_path: Path) -> None:
    """Connections that idle and trickle fill their peer's share, and nobody else's: good clients are all served."""
    async with limited(tmp_path, limits_connections=64, limits_connections_per_peer=8) as service:
        held: list[anyio.abc.SocketStream] = []
        for number in range(40):
            stream = await anyio.connect_tcp("127.0.0.1", service.port, local_host=f"127.0.0.{2 + number % 2}")
            held.append(stream)
            # The first bytes of a request, and never the rest; a server that has enough of this peer says so at once.
            await stream.send(b"POST /route_task HTTP/1.1\r\nHost: localhost\r\n" if number % 4 else b"G")
            if number >= 2 * 8:
                with anyio.fail_after(10):
                    assert status(await stream.receive()) == 429
        replies: list[Reply] = []

        async def good() -> None:
            replies.append(await service.route({}))

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(good)
        assert [reply.status for reply in replies] == [202] * 8
        for stream in held:
            await stream.aclose()


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("10.1.2.3", 9), "10.1.2.3"),
        (("::ffff:10.1.2.3", 9, 0, 0), "10.1.2.3"),
        (("2001:db8:1:2:3:4:5:6", 9, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::9", 9, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 9, 0, 2), "fe80::/64"),
        (("::1", 9, 0, 0), "::/64"),
        ("", ""),
        ("/run/orchestrator.sock", ""),
        (None, ""),
        ((), ""),
    ],
)
def test_who_a_peer_is(address: Any, peer: str) -> None:
    """One IPv4 address, or one IPv6 network of 64 bits: a machine has all of that to itself."""
    assert peer_of(address) == peer
