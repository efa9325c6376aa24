"""A load of one request sent again and again over some connections, from a process of its own.

It speaks just enough HTTP/1.1 to keep up with any server here: it reads the status, the length, and the body.
"""

import asyncio
import sys
import time
from itertools import count

from orchestrator.bench.processes import said_by

WARM_UP_S = 0.3


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, requests: "Requests", done: asyncio.Future[None]) -> None:
        self._requests, self._done, self._buffer = requests, done, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._requests.next())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found or len(rest) < _length(head):
            return
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 202", b"HTTP/1.1 207")):
            self._end(RuntimeError(f"it was answered {head[:60]!r} {rest[:200]!r}"))
            return
        self._buffer = b""
        self._requests.note(rest)
        if time.monotonic() < self._requests.until:
            self._transport.write(self._requests.next())
        else:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionError("the server closed the connection"))

    def _end(self, error: Exception | None) -> None:
        if not self._done.done():
            if error is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(error)
            self._transport.close()


class Requests:
    """What is sent, with a number in place of each `%d` of the body, so that no two tasks are the same."""

    def __init__(self, path: str, body: bytes, seconds: float, *, keep: bool) -> None:
        self._path, self._body, self.answered = path, body, 0
        self._keep, self.answers = keep, list[bytes]()
        self.begin = time.monotonic() + WARM_UP_S
        self.until = self.begin + seconds
        # By the clock, so that a ledger that an earlier run has filled does not find its keys again.
        self._numbers = count(time.time_ns() // 1_000)

    def next(self) -> bytes:
        """The next request."""
        body = self._body.replace(b"%d", b"%d" % next(self._numbers))
        head = f"POST {self._path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def note(self, answer: bytes) -> None:
        """Counts it, once everything is warm; and keeps it, if somebody wants to know them all."""
        if self._keep:
            self.answers.append(answer)
        if self.begin <= time.monotonic() <= self.until:
            self.answered += 1


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise RuntimeError("an answer without a length")


async def send(port: int, path: str, body: bytes, connections: int, seconds: float, *, keep: bool = False) -> Requests:
    """Sends for so many seconds, and waits for every answer."""
    requests, loop = Requests(path, body, seconds, keep=keep), asyncio.get_running_loop()
    ends = [loop.create_future() for _ in range(connections)]
    for end in ends:
        await loop.create_connection(lambda end=end: Client(requests, end), "127.0.0.1", port)
    await asyncio.gather(*ends)
    return requests


def under_load(port: int, path: str, body: bytes, connections: int, seconds: float) -> float:
    """Answers a second, counted by a process of its own on the other core."""
    arguments = ["-m", "orchestrator.bench.load", str(port), path, str(connections), str(seconds)]
    return float(said_by(arguments, body, seconds))


if __name__ == "__main__":
    port, path, connections, seconds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    print(asyncio.run(send(port, path, sys.stdin.buffer.read(), connections, seconds)).answered / seconds)
