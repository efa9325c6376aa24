"""Long work at a terminal has a bar, on standard error; in a pipe, and where JSON is asked for, there is none."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync

from orchestrator.testing import ScriptedAgent, Service, a_task

pytestmark = pytest.mark.anyio

NO: Any = {"success": False, "error": {"message": "no", "retryable": False}}
ENTRIES = 1_500
FILLED = "━"
"""What the bar is drawn of."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def service(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Service]:
    """So many entries are in its audit, and two dead letters."""
    async with Service(tmp_path_factory.mktemp("box") / "ledger.db", {"ORCHESTRATOR_AGENT_TTL": "3600"}) as service:
        async with ScriptedAgent("a", NO, NO) as agent:
            await agent.register(service)
            for _ in range(2):
                await service.ended((await service.route({})).json["task_id"])
        for _ in range(ENTRIES // 500):
            batch = json.dumps([a_task(task_type="indexing")] * 500)
            headers = {"Content-Type": "application/json"}
            assert (await service.ask("POST", "/route_tasks", data=batch, headers=headers)).status == 207
        yield service


def shown(service: Service, words: tuple[str, ...], *, terminal: bool) -> tuple[str, str]:
    """What a command says on standard output, a pipe, and on standard error, which is a terminal or a pipe."""
    environ = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI")}
    environ |= {
        "DATABASE_URL": service.settings.storage.database_url,
        "ORCHESTRATOR_URL": f"http://127.0.0.1:{service.port}",
        "TERM": "xterm-256color",
        "COLUMNS": "100",
    }
    ours, theirs = pty.openpty() if terminal else os.pipe()
    command = [sys.executable, "-m", "orchestrator", *words]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=theirs) as running:
        os.close(theirs)
        said, errors = b"", b""
        try:
            while chunk := os.read(ours, 65_536):
                errors += chunk
        except OSError:
            pass  # So Linux says that nobody has the other end of a terminal any more.
        os.close(ours)
        assert running.stdout is not None
        said = running.stdout.read()
    assert running.returncode == 0, errors
    return said.decode(), errors.decode()


LONG = [
    pytest.param(("audit", "verify"), "verifying", "1000/15", id="verify"),
    pytest.param(("audit", "export", "--output", os.devnull), "exporting", "1000/15", id="export"),
    pytest.param(("dlq", "replay", "--all"), "replaying", "2/2", id="replay"),
]


@pytest.mark.parametrize(("words", "what", "far"), LONG)
async def test_long_work(service: Service, words: tuple[str, ...], what: str, far: str) -> None:
    """Says what it does and how far it is; beside it standard output holds what it holds without a bar."""
    said, errors = await run_sync(lambda: shown(service, words, terminal=True))
    assert what in errors
    assert far in errors
    assert FILLED in errors
    plain, silent = await run_sync(lambda: shown(service, words, terminal=False))
    assert silent == ""
    if "replay" not in words:
        assert plain == said
    assert "\x1b" not in said


@pytest.mark.parametrize("words", [("audit", "verify", "--json"), ("dlq", "replay", "--all", "--json")])
async def test_long_work_that_a_program_asked_for(service: Service, words: tuple[str, ...]) -> None:
    """Has no bar even on a terminal, and one JSON document on standard output."""
    with anyio.fail_after(60):
        said, errors = await run_sync(lambda: shown(service, words, terminal=True))
    assert errors == ""
    found = json.loads(said)
    if "verify" in words:
        assert (found["holds"], found["chains"][0]["seq"] > ENTRIES) == (True, True)
    else:
        assert [row["outcome"] for row in found] == ["duplicate", "duplicate"]
