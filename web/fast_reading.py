"""Heads and bodies of requests as `fast_http.py` reads them: by httptools, with its leniencies taken away.

httptools is given whole heads that passed `http_rules.ambiguous`, and no bodies: where these end is decided here.
"""

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from msgspec import Struct

from orchestrator.settings import Limits
from orchestrator.web import http_rules
from orchestrator.web.http_rules import CHUNK, ambiguous

CHUNK_LINE = 4_096
_REQUEST_LINE = re.compile(rb"([A-Z]+) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])\r\n")


class Refused(Exception):
    """What came is no request that could be served."""

    def __init__(self, status: int = 400) -> None:
        self.status = status


class Counted:
    """A body of so many bytes (RFC 9112 §6.2)."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = not length

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """What of `data` is in the body, and what follows it."""
        body, rest = data[: self._left], data[self._left :]
        self._left -= len(body)
        self.done = not self._left
        return body, rest


class Chunked:
    """A body in chunks (RFC 9112 §7.1). Trailers, which nobody here reads, are refused."""

    def __init__(self) -> None:
        self._left: int | None = None
        self._last = self.done = False

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """What of `data` is in the body, and what was not read. Raises Refused."""
        pieces, at = list[bytes](), 0
        while not self.done:
            if self._left is None:
                end = data.find(b"\r\n", at)
                if end < 0:
                    if len(data) - at > CHUNK_LINE:
                        raise Refused
                    break
                size = CHUNK.fullmatch(data, at, end + 2)
                if size is None:
                    raise Refused
                self._left, at = int(size[1], 16), end + 2
                self._last = not self._left
            elif self._left:
                piece = data[at : at + self._left]
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
            else:
                end_of_line = data[at : at + 2]
                if not b"\r\n".startswith(end_of_line):
                    raise Refused
                if len(end_of_line) < 2:
                    break
                at += 2
                self._left, self.done = None, self._last
        return b"".join(pieces), data[at:]


class _Collector:
    """What httptools finds."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))


class Head(Struct, frozen=True):
    """All that the head of a request says: where it goes, how its body ends, and what becomes of the connection.

    `length` is None for a body in chunks. `goes`: the client said that this is its last request. `keeps`: it wants the
    connection to stay.
    """

    method: str
    target: bytes
    version: str
    headers: tuple[tuple[bytes, bytes], ...]
    length: int | None
    expects: bool
    goes: bool
    keeps: bool


def read_head(text: bytes, limits: Limits) -> Head | None:
    """The head; None where its end is still to come. Raises Refused."""
    if ambiguous(text) or text.startswith(b"\r"):
        raise Refused
    if len(text) > limits.header_bytes:
        raise Refused(431)
    if not text.endswith(b"\r\n\r\n"):
        return None
    line, found = _REQUEST_LINE.match(text), _Collector()
    if line is None:
        raise Refused
    method, target, version = line.groups()
    try:
        HttpRequestParser(found).feed_data(text)
    except HttpParserUpgrade:
        pass  # An offer that is not taken up, as RFC 9110 §7.8 allows.
    except HttpParserError:
        known = version in (b"1.0", b"1.1")
        raise Refused((http_rules.framing_refusal(version, found.headers) or 400) if known else 505) from None
    status = http_rules.refusal(method, target, version, found.headers, limits)
    if status is None:
        hosts = sum(name == b"host" for name, _ in found.headers)
        status = None if hosts == 1 or (version == b"1.0" and not hosts) else 400
    if status is not None:
        raise Refused(status)
    return _head(method.decode(), target, version.decode(), found.headers)


def _head(method: str, target: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> Head:
    named = dict(headers)
    connecting = b",".join(value for name, value in headers if name == b"connection").lower()
    goes = b"close" in [token.strip() for token in connecting.split(b",")]
    return Head(
        method,
        target,
        version,
        tuple(headers),
        length=None if b"transfer-encoding" in named else int(named.get(b"content-length", 0)),
        expects=named.get(b"expect", b"").lower() == b"100-continue" and version != "1.0",
        goes=goes,
        keeps=version != "1.0" and not goes,
    )
