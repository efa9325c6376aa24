"""What of HTTP/1.1 is taken and what is refused, whichever class reads it: the reading of a connection is decided here.

Two readers of the same bytes, a proxy and this server say, must never see different requests in them (smuggling).
RFC 9112 lets a recipient read a bare LF as the end of a line (§2.2), unfold lines (§5.2), and merge lengths that agree
(§6.3). Here all that is 400.
"""

import re

from orchestrator.domain.errors import Overloaded
from orchestrator.settings import Limits
from orchestrator.web.heads import Headers
from orchestrator.web.problems import CONTENT_TYPE, http_document

METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"})
"""In these letters: what follows a body that was too long looks like another spelling of one."""
SEND_S = 30.0
"""How long a client may take to read so much of its answer that the next piece fits into the buffers."""
LINGER_S = 2.0
"""How long a body that was refused is still read, and thrown away: a reset would take the answer with it."""

_CONTROL = bytes([*range(9), 11, 12, *range(14, 32), 127])
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n")
"""The size of a chunk, in a number that no reader overflows at, and its extensions."""


def ambiguous(text: bytes) -> bool:
    """Whether there is a bare LF or CR, a folded line or a control character in it. A last CR may be half an end."""
    ends = text.count(b"\r\n")
    return (
        text.count(b"\n") != ends
        or text.count(b"\r") != ends + text.endswith(b"\r")
        or b"\n " in text
        or b"\n\t" in text
        or len(text.translate(None, _CONTROL)) != len(text)
    )


def refusal(method: bytes, target: bytes, version: bytes, headers: Headers, limits: Limits) -> int | None:
    """The status with which a well-formed request is refused, if it is. Names are in lower case, values trimmed."""
    if version not in (b"1.0", b"1.1"):
        return 505
    if method not in METHODS:
        return 400
    if len(target) > limits.target_bytes:
        return 414
    if len(headers) > limits.headers:
        return 431
    # Nothing that is stored has a NUL in its name, and not every database can even look for one.
    if not target.startswith((b"/", b"*", b"http://", b"https://")) or b"%00" in target:
        return 400
    return framing_refusal(version, headers)


def framing_refusal(version: bytes, headers: Headers) -> int | None:
    """The same where readers could find different ends of the body, or where that is in an encoding not spoken here."""
    lengths = [value for name, value in headers if name == b"content-length"]
    encodings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if not encodings:
        return None if not lengths or (len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) <= 15) else 400
    # Which of two lengths counts, and whether a reader of HTTP/1.0 knows of chunks, differs from reader to reader.
    if lengths or version != b"1.1" or len(encodings) > 1:
        return 400
    return None if encodings == [b"chunked"] else 501


def answer_to(status: int) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of a refusal, a problem document. The connection ends with it."""
    return _told(
        http_document(status, Overloaded.code if status == 503 else None), b"1" if status in (429, 503) else b""
    )


def broken_off(status: int) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The same where the application gave no answer: 503 because service ends, or 500."""
    return _told(http_document(status), b"5" if status == 503 else b"")


def _told(body: bytes, retry_after: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    headers = [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    return [*headers, (b"retry-after", retry_after)] if retry_after else headers, body
