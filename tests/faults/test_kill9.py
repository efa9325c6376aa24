"""The real process, with real agents, killed at any moment."""

import random
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web

from orchestrator.domain.lifecycle import State
from orchestrator.kernel.watch import Watch
from orchestrator.storage.opening import open_ledger
from orchestrator.testing import ScriptedAgent, check_history, trail

pytestmark = pytest.mark.anyio

CYCLES = 20
CLIENTS = 8
PATIENCE_S = 120.0
UNFINISHED = ("queued", "leased", "retry_wait")
GONE = (aiohttp.ClientError, OSError, TimeoutError)


class Clients:
    """They send tasks one after the other, and each again under its key until it is acknowledged."""

    def __init__(self, served: Any) -> None:
        self.served = served
        self.acknowledged: dict[str, str] = {}
        self.results: dict[str, Any] = {}
        self.heard = Watch(0)
        self.ending = False

    async def run(self, number: int) -> None:
        sent = 0
        while not self.ending:
            sent += 1
            key = f"{number}-{sent}"
            kind = "analyze_monitor" if sent % 2 else "embed"
            await self._send(key, {"case_id": key, "task_type": kind, "payload": {"key": key}, "idempotency_key": key})

    async def _send(self, key: str, task: dict[str, Any]) -> None:
        while True:
            try:
                status, _, body = await self.served.ask("POST", "/route_task", json=task)
            except GONE:
                await anyio.sleep(0.01)
                continue
            if status in (200, 202):
                self.acknowledged[key] = body["task_id"]
                self.heard.publish(len(self.acknowledged))
                if body["status"] == "completed_sync":
                    self.results[body["task_id"]] = body["result"]
                return
            assert status in (409, 503), body
            await anyio.sleep(0.01)


@pytest.mark.timeout(600)
async def test_killed_twenty_times_under_load(served):
    """No acknowledged task is lost or done twice in the ledger, and the audit holds after every kill."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    server = served(ORCHESTRATOR_RETRY_BASE="0.05")
    clients = Clients(server)
    print("seed", seed)  # noqa: T201 - pytest shows it when the test fails

    async def work(request: Any) -> Any:
        body = await request.json()
        await anyio.sleep(chance.random() * 0.03)
        return web.json_response({"success": True, "output": body["payload"]})

    async with (
        ScriptedAgent("agent-1", work, capabilities=["embed"], max_concurrency=20) as one,
        ScriptedAgent("agent-2", work, capabilities=["analyze_light"], max_concurrency=20) as two,
    ):
        await server.start()
        for agent in (one, two):
            assert (await server.ask("POST", "/register_agent", json=agent.registration))[0] == 200
        async with anyio.create_task_group() as load:
            for number in range(CLIENTS):
                load.start_soon(clients.run, number)
            for cycle in range(CYCLES):
                enough = len(clients.acknowledged) + 40
                with anyio.fail_after(PATIENCE_S):
                    while len(clients.acknowledged) < enough:
                        await clients.heard.changed()
                await anyio.sleep(chance.random() * 0.1)
                await server.kill()
                if cycle % 5 == 0:
                    assert (await server.run("audit", "verify"))[0] == 0
                await server.start()
            clients.ending = True
        # The agents stay until the last task is done.
        await _check_answers(server, clients)
    assert (await server.stop())[0] == 0
    assert (await server.run("audit", "verify"))[0] == 0
    await _check_ledger(server, clients)


async def _check_answers(server: Any, clients: Clients) -> None:
    assert len(clients.acknowledged) >= CYCLES * 40
    for key, task_id in clients.acknowledged.items():
        with anyio.fail_after(PATIENCE_S):
            while (task := (await server.ask("GET", f"/task/{task_id}?wait=10"))[2])["status"] in UNFINISHED:
                pass
        assert (task["status"], task["case_id"]) == ("succeeded", key), task
        assert task["result"] == {"key": key}
        assert clients.results.get(task_id, task["result"]) == task["result"]


async def _check_ledger(server: Any, clients: Clients) -> None:
    ledger = await open_ledger(server.environ["DATABASE_URL"])
    try:
        records = await check_history(ledger)
        entries = await trail(ledger)
    finally:
        await ledger.close()
    assert {record.task.task_id for record in records} == set(clients.acknowledged.values())
    assert {record.progress.state for record in records} == {State.SUCCEEDED}
    succeeded = [entry.task_id for entry in entries if entry.event == "succeeded"]
    assert len(succeeded) == len(set(succeeded))
