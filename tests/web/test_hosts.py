"""Pages whose own name leads to this machine (DNS rebinding): the host that they ask for is none of ours."""

import json
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

import anyio
import pytest
from raw_requests import LAST, LAST_SEEN
from test_raw_requests import Witness, exchange, served, statuses

from orchestrator.kernel.inbox import Inbox, Stop
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.settings import SettingsError, load
from orchestrator.testing import Service, a_task
from orchestrator.web.door import Door
from orchestrator.web.hosts import Hosts
from orchestrator.web.server import WebServer

pytestmark = pytest.mark.anyio

OURS = [
    "localhost", "LocalHost", "localhost.", "localhost:8080", "localhost:", "127.0.0.1", "127.0.0.1:1", "127.9.9.9",
    "[::1]", "[::1]:8080", "10.1.2.3:8080", "[2001:DB8::1]",
]  # fmt: skip
FOREIGN = [
    "attacker.example", "attacker.example:80", "localhost.attacker.example", "127.0.0.1.attacker.example", "", ":80",
    "box", "localhost:x", "xlocalhost", "localhost@attacker.example", "attacker.example@localhost", "a, localhost",
    "localhost/attacker.example", "attacker.example#localhost", "[::1", "[attacker.example]", "[::1].attacker.example",
    "::1", "127.0.0.1:80:80", "127.1", "0x7f.0.0.1", "2130706433", "localhost..", "l\xf6calhost", "*",
]  # fmt: skip
CALLS = [
    "GET /", "GET /health", "GET /ready", "GET /metrics", "GET /openapi.json", "GET /docs", "GET /agents",
    "GET /nothing", "OPTIONS /route_task", "HEAD /health", "GET /task/{task}", "GET /task/{task}/events",
    "POST /route_task", "POST /route_tasks", "POST /register_agent", "DELETE /task/{task}",
    "GET /ui/static/app.js",
]  # fmt: skip


