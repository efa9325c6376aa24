"""The second listener: it shows the box when the first has no connection left for who watches, and nothing else."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import anyio
import pytest
from clinic import Clinic
from ports import reserved_port

from orchestrator.client import Client, Unreachable
from orchestrator.listening import CannotListen, Listeners, open_listeners
from orchestrator.settings import load
from orchestrator.testing import Service, a_task
from orchestrator.web import watch
from orchestrator.web.hosts import names_of
from orchestrator.web.server import listen
from orchestrator.web.watch import CONNECTIONS, CONNECTIONS_PER_PEER, PATHS

pytestmark = pytest.mark.anyio

ON = {"ORCHESTRATOR_WEB_WATCH_PORT": "1"}
"""Any port: in tests a free one is taken."""
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = json.dumps(a_task()).encode()


@asynccontextmanager
async def watched(folder: Path, **limits: int) -> AsyncGenerator[Service]:
    environ = {f"ORCHESTRATOR_LIMITS_{name.upper()}": str(value) for name, value in limits.items()}
    async with Service(folder / "ledger.db", {**ON, **environ}) as service:
        yield service


def asking(line: str, body: bytes = b"", host: str = "localhost") -> bytes:
    lines = [f"{line} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def parts(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split(" ")[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}, body


async def refusal(port: int, peer: str = "127.0.0.9") -> int:
    """The status that a connection too many is told before it says anything."""
    async with await anyio.connect_tcp("127.0.0.1", port, local_host=peer) as stream:
        with anyio.fail_after(10):
            return parts(await stream.receive())[0]


async def hold(stack: AsyncExitStack, port: int, peer: str) -> None:
    """A connection that was served, so that it counts, and idles from then on."""
    stream = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port, local_host=peer))
    await stream.send(GET)
    with anyio.fail_after(10):
        assert parts(await stream.receive())[0] == 200


@pytest.mark.usefixtures("door")
async def test_a_flood_on_the_first(tmp_path: Path) -> None:
    """All connections of the first are taken: it turns away who watches, the second answers as if nothing were."""
    async with watched(tmp_path, connections=4) as service, AsyncExitStack() as flood:
        for number in range(4):
            await hold(flood, service.port, f"127.0.0.{2 + number}")
        assert await refusal(service.port) == 503
        for path in PATHS:
            status, _, body = parts(await service.raw(asking(f"GET {path}"), port=service.watch_port))
            assert (status, bool(body)) == (200, True), path
        assert await refusal(service.port) == 503


async def test_a_peer_that_has_its_share_of_the_first(tmp_path: Path) -> None:
    """Who shares an address with those that flood, as behind one proxy, is answered by the second."""
    async with watched(tmp_path, connections_per_peer=2) as service, AsyncExitStack() as flood:
        for _ in range(2):
            await hold(flood, service.port, "127.0.0.1")
        assert await refusal(service.port, "127.0.0.1") == 429
        await hold(flood, service.watch_port, "127.0.0.1")


@pytest.mark.usefixtures("door")
async def test_both_say_the_same(tmp_path: Path) -> None:
    """The three stay on the first listener; the second gives the same answers, to HEAD without their body."""
    async with watched(tmp_path) as service:
        for path in ("/health", "/ready"):
            for method in ("GET", "HEAD"):
                first = parts(await service.raw(asking(f"{method} {path}")))
                second = parts(await service.raw(asking(f"{method} {path}"), port=service.watch_port))
                for _, headers, _ in (first, second):
                    headers.pop("date")
                assert second == first
                assert bool(second[2]) == (method == "GET")
        status, headers, body = parts(await service.raw(asking("GET /metrics"), port=service.watch_port))
        assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert b"orchestrator_queue_size" in body
        assert (await service.ask("GET", "/metrics")).status == 200
        service.orchestrator.drain()
        status, _, body = parts(await service.raw(asking("GET /ready"), port=service.watch_port))
        assert (status, json.loads(body)["reasons"]) == (503, ["shutting_down"])


@pytest.mark.parametrize(
    "line",
    [
        "POST /route_task", "POST /health", "DELETE /metrics", "OPTIONS /health", "PUT /ready", "GET /", "GET /agents",
        "GET /queues", "GET /openapi.json", "GET /audit", "GET /task/x", "GET /health/", "GET //health", "GET /healthz",
        "GET /metrics/x", "GET /%2e/health/..", "GET /Health", "GET /ui/sign-in", "GET /docs", "POST /register_agent",
    ],
)  # fmt: skip
async def test_everything_else(watched_service: Service, line: str) -> None:
    """Is 404, a problem document, whatever it would be on the first listener."""
    status, headers, body = parts(await watched_service.raw(asking(line, BODY), port=watched_service.watch_port))
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert (json.loads(body)["code"], json.loads(body)["status"]) == ("E_NOT_FOUND", 404)
    assert headers["x-content-type-options"] == "nosniff"
    assert await watched_service.audit() == []


@pytest.fixture
async def watched_service(tmp_path: Path) -> AsyncGenerator[Service]:
    async with watched(tmp_path) as service:
        yield service


async def test_names_that_are_not_ours(watched_service: Service) -> None:
    """Are refused there as on the first."""
    foreign = asking("GET /health", host="attacker.example")
    assert parts(await watched_service.raw(foreign, port=watched_service.watch_port))[0] == 421


async def test_a_listener_that_others_reach_beside_one_that_they_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With authentication it may be called by any name, as the first could be there."""
    environ = {**ON, "ORCHESTRATOR_AUTH_API_KEYS": "true"}
    apart = load(environ={**environ, "ORCHESTRATOR_WEB_WATCH_HOST": "10.0.0.1"})
    names: list[Any] = []
    monkeypatch.setattr(watch, "Hosts", lambda _app, settings: names.append(names_of(settings)))
    for settings in (apart, load(environ=environ)):
        watch.build_watch(None, None, settings)  # pyright: ignore[reportArgumentType]
    assert names == [None, frozenset({"localhost"})]


