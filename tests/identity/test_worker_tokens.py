"""What an agent of the kit shows for itself: from the environment, or from a file, as it is at that moment."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.domain.identity import Scope
from orchestrator.testing import Service, a_task
from orchestrator.workers import Agent, Options, Task

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0
VARIABLES = ["ORCHESTRATOR_TOKEN", "ORCHESTRATOR_API_KEY"]
WORK = [Scope.AGENTS_REGISTER]


async def done(_task: Task) -> dict[str, Any]:
    return {"done": True}


@asynccontextmanager
async def at_work(service: Service) -> AsyncGenerator[None]:
    """The agent asks for work until the end of the block."""
    agent, stop = Agent("agent-1", location="edge-1"), asyncio.Event()
    agent.handles("embed")(done)
    options = Options(orchestrator=f"http://127.0.0.1:{service.port}", pull=True, heartbeat_every=0.05)
    async with anyio.create_task_group() as group:
        group.start_soon(agent.serve, options, stop)
        try:
            yield
        finally:
            stop.set()


async def until(operator: Any, holds: Callable[[list[Any]], bool]) -> None:
    """Looks at the list of agents until it is so."""
    with anyio.fail_after(PATIENCE_S):
        while not holds((await operator.ask("GET", "/agents")).json["agents"]):  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.02)


async def does_its_work(client: Any) -> None:
    task_id = (await client.ask("POST", "/route_task", json=a_task())).json["task_id"]
    assert (await client.ask("GET", f"/task/{task_id}?wait={PATIENCE_S}")).json["status"] == "succeeded"


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


@pytest.mark.parametrize("variable", VARIABLES)
async def test_from_the_environment(service: Service, caller, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """It registers as its key says, asks for work and hands in results with it."""
    own, operator = await caller("agent-1", WORK), await caller("operator")
    monkeypatch.setenv(variable, own.token)
    async with at_work(service):
        await until(operator, lambda agents: [agent["agent_id"] for agent in agents] == ["agent-1"])
        assert (await operator.ask("POST", "/agents/agent-1/allow")).status == 200
        await does_its_work(operator)


@pytest.mark.parametrize("variable", VARIABLES)
async def test_from_a_file_that_is_replaced(
    service: Service, caller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    """Nothing is done with a wrong key or none; with the right one it works, and goes on with the next one after it."""
    first, second, operator = await caller("agent-1", WORK), await caller("agent-1", WORK), await caller("operator")
    stranger, file = await caller("agent-2", WORK), tmp_path / "key"
    monkeypatch.setenv(f"{variable}_FILE", str(file))
    async with at_work(service):
        file.write_text(stranger.token)
        with anyio.fail_after(PATIENCE_S):
            while not any(entry["event"] == "agent_refused" for entry in await audited(operator)):  # noqa: ASYNC110
                await anyio.sleep(0.02)
        assert (await operator.ask("GET", "/agents")).json == {"agents": []}
        file.write_text(f"{first.token}\n")
        await until(operator, bool)
        assert (await operator.ask("POST", "/agents/agent-1/allow")).status == 200
        await does_its_work(operator)
        file.write_text(second.token)
        key_id = first.token.split("_")[1]
        assert (await operator.ask("DELETE", f"/keys/{key_id}")).status == 200
        await does_its_work(operator)


async def audited(operator: Any) -> list[Any]:
    return (await operator.ask("GET", "/audit")).json["entries"]
