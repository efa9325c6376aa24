"""h11 with its leniencies taken away: see `http_rules.py`.

It reaches into h11's buffer, where all its lines come from; checked with h11 0.16.
"""

import re
from typing import Any

import h11
from h11._receivebuffer import ReceiveBuffer

from orchestrator.web.http_rules import CHUNK, ambiguous

_FRAMING = (b"content-length", b"transfer-encoding")
_FRAMED = re.compile(rb"content-length:[ \t]*[0-9]{1,15}[ \t]*|transfer-encoding:(.*[^\t])?", re.IGNORECASE)


class StrictConnection(h11.Connection):
    """The server's end of a connection."""

    def __init__(self, max_incomplete_event_size: int) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size)
        self._receive_buffer = _StrictBuffer(max_incomplete_event_size)

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

    def __init__(self, most: int) -> None:
        """A head has at most so many bytes, also where it comes at once: h11 bounds only what is not whole yet."""
        super().__init__()
        self._most = most

    def maybe_extract_lines(self) -> list[bytearray] | None:
        if not self._data.startswith(b"\r\n"):
            end = self._data.find(b"\r\n\r\n")
            if ambiguous(bytes(self._data if end < 0 else self._data[:end])):
                raise h11.LocalProtocolError("ambiguous line endings")
            if end + 4 > self._most:
                raise h11.LocalProtocolError("a head that is too long", error_status_hint=431)
        lines = super().maybe_extract_lines()
        framing = [line for line in lines or () if line[:17].lower().startswith(_FRAMING)]
        if len(framing) > 1 or any(not _FRAMED.fullmatch(line) for line in framing):
            raise h11.LocalProtocolError("ambiguous framing")
        return lines

    def maybe_extract_next_line(self) -> bytearray | None:
        line = super().maybe_extract_next_line()
        if line is not None and not CHUNK.fullmatch(line):
            raise h11.LocalProtocolError("ambiguous chunk")
        return line
