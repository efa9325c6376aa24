"""h11 with the leniencies of RFC 9112 taken away: where two readers could find two requests, there is none.

Two readers of the same bytes, a proxy and this server say, must never see different requests in them (smuggling).
RFC 9112 lets a recipient read a bare LF as the end of a line (§2.2), unfold lines (§5.2), and merge lengths that agree
(§6.3). Here all that is 400. It reaches into h11's buffer, where all its lines come from; checked with h11 0.16.
"""

import re
from typing import Any

import h11
from h11._receivebuffer import ReceiveBuffer

_AMBIGUOUS = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\n[ \t]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""A bare LF, a bare CR, a folded line, a control character."""
_CHUNK = re.compile(rb"[0-9A-Fa-f]{1,15}(;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n")
"""The size of a chunk, in a number that no reader overflows at, and its extensions."""
_LENGTH = re.compile(rb"content-length:[ \t]*[0-9]{1,15}[ \t]*", re.IGNORECASE)


class StrictConnection(h11.Connection):
    """The server's end of a connection."""

    def __init__(self, max_incomplete_event_size: int) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size)
        self._receive_buffer = _StrictBuffer()

    def receive_data(self, data: bytes) -> None:
        # What follows a request that was the last one is none (RFC 9112 §9.6), and no reason to hold back its answer.
        if not data or self.their_state is not h11.MUST_CLOSE:
            super().receive_data(data)

    def next_event(self) -> Any:
        """Raises RemoteProtocolError for what is ambiguous, and for trailers, which nobody here reads."""
        if self.their_state is h11.MUST_CLOSE:
            return h11.NEED_DATA
        event = super().next_event()
        if isinstance(event, h11.EndOfMessage) and event.headers:
            raise h11.RemoteProtocolError("trailers")
        return event


class _StrictBuffer(ReceiveBuffer):
    """What was received. h11 takes heads and trailers by the first method, the sizes of chunks by the second."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        if not self._data.startswith(b"\r\n"):
            end = self._data.find(b"\r\n\r\n")
            searched = max(0, self._multiple_lines_search - 2)
            if _AMBIGUOUS.search(self._data, searched, len(self._data) if end < 0 else end):
                raise h11.LocalProtocolError("ambiguous line endings")
        lines = super().maybe_extract_lines()
        lengths = [line for line in lines or () if line[:14].lower().startswith(b"content-length")]
        if len(lengths) > 1 or any(not _LENGTH.fullmatch(line) for line in lengths):
            raise h11.LocalProtocolError("ambiguous length")
        return lines

    def maybe_extract_next_line(self) -> bytearray | None:
        line = super().maybe_extract_next_line()
        if line is not None and not _CHUNK.fullmatch(line):
            raise h11.LocalProtocolError("ambiguous chunk")
        return line
