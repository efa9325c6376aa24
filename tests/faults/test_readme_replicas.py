"""The README's way from one box to three replicas, typed as it stands, on real servers."""

import os
import re
import signal
import socket
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from orchestrator.testing import ScriptedAgent

pytestmark = pytest.mark.anyio

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
LOST_WITHIN_S = 40.0


def free_tens() -> int:
    """A number such that it and a digit after it are three free ports."""
    for tens in range(2_000, 6_000):
        try:
            for last in (1, 2, 3):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", tens * 10 + last))
        except OSError:
            continue
        return tens
    raise AssertionError("no ports are free")


class Asking:
    """Requests to a port of this machine."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def __call__(self, port: int, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self._session.request(method, f"http://127.0.0.1:{port}{path}", **options) as answer:
            return answer.status, await answer.json(content_type=None)

    async def until_ready(self, port: int) -> None:
        with anyio.fail_after(60):
            while True:
                with suppress(aiohttp.ClientError):
                    if (await self(port, "GET", "/ready"))[0] == 200:
                        return
                await anyio.sleep(0.05)


@pytest.fixture
async def asking(anyio_backend):
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield Asking(session)


@pytest.fixture
def typed(postgres, redis_url, tmp_path):
    """Runs a block of the README in a shell, with the addresses of our servers and free ports."""
    section = README.partition("## From one box to three replicas")[2].partition("\n## ")[0]
    start, kill = (textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n)+", section, re.MULTILINE))
    tens = free_tens()
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LOG_LEVEL": "ERROR"}

    async def run(which: str) -> int:
        url = postgres.url(await postgres.new_database())
        text = {"start": start, "kill": kill}[which]
        text = re.sub(r"postgresql://\S+", url, text).replace("redis://127.0.0.1:6379/0", redis_url)
        text = text.replace("=808$n", f"={tens}$n").replace("serve &", "serve > /dev/null 2>&1 &")
        done = await anyio.run_process(["/bin/sh", "-ec", text], cwd=tmp_path, env=environ)
        assert done.returncode == 0
        return tens * 10

    yield run
    for pid in tmp_path.glob("replica-*.pid"):
        try:
            os.kill(int(pid.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            continue


async def test_from_one_box_to_three_replicas(typed, asking):
    """An agent of one serves all, what one accepted any of them tells of, and what one had in hand the others do."""
    first = await typed("start") + 1
    for number in range(3):
        await asking.until_ready(first + number)
    async with ScriptedAgent("embedder") as agent:
        assert (await asking(first, "POST", "/register_agent", json=agent.registration))[0] == 200
        task = {"case_id": "case-1", "task_type": "embed", "payload": {}, "idempotency_key": "k"}
        status, accepted = await asking(first + 1, "POST", "/route_task", json=task)
        assert status == 202
        _, ended = await asking(first + 2, "GET", f"/task/{accepted['task_id']}?wait=20")
        assert ended["status"] == "succeeded"
        status, again = await asking(first, "POST", "/route_task", json=task)
        assert (status, again["status"], again["task_id"]) == (200, "duplicate", accepted["task_id"])
        await typed("kill")
        _, more = await asking(first, "POST", "/route_task", json={**task, "idempotency_key": "l"})
        _, ended = await asking(first + 2, "GET", f"/task/{more['task_id']}?wait={LOST_WITHIN_S}")
        assert ended["status"] == "succeeded"
