"""Agents that answer garbage, before a whole orchestrator: every class of it ends in a retry or in a dead letter."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from garbage import CLASSES, LARGEST, a_closed_port, a_silent_host, an_agent

from orchestrator.outbound.ports import Busy, Ending, Refused, Succeeded
from orchestrator.testing import ScriptedAgent, Service

pytestmark = pytest.mark.anyio

SETTINGS = {
    "ORCHESTRATOR_TASKS_EMBED_TIMEOUT_S": "2",
    "ORCHESTRATOR_TASK_MAX_RETRIES": "1",
    "ORCHESTRATOR_RETRY_BASE": "0.01",
    "ORCHESTRATOR_AGENTS_MAX_ANSWER_BYTES": str(LARGEST),
    "ORCHESTRATOR_AGENTS_CONNECT_TIMEOUT_S": "0.3",
}
AGENTS = {
    **{name: (an_agent(behave), ending) for name, (behave, ending) in CLASSES.items()},
    "a closed port": (a_closed_port(), Refused()),
    "an address that swallows everything": (a_silent_host(), Refused()),
}
TRAIL = {
    "succeeded": ["accepted", "leased", "succeeded"],
    "dead": ["accepted", "leased", "retry_scheduled", "due", "leased", "dead"],
}


def outcome(ending: Ending | tuple[Ending, ...]) -> str:
    """What becomes of a task whose agent does that each time: done, tried again and given up, or kept for others."""
    one = ending[0] if isinstance(ending, tuple) else ending
    if isinstance(one, Succeeded):
        return "succeeded"
    # Who is not there, or asks to be left alone for a while, is not asked again so soon.
    return "waits" if isinstance(one, Refused) or (isinstance(one, Busy) and one.retry_after_s) else "dead"


EXPECTED = {name: outcome(ending) for name, (_, ending) in AGENTS.items()}


async def test_every_class_of_garbage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A retry, then a dead letter; what waits is done by the next agent that comes. Nothing of ours fails over it."""
    tasks: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(Service(tmp_path / "ledger.db", SETTINGS))
        for number, (name, (agent, _)) in enumerate(AGENTS.items()):
            site = f"edge-{number}"
            card = {"agent_id": site, "endpoint": await stack.enter_async_context(agent), "capabilities": ["embed"]}
            assert (await service.ask("POST", "/register_agent", json={**card, "location": site})).status == 200, name
            tasks[name] = (await service.route({"meta": {"site": site}})).json["task_id"]

        async def is_so(name: str, expected: str) -> Any:
            found = await service.ended(tasks[name])
            assert found["status"] == expected, (name, found)
            return [entry["event"] for entry in await service.audit(task_id=tasks[name])]

        for name, expected in EXPECTED.items():
            if expected != "waits":
                assert await is_so(name, expected) == TRAIL[expected], name
        helper = await stack.enter_async_context(ScriptedAgent("helper"))
        waiting = [name for name, expected in EXPECTED.items() if expected == "waits"]
        for name in waiting:
            assert (await service.ask("GET", f"/task/{tasks[name]}")).json["status"] in ("queued", "retry_wait"), name
        await helper.register(service)
        with anyio.fail_after(30):
            for name in waiting:
                assert (await is_so(name, "succeeded"))[-1] == "succeeded"
        assert service.orchestrator.well()
        assert [child.name for child in service.orchestrator.status() if child.restarts] == []
    assert "failed" not in capsys.readouterr().err
