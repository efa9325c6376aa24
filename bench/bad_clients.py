"""Good clients beside 10,000 connections that idle and 200 that trickle: what becomes of their latency.

    python -m bench.bad_clients [--idle 10000] [--trickling 200] [--rate 50] [--seconds 10] [--rounds 3]

Starts an orchestrator whose limits let all of them in, which the packaged ones do not, and sends tasks at a steady
rate: by turns alone and beside the bad ones, in one run. Prints the latencies in milliseconds, and their ratio.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

SPARE_FILES = 512
TRICKLE_S = 0.5
TASK = {"case_id": "case-1", "task_type": "audit_log", "payload": {"note": "x" * 150}}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--trickling", type=int, default=200)
    parser.add_argument("--rate", type=float, default=50.0, help="tasks a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each half of a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    raise_file_limit(options.idle + options.trickling + SPARE_FILES)
    with tempfile.TemporaryDirectory() as folder:
        server = serve(Path(folder), options.idle + options.trickling + SPARE_FILES)
        try:
            assert server.stderr
            port = int(server.stderr.readline().rpartition(":")[2])
            asyncio.run(measure(port, server.pid, options))
        finally:
            server.terminate()
            server.communicate(timeout=60)


def raise_file_limit(files: int) -> None:
    """Each connection is a file, here and in the server, which inherits the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        sys.exit(f"{files} open files are needed, and {hard} are allowed (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def serve(folder: Path, connections: int) -> subprocess.Popen[str]:
    environ = {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{folder}/ledger.db",
        "ORCHESTRATOR_LIMITS_CONNECTIONS": str(connections),
        "ORCHESTRATOR_LIMITS_CONNECTIONS_PER_PEER": str(connections),
        "ORCHESTRATOR_LIMITS_IDLE_S": "3600",
        "ORCHESTRATOR_LIMITS_REQUESTS_PER_S": "0",
        "LOG_LEVEL": "ERROR",
    }
    command = [sys.executable, "-m", "orchestrator", "serve", "--port", "0"]
    return subprocess.Popen(command, env=environ, cwd=folder, stderr=subprocess.PIPE, text=True)


async def measure(port: int, pid: int, options: Any) -> None:
    quiet: list[float] = []
    beside: list[float] = []
    await load(port, options.rate, options.seconds)  # Warms up.
    print(f"{'':>8}  {'p50':>7}  {'p99':>7}  ms        server MB")
    for _ in range(options.rounds):
        quiet.append(shown("alone", await load(port, options.rate, options.seconds), pid))
        bad = BadClients(port)
        await bad.connect(options.idle, options.trickling)
        await until(lambda: files_of(pid) >= options.idle + options.trickling)
        trickling = asyncio.create_task(bad.trickle())
        beside.append(shown("beside", await load(port, options.rate, options.seconds), pid))
        trickling.cancel()
        held = await bad.close()
        assert held == options.idle + options.trickling, f"only {held} were still open"
        await until(lambda: files_of(pid) < SPARE_FILES)
    ratio = median(beside) / median(quiet)
    print(f"p99 beside / alone: {ratio:.2f}")
    print(json.dumps({"alone_p99_ms": quiet, "beside_p99_ms": beside, "ratio": ratio}))


async def until(holds: Callable[[], bool]) -> None:
    """The server accepts, and lets go, after the kernel: what it is still busy with is not to be measured."""
    async with asyncio.timeout(300):
        while not holds():  # noqa: ASYNC110 - another process tells nobody
            await asyncio.sleep(0.1)
    await asyncio.sleep(2)


def files_of(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


class BadClients:
    """Connections on which no request ever becomes whole."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[asyncio.StreamWriter] = []
        self._trickling: list[asyncio.StreamWriter] = []

    async def connect(self, idle: int, trickling: int) -> None:
        for number in range(idle + trickling):
            source = (f"127.0.{1 + number // 200 % 200}.1", 0)
            _, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=source)
            if number < trickling:
                writer.write(b"POST /route_task HTTP/1.1\r\nHost: localhost\r\nX: ")
                self._trickling.append(writer)
            else:
                self._idle.append(writer)

    async def trickle(self) -> None:
        """A byte for each now and then."""
        while True:
            for writer in self._trickling:
                writer.write(b"x")
            await asyncio.sleep(TRICKLE_S)

    async def close(self) -> int:
        """How many had been open until now."""
        writers = [*self._idle, *self._trickling]
        held = sum(not writer.transport.is_closing() for writer in writers)
        for writer in writers:
            writer.transport.abort()
        return held


async def load(port: int, rate: float, seconds: float) -> list[float]:
    """Latencies in seconds, each from the moment at which the task was due: a server that stalls is not let off."""
    taken: list[float] = []
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=aiohttp.TCPConnector(limit=0)) as session:

        async def send(due: float) -> None:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            async with session.post("/route_task", json=TASK) as response:
                await response.read()
                assert response.status == 202, response.status
            taken.append(time.perf_counter() - due)

        began = time.perf_counter() + 0.1
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                group.create_task(send(began + number / rate))
    return taken


def shown(name: str, taken: Sequence[float], pid: int) -> float:
    """Prints a line; the 99th percentile in milliseconds."""
    ordered = sorted(1000 * it for it in taken)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    pages = int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1])
    print(f"{name:>8}  {p50:7.2f}  {p99:7.2f}            {pages * resource.getpagesize() / 2**20:7.0f}", flush=True)
    return p99


if __name__ == "__main__":
    main()
