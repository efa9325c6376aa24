"""Where a body ends, as each layer that decides it says by itself: neither of two that refuse it hides the other."""

import h11
import pytest

from orchestrator.web.http_rules import framing_refusal
from orchestrator.web.strict_h11 import StrictConnection

LENGTH, CHUNKED = (b"content-length", b"3"), (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize(
    ("version", "headers", "status"),
    [
        (b"1.1", [], None), (b"1.1", [LENGTH], None), (b"1.0", [LENGTH], None), (b"1.1", [CHUNKED], None),
        (b"1.1", [(b"transfer-encoding", b"Chunked")], None),
        (b"1.1", [LENGTH, CHUNKED], 400), (b"1.1", [CHUNKED, LENGTH], 400), (b"1.0", [LENGTH, CHUNKED], 400),
        (b"1.1", [LENGTH, (b"transfer-encoding", b"gzip")], 400), (b"1.1", [LENGTH, (b"transfer-encoding", b"")], 400),
        (b"1.1", [CHUNKED, CHUNKED], 400), (b"1.0", [CHUNKED], 400), (b"1.1", [LENGTH, LENGTH], 400),
        (b"1.1", [LENGTH, (b"content-length", b"4")], 400), (b"1.1", [(b"transfer-encoding", b"gzip")], 501),
        (b"1.1", [(b"transfer-encoding", b"gzip, chunked")], 501),
        *((b"1.1", [(b"content-length", odd)], 400) for odd in (b"", b"+3", b"-3", b"3, 3", b"0x3", b"3 ", b"9" * 16)),
    ],
)  # fmt: skip
def test_the_rules(version: bytes, headers: list[tuple[bytes, bytes]], status: int | None) -> None:
    """One length, or `chunked` alone in HTTP/1.1; two framings, two lengths and odd ones are refused."""
    assert framing_refusal(version, headers) == status


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 3", b"Transfer-Encoding: chunked"], [b"Transfer-Encoding: chunked", b"Content-Length: 3"],
        [b"Content-Length: 3", b"Content-Length: 3"], [b"CONTENT-LENGTH: 3", b"transfer-encoding:chunked"],
        [b"Content-Length: 0003, 3"], [b"Transfer-Encoding: chunked\t"],
    ],
)  # fmt: skip
def test_h11_made_strict(lines: list[bytes]) -> None:
    """It takes one line that says where the body ends, and no second one; h11 itself would choose between two."""
    head = b"\r\n".join([b"POST / HTTP/1.1", b"Host: x", *lines, b"", b""])
    connection = StrictConnection(16_384)
    connection.receive_data(head)
    with pytest.raises(h11.RemoteProtocolError):
        connection.next_event()


@pytest.mark.parametrize("line", [b"Content-Length: 3", b"Transfer-Encoding: chunked", b"X: y"])
def test_h11_with_one_framing(line: bytes) -> None:
    """Is read."""
    connection = StrictConnection(16_384)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
    assert isinstance(connection.next_event(), h11.Request)
