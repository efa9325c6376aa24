"""HTTP itself: what is refused before anything of ours is asked, and how."""

import json

import pytest

from orchestrator.testing import Reply, Service, a_task
from orchestrator.web.protocol import ServerConfig

pytestmark = pytest.mark.anyio

CODES = {
    400: "E_BAD_REQUEST",
    404: "E_NOT_FOUND",
    405: "E_METHOD_NOT_ALLOWED",
    413: "E_TOO_LARGE",
    415: "E_UNSUPPORTED_MEDIA_TYPE",
    431: "E_HEADERS_TOO_LARGE",
    505: "E_HTTP_VERSION",
}


def problem(answer: bytes | Reply, status: int, code: str | None = None) -> dict:
    """Checks that an answer is a problem document with this status, and returns it."""
    if isinstance(answer, bytes):
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert int(lines[0].split(" ")[1]) == status, answer
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    else:
        assert answer.status == status, answer
        headers, body = {name.lower(): value for name, value in answer.headers.items()}, answer.body
    assert headers["content-type"] == "application/problem+json"
    found = json.loads(body)
    assert set(found) == {"type", "code", "title", "status", "detail"}
    assert found["status"] == status
    assert found["code"] == (code or CODES[status])
    return found


def request(
    method: str = "GET", target: str = "/health", *headers: str, version: str = "1.1", body: bytes = b""
) -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: localhost", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def test_an_unknown_path_is_a_problem(service: Service) -> None:
    """404 is a problem document, also for paths that only look like ours."""
    for path in (
        "/nothing",
        "/task",
        "/task/",
        "/task//x",
        "/health/x",
        "/task/a/b",
        "/%01",
        "/%ff%fe",
        "/static/x",
    ):
        problem(await service.ask("GET", path), 404)


async def test_a_known_path_by_another_method_names_the_methods_that_it_has(service: Service) -> None:
    """405 comes with Allow."""
    for method, path, allowed in [
        ("GET", "/route_task", {"POST"}),
        ("PUT", "/task/task-1", {"GET", "DELETE"}),
        ("POST", "/agents", {"GET"}),
        ("DELETE", "/metrics", {"GET"}),
        ("PATCH", "/dlq", {"GET"}),
    ]:
        reply = await service.ask(method, path)
        problem(reply, 405)
        assert allowed <= {name.strip() for name in reply.headers["Allow"].split(",")}


async def test_head_and_options(service: Service) -> None:
    """HEAD is GET without the body, OPTIONS says what there is, and neither does anything."""
    head = await service.ask("HEAD", "/health")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) > 0
    gone = await service.ask("HEAD", "/nothing")
    assert (gone.status, gone.body) == (404, b"")
    options = await service.ask("OPTIONS", "/route_task")
    assert options.status == 200
    assert "POST" in options.headers["Allow"]
    assert (await service.ask("HEAD", "/route_task")).status == 405


async def test_every_answer_forbids_sniffing_and_storing(service: Service) -> None:
    """Whatever the status."""
    for path in ("/health", "/nothing", "/metrics"):
        reply = await service.ask("GET", path)
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
        assert "Server" not in reply.headers


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"rubbish\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET  /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost : box\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n folded: x\r\nb@d: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET /h\xc3\xa4lth HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET ?x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT box:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /route_task HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST /route_task HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /route_task HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /route_task HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"POST /route_task HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
    ],
)
async def test_malformed_http(service: Service, bytes_sent: bytes) -> None:
    """Is refused with 400, in words, and the connection is closed."""
    found = problem(await service.raw(bytes_sent), 400)
    assert found["detail"] == "Bad Request."


async def test_a_transfer_encoding_that_nobody_knows(service: Service) -> None:
    """Is refused: gzip'd bodies included."""
    problem(
        await service.raw(request("POST", "/route_task", "Transfer-Encoding: gzip, chunked")), 501, "E_NOT_IMPLEMENTED"
    )


async def test_an_offer_to_upgrade_is_not_taken_up(service: Service) -> None:
    """WebSocket or cleartext HTTP/2: the request is answered as it is, by HTTP/1.1."""
    websocket = ("Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")
    h2c = ("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
    for headers in (websocket, h2c, websocket[:1]):
        sent = request("GET", "/health", *headers).replace(b"Connection: close", b"Connection: Upgrade, close")
        answer = await service.raw(sent)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert b'"status":"ok"' in answer
    problem(await service.raw(request("GET", "/nothing", *websocket).replace(b"close", b"Upgrade, close")), 404)


async def test_http_2_by_prior_knowledge(service: Service) -> None:
    """Is refused: only HTTP/1.x is spoken."""
    problem(await service.raw(b"PRI * HTTP/2.0\r\nHost: localhost\r\n\r\nSM\r\n\r\n"), 505)
    answer = await service.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert answer.split(b" ")[1] in (b"400", b"505")
    assert b"problem+json" in answer


async def test_http_2_by_tls() -> None:
    """Is not offered either: a client that would speak it is told HTTP/1.1."""
    assert ServerConfig().alpn_protocols == ["http/1.1"]


async def test_http_1_0(service: Service) -> None:
    """Is spoken."""
    assert (await service.raw(b"GET /health HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_beyond_its_bound(service: Service, framing: str, rows) -> None:
    """413, and the client gets to read it, although it sent 20 MB before it looked."""
    size = 20 * 2**20
    if framing == "length":
        head = request("POST", "/route_task", "Content-Type: application/json", f"Content-Length: {size}")
        parts = [head, b" " * size]
    else:
        head = request("POST", "/route_task", "Content-Type: application/json", "Transfer-Encoding: chunked")
        parts = [head, *([b"100000\r\n" + b" " * 2**20 + b"\r\n"] * 20), b"0\r\n\r\n"]
    problem(await service.raw(*parts), 413)
    assert rows("tasks") == 0


async def test_a_body_at_its_bound(service: Service) -> None:
    """Is read; one byte more is not."""
    most = service.settings.web.max_body_bytes
    text = json.dumps(a_task()).encode()
    full = text + b" " * (most - len(text))
    kind = {"Content-Type": "application/json"}
    assert (await service.ask("POST", "/route_task", data=full, headers=kind)).status == 202
    problem(await service.ask("POST", "/route_task", data=full + b" ", headers=kind), 413)