def asking(call: str, host: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{call} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def told(environ: dict[str, str]) -> Hosts:
    return Hosts(Witness(), load(environ=environ))


class Anybody(Witness):
    """Of clients that have no address."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await super().__call__({**scope, "client": ("", 0)}, receive, send)


async def asked(app: Hosts, host: str, server: Any = ("127.0.0.1", 80)) -> int:
    """The status of a request for that host, as any server hands it over."""
    heard: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        heard.append(message)

    scope = {"type": "http", "method": "GET", "raw_path": b"/", "query_string": b"", "client": ("127.0.0.1", 1)}
    await app({**scope, "server": server, "headers": [(b"host", host.encode("latin-1"))]}, receive, send)
    return heard[0]["status"]


async def test_whose_name_it_is(door: type[Door]) -> None:
    """Addresses and localhost are ours, however they are written; everything else ends the connection unheard."""
    witness, found = Witness(), dict[str, Any]()
    async with served(Hosts(witness, load())) as port:
        for host in [*OURS, *FOREIGN]:
            seen, answer = await exchange(
                port, witness, asking("GET /a", host).replace(b"Connection: close\r\n", b"") + LAST
            )
            found[host] = statuses(answer), len(seen)
    assert {host: found[host][0] for host in FOREIGN} == {host: [421] for host in FOREIGN}
    assert {host: found[host] for host in OURS} == dict.fromkeys(OURS, ([200, 421], 1))
    assert not any(seen for host, (_, seen) in found.items() if host in FOREIGN)
    assert LAST_SEEN not in [one for requests in witness.seen.values() for one in requests]


async def test_a_host_that_was_put_there(door: type[Door]) -> None:
    """What stands before us may give a request another host than was sent: that one counts, each time."""
    witness, names = Witness(), iter([b"localhost", b"attacker.example"])
    ours = Hosts(witness, load())

    async def before(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["headers"] = [(b"host", next(names))]
        await ours(scope, receive, send)

    same = asking("GET /a", "localhost").replace(b"Connection: close\r\n", b"")
    async with served(before) as port:
        seen, answer = await exchange(port, witness, same, same)
    assert (statuses(answer), len(seen)) == ([200, 421], 1)


async def test_every_call(tmp_path: Path, door: type[Door]) -> None:
    """Is refused before anything is looked at, with the words for it, though the origin agrees with the host."""
    headers = ["Origin: http://attacker.example", "Sec-Fetch-Site: same-origin", "Content-Type: application/json"]
    body = json.dumps(a_task()).encode()
    async with Service(tmp_path / "ledger.db") as service:
        task = (await service.route({})).json["task_id"]
        before = await service.audit()
        for call in CALLS:
            sent = asking(call.format(task=task), "attacker.example", *headers, body=body)
            head, _, answer = (await service.raw(sent)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 421 "), call
            assert b"content-type: application/problem+json" in head.lower(), call
            assert call.startswith("HEAD") or json.loads(answer)["code"] == "E_MISDIRECTED", call
            assert b"attacker" not in head + answer, call
        assert await service.audit() == before


async def test_a_name_that_was_given() -> None:
    """Is ours beside those that always are, in any case and at any port; no other is."""
    app = told({"ORCHESTRATOR_WEB_HOSTS": "Box.Clinic,ward_3"})
    found = {
        host: await asked(app, host) for host in ("box.clinic:80", "BOX.clinic.", "ward_3", "localhost", "10.0.0.1")
    }
    assert set(found.values()) == {200}
    assert await asked(app, "box.clinic.attacker.example") == await asked(app, "clinic") == 421


KEYS = {"ORCHESTRATOR_AUTH_API_KEYS": "true"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, 421),
        (KEYS, 421),
        ({"ORCHESTRATOR_WEB_HOST": "0.0.0.0", "ORCHESTRATOR_WEB_INSECURE": "true"}, 421),
        ({"ORCHESTRATOR_WEB_HOST": "0.0.0.0", **KEYS}, 200),
        ({"ORCHESTRATOR_WEB_HOST": "::", **KEYS}, 200),
        ({"ORCHESTRATOR_WEB_HOST": "0.0.0.0", **KEYS, "ORCHESTRATOR_WEB_HOSTS": "box"}, 421),
        ({"ORCHESTRATOR_WEB_HOSTS": "*"}, 200),
    ],
)
async def test_where_names_are_free(environ: dict[str, str], expected: int) -> None:
    """Only where callers are asked who they are and other machines reach us, or where it is said."""
    app = told(environ)
    assert await asked(app, "orchestrator.example:8080") == expected
    assert await asked(app, "10.1.2.3:8080") == 200, "the probe of a pod"


@pytest.mark.parametrize("name", ["a b", "box:80", "https://box", "10.0.0.1", "*.box", "box/"])
def test_what_is_no_name(name: str) -> None:
    """Does not start."""
    with pytest.raises(SettingsError, match="hosts"):
        load(environ={"ORCHESTRATOR_WEB_HOSTS": f"box,{name}"})


@pytest.mark.parametrize("server", [None, ("/run/orchestrator.sock", None)])
async def test_a_socket_file_of_another_server(server: Any) -> None:
    """Is reached by no browser: what stands before it may hand on any name."""
    assert await asked(told({}), "box.clinic", server) == 200


async def test_a_socket_file(tmp_path: Path, door: type[Door]) -> None:
    """So it is with our own server."""
    inbox: Inbox[object] = Inbox(Mailbox("web", 1))
    listener = socket(AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    listener.setblocking(False)
    async with anyio.create_task_group() as group:
        group.start_soon(WebServer(Hosts(Anybody(), load()), listener, load().limits).run, inbox)
        async with await anyio.connect_unix(tmp_path / "socket") as stream:
            await stream.send(asking("GET /", "box.clinic"))
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        inbox.stop(Stop.FINAL)
    listener.close()
