"""Heads of answers, as they are written to a connection."""

from collections.abc import Sequence
from http import HTTPStatus

Headers = Sequence[tuple[bytes, bytes]]

_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


def lines(headers: Headers) -> bytes:
    """Headers as they stand in a head. Raises ValueError for one that would be two."""
    return checked(b"\r\n".join([*map(b": ".join, headers), b""]), len(headers))


def checked(lines: bytes, many: int) -> bytes:
    """The lines of so many headers, each with its end. Raises ValueError where one of them would be two."""
    if not lines.count(b"\n") == lines.count(b"\r") == many:
        raise ValueError("a header with the end of a line in it")
    return lines


def head(status: int, lines: bytes, date: bytes) -> bytes:
    """A whole head; `date` are the lines that every answer has."""
    return b"".join([_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, lines, date, b"\r\n"])
