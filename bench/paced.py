"""Requests one at a time on connections that stay, for measuring how long each takes."""

import asyncio
import time
from collections.abc import Sequence
from typing import cast

import anyio
import anyio.lowlevel

EXACT_S = 0.002


class Connection(asyncio.Protocol):
    """One request at a time; opened again once the server has said that it serves no more on it."""

    def __init__(self, port: int) -> None:
        self._port, self._buffer = port, b""
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @classmethod
    async def opened(cls, port: int) -> "Connection":
        """To a server on loopback."""
        connection = cls(port)
        await connection._open()
        return connection

    async def _open(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)

    async def post(self, path: str, body: bytes) -> bytes:
        """The answer's body, of a status below 300. Raises RuntimeError, or ConnectionError."""
        if self._transport.is_closing():
            await self._open()
        self._answer = asyncio.get_running_loop().create_future()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        at = head.lower().find(b"\r\ncontent-length:")
        if not found or len(body) < int(head[at + 17 :].partition(b"\r\n")[0]):
            return
        self._buffer = b""
        if b"\r\nconnection: close" in head.lower():
            self._transport.close()
        if head.startswith(b"HTTP/1.1 2"):
            self._answer.set_result(body)
        else:
            self._answer.set_exception(RuntimeError(f"it was answered {head[:40]!r} {body[:200]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server closed the connection"))


async def paced(port: int, path: str, body: bytes, rate: float, seconds: float, connections: int = 64) -> list[float]:
    """Latencies in seconds at a steady rate, from when each was due: a server that stalls is not let off."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(await Connection.opened(port))
    taken: list[float] = []

    async def send(number: int, due: float) -> None:
        connection = await free.get()
        await connection.post(path, body.replace(b"%d", b"%d" % number))
        free.put_nowait(connection)
        taken.append(time.perf_counter() - due)

    began = time.perf_counter() + 0.1
    async with asyncio.TaskGroup() as group:
        for number in range(max(1, int(rate * seconds))):
            due = began + number / rate
            await _until(due)
            group.create_task(send(1_000_000 + number, due))
    return taken


async def _until(due: float) -> None:
    """Returns at that time of `perf_counter`, and lets answers be read meanwhile.

    A timer of the event loop comes up to a millisecond late, and would be measured, too: the last of the time is spent
    looking at the clock, on a core that load has for itself.
    """
    await anyio.sleep(max(0.0, due - time.perf_counter() - EXACT_S))
    while time.perf_counter() < due:
        await anyio.lowlevel.checkpoint()


def percentile(values: Sequence[float], share: float) -> float:
    """In milliseconds, of seconds: the least value that so many are not above."""
    ordered = sorted(values)
    return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))]