async def test_its_own_connections(tmp_path: Path) -> None:
    """Are few, by peer and in all; who has them all takes none from the first."""
    async with watched(tmp_path) as service, AsyncExitStack() as flood:
        for _ in range(CONNECTIONS_PER_PEER):
            await hold(flood, service.watch_port, "127.0.0.2")
        assert await refusal(service.watch_port, "127.0.0.2") == 429
        for number in range(CONNECTIONS - CONNECTIONS_PER_PEER):
            await hold(flood, service.watch_port, f"127.0.0.{3 + number // 16}")
        assert await refusal(service.watch_port) == 503
        await hold(flood, service.port, "127.0.0.2")
        began = anyio.current_time()
        await service.stop()
        assert anyio.current_time() - began < 3, "idle connections hold up the end"


async def test_over_tls(tmp_path: Path) -> None:
    """The second asks for certificates where the first does."""
    clinic = Clinic(tmp_path / "clinic")
    async with Service(tmp_path / "ledger.db", {**clinic.environ, **ON}) as service:
        url = f"https://127.0.0.1:{service.watch_port}"
        async with Client(url, None, clinic.context(clinic.ca.issue_cert("prometheus.clinic"))) as client:
            assert (await client.call("GET", "/health")).status == 200
        async with Client(url, None, clinic.context(None)) as client:
            with pytest.raises(Unreachable):
                await client.call("GET", "/health")


async def test_an_agent_there(watched_service: Service) -> None:
    """Is refused: the orchestrator does not call itself."""
    agent = {"agent_id": "a", "endpoint": f"http://127.0.0.1:{watched_service.watch_port}", "capabilities": ["embed"]}
    reply = await watched_service.ask("POST", "/register_agent", json=agent)
    assert (reply.status, reply.json["code"]) == (422, "E_VALIDATION")


async def test_its_place_in_the_tree(watched_service: Service) -> None:
    """Is the last one: when it fails, nothing else is restarted."""
    assert [child.name for child in watched_service.orchestrator.status()][-2:] == ["web", "watch"]


async def test_an_address_that_is_taken() -> None:
    """The start is refused by it, and the first socket is closed again."""
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        handed = listen("127.0.0.1", 0)
        settings = load(environ={"ORCHESTRATOR_WEB_WATCH_PORT": str(port)})
        with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            open_listeners(settings.web, handed)
        assert handed.fileno() == -1


async def test_none_by_default() -> None:
    """Without the setting there is one socket."""
    listeners = open_listeners(load(environ={"ORCHESTRATOR_WEB_PORT": "0"}).web)
    assert listeners == Listeners(listeners.web, None)
    listeners.close()


def command(folder: Path, *words: str, **own: str) -> dict[str, Any]:
    environ = {**os.environ, "DATABASE_URL": f"sqlite:///{folder}/ledger.db", **own}
    return {
        "args": [sys.executable, "-m", "orchestrator", "serve", *words],
        "env": environ,
        "stderr": subprocess.PIPE,
        "text": True,
    }


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("", "8081", "web.watch_port"),
        ("", "70000", "web.watch_port"),
        ("", "-1", "web.watch_port"),
        ("", "health", "web.watch_port"),
        ("0.0.0.0", "8082", "no authentication beyond this machine"),
        ("192.0.2.1", "8082", "cannot listen on 192.0.2.1:8082"),
    ],
)
def test_what_it_does_not_start_with(host: str, port: str, said: str, tmp_path: Path) -> None:
    """One line and the exit code of a setting (2), or of an address that cannot be had (69)."""
    own = {"ORCHESTRATOR_WEB_WATCH_HOST": host, "ORCHESTRATOR_WEB_WATCH_PORT": port}
    done = subprocess.run(**command(tmp_path, "--port", "8081", **own), timeout=30, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (69 if "listen" in said else 2, 1), done.stderr
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_process(tmp_path: Path) -> None:
    """Says where both are, serves on both, and ends well."""
    port = reserved_port()
    server = subprocess.Popen(**command(tmp_path, "--port", "0", ORCHESTRATOR_WEB_WATCH_PORT=str(port)))
    try:
        assert server.stderr
        lines = [server.stderr.readline().strip() for _ in range(2)]
        assert lines[1] == f"watched on http://127.0.0.1:{port}"
        for line in lines:
            with urlopen(f"http://127.0.0.1:{line.rsplit(':')[-1]}/health", timeout=10) as answer:
                assert json.load(answer)["status"] == "ok"
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
    assert server.returncode == 0
