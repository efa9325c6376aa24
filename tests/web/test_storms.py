"""Clients that leave in crowds, at any moment of a commit, of a call and of a long-poll."""

import asyncio
from random import Random
from typing import Any
from urllib.parse import urlsplit

import anyio
import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import pytest
from aiohttp import web
from redis import Redis

from orchestrator.testing import PATIENCE_S, ScriptedAgent, Service

pytestmark = pytest.mark.anyio

WAVES, CROWD = 3, 90
TO_POSTGRES, TO_REDIS = 5, 6
"""As many connections as its own actors may use at once, however many clients come and go."""
OURS = "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'orchestrator'"


@pytest.fixture
def environ() -> dict[str, str]:
    """All clients are of one address, and the connections of those who left are noticed a moment later."""
    return {"ORCHESTRATOR_LIMITS_CONNECTIONS": "2000", "ORCHESTRATOR_LIMITS_CONNECTIONS_PER_PEER": "2000"}


@pytest.fixture(autouse=True)
async def futures_of_the_driver():
    """asyncpg leaves unread the future of a command that was broken off with its connection: nobody waits for it."""
    loop = asyncio.get_running_loop()
    usual = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "connection_lost" not in str(context.get("exception")) and usual is not None:
            usual(loop, context)

    loop.set_exception_handler(handle)
    yield
    loop.set_exception_handler(usual)


class Connections:
    """How many the orchestrator has to its stores, as these see it."""

    def __init__(self, stores: dict[str, str]) -> None:
        self._stores = stores

    async def postgres(self) -> list[str]:
        """The state of each."""
        if urlsplit(self._stores["DATABASE_URL"]).scheme != "postgresql":
            return []
        connection = await asyncpg.connect(self._stores["DATABASE_URL"])
        try:
            return [state for (state,) in await connection.fetch(OURS)]
        finally:
            await connection.close()

    def redis(self) -> int:
        if "REDIS_URL" not in self._stores:
            return 0
        with Redis.from_url(self._stores["REDIS_URL"]) as client:
            return len(client.client_list()) - 1


async def echo(request: web.Request) -> web.Response:
    """Gives back what it was sent, after a moment that differs."""
    payload = (await request.json())["payload"]
    await anyio.sleep(payload["delay"])
    return web.json_response({"success": True, "output": payload})


async def visit(service: Service, key: str, delay: float, wait: float) -> dict:
    """Sends a task and waits for its end; each answer must be this task's."""
    kind = "analyze_monitor" if delay < 0.01 else "embed"
    payload = {"key": key, "delay": delay}
    reply = await service.route({"case_id": key, "task_type": kind, "payload": payload, "idempotency_key": key})
    assert reply.status in (200, 202), reply
    task = (await service.ask("GET", f"/task/{reply.json['task_id']}?wait={wait}")).json
    assert (task["task_id"], task["case_id"]) == (reply.json["task_id"], key)
    assert reply.json.get("result", payload) == task.get("result", payload) == payload
    return task


async def all_accepted(service: Service) -> dict[str, str]:
    """The task of each case."""
    accepted: dict[str, str] = {}
    page = {"next": 0}
    while page["next"] is not None:
        page = (await service.ask("GET", f"/audit?limit=1000&after={page['next']}")).json
        for entry in page["entries"]:
            if entry["event"] == "accepted":
                assert entry["case_id"] not in accepted
                accepted[entry["case_id"]] = entry["task_id"]
    return accepted


async def test_a_crowd_that_leaves(service: Service, ledger: dict[str, str]) -> None:
    """Who stays gets the answer to its own question, every task is done once, and no connection is left over."""
    chance, connections = Random(11), Connections(ledger)
    async with ScriptedAgent("echo", echo, capabilities=["embed", "analyze_light"], max_concurrency=64) as agent:
        await agent.register(service)
        await visit(service, "before", 0.0, PATIENCE_S)
        stayed: list[str] = []

        async def come(key: str, leaves_after: float | None) -> None:
            with anyio.move_on_after(leaves_after) if leaves_after is not None else anyio.CancelScope():
                await visit(service, key, chance.random() * 0.03, PATIENCE_S)
                stayed.append(key)

        for wave in range(WAVES):
            async with anyio.create_task_group() as crowd:
                for number in range(CROWD):
                    leaves_after = chance.random() * 0.15 if number % 3 else None
                    crowd.start_soon(come, f"{wave}-{number}", leaves_after)
        assert len(stayed) >= WAVES * CROWD // 3
        accepted = await all_accepted(service)
        assert set(stayed) <= set(accepted)
        for key, task_id in accepted.items():
            task = await service.ended(task_id)
            assert (task["case_id"], task["status"], task["result"]["key"]) == (key, "succeeded", key)
    with anyio.fail_after(PATIENCE_S):
        while len(states := await connections.postgres()) > TO_POSTGRES or set(states) - {"idle"}:  # noqa: ASYNC110 - servers
            await anyio.sleep(0.05)
        while connections.redis() > TO_REDIS:  # noqa: ASYNC110 - as above
            await anyio.sleep(0.05)
