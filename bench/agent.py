"""An agent on loopback that does nothing, fast: it is not to be what limits those who call it.

It counts its calls, and keeps when each came, by the clock that all processes of the machine share. Answers
`GET /calls` with what it kept, and `GET /count` with how many, as JSON. WORK_S is how long it takes for a task.
"""

import asyncio
import json
import os
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import uvloop
from msgspec import Struct
from msgspec.json import decode

from orchestrator.bench.cores import LOAD
from orchestrator.bench.processes import serving

ANSWER = b'{"success": true, "output": {"vector": [0.25, 0.5, 0.75], "of": "a text of some length"}}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
WORK_S = float(os.environ.get("WORK_S", "0"))


class _Body(Struct):
    request_id: str = ""
    case_id: str = ""


class Agent(asyncio.Protocol):
    """One connection."""

    def __init__(self, calls: dict[str, float], loop: asyncio.AbstractEventLoop) -> None:
        self._calls, self._loop, self._buffer = calls, loop, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        self._buffer = b""
        if head.startswith(b"GET"):
            self._answer(json.dumps(self._calls if head.startswith(b"GET /calls") else len(self._calls)).encode())
            return
        task = decode(body, type=_Body)
        self._calls[task.request_id or str(len(self._calls))] = time.monotonic()
        if WORK_S:
            self._loop.call_later(WORK_S, self._answer, ANSWER)
        else:
            self._answer(ANSWER)

    def _answer(self, body: bytes) -> None:
        self._transport.write(HEAD % len(body) + body)


def _length(head: bytes) -> int:
    at = head.lower().find(b"\r\ncontent-length:")
    return 0 if at < 0 else int(head[at + 17 :].partition(b"\r\n")[0])


@contextmanager
def agent(work_s: float = 0.0) -> Generator[str, None, None]:
    """Starts one on the core of the load; its endpoint."""
    with serving("-m", "orchestrator.bench.agent", environ={"WORK_S": str(work_s)}, place=LOAD) as port:
        yield f"http://127.0.0.1:{port}"


def calls(endpoint: str) -> dict[str, float]:
    """When each task came to the agent, by time.monotonic()."""
    found: dict[str, float] = _asked(f"{endpoint}/calls")
    return found


def count(endpoint: str) -> int:
    """How many tasks have come to the agent."""
    found: int = _asked(f"{endpoint}/count")
    return found


def _asked(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.loads(answer.read())


async def _serve() -> None:
    loop, calls = asyncio.get_running_loop(), dict[str, float]()
    server: Any = await loop.create_server(
        lambda: Agent(calls, loop), "127.0.0.1", int(os.environ["PORT"]), backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    sys.exit(uvloop.run(_serve()))
