"""Fixtures for what breaks."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
import trio.testing
from ports import reserved_port

PATIENCE_S = 30.0


@pytest.fixture
def virtual_clock():
    """For modules about time: `anyio_backend` is overridden there with trio under a clock that jumps."""
    return ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


class Served:
    """`python -m orchestrator serve` as a process, on a fixed port of the loopback, with its ledger in `folder`."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession, environ: dict[str, str]) -> None:
        self.folder, self.session = folder, session
        self.port = reserved_port()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        self.environ = {
            **inherited,
            "DATABASE_URL": f"sqlite:///{folder}/ledger.db",
            "ORCHESTRATOR_WEB_PORT": str(self.port),
            "LOG_LEVEL": "ERROR",
            **environ,
        }
        self.process: asyncio.subprocess.Process | None = None

    async def run(self, *arguments: str) -> tuple[int, str]:
        """A command of the same program, to its end: its exit code and all that it said."""
        running = await self.spawn(*arguments)
        with anyio.fail_after(PATIENCE_S):
            said, _ = await running.communicate()
        return running.returncode or 0, said.decode()

    async def spawn(
        self, *arguments: str, program: tuple[str, ...] = ("-m", "orchestrator")
    ) -> asyncio.subprocess.Process:
        pipe, both = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
        return await asyncio.create_subprocess_exec(
            sys.executable, *program, *arguments, env=self.environ, cwd=self.folder, stdout=pipe, stderr=both
        )

    async def start(self) -> None:
        """Starts it and waits until it is ready."""
        self.process = await self.spawn("serve")
        await self.until_ready(True)

    async def until_ready(self, ready: bool) -> None:
        """Asks whether it is ready until the answer is this one."""
        assert self.process is not None
        with anyio.fail_after(PATIENCE_S):
            while (await self.status("GET", "/ready") == 200) is not ready:
                if ready and self.process.returncode is not None:
                    raise AssertionError((await self.process.communicate())[0].decode())
                await anyio.sleep(0.02)

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON of an answer. Raises ClientError, OSError or TimeoutError when none comes."""
        async with self.session.request(method, f"http://127.0.0.1:{self.port}{path}", **options) as response:
            return response.status, dict(response.headers), json.loads(await response.read())

    async def status(self, method: str, path: str, **options: Any) -> int | None:
        """The status of an answer; None when none comes soon."""
        options.setdefault("timeout", aiohttp.ClientTimeout(total=2))
        try:
            return (await self.ask(method, path, **options))[0]
        except (aiohttp.ClientError, OSError):
            return None

    async def kill(self) -> None:
        """As a power cut would end it."""
        assert self.process is not None
        self.process.kill()
        await self.process.communicate()

    async def stop(self) -> tuple[int, str]:
        """As systemd would end it: its exit code and all that it said."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await self.end()

    async def end(self) -> tuple[int, str]:
        assert self.process is not None
        with anyio.fail_after(PATIENCE_S):
            said, _ = await self.process.communicate()
        return self.process.returncode or 0, said.decode()


@pytest.fixture
async def served(anyio_backend, tmp_path):
    """Makes a `Served`; what it started is gone after the test."""
    made: list[Served] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:

        def make(folder: Path = tmp_path, **environ: str) -> Served:
            made.append(Served(folder, session, environ))
            return made[-1]

        yield make
        for one in made:
            if one.process is not None and one.process.returncode is None:
                await one.kill()
