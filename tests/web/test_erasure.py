"""What a task holds is destroyed at somebody's request: nothing of it is handed out, sent or done any more."""

from typing import Any

import anyio
import pytest
from aiohttp import web

from orchestrator.domain.audit import flaws
from orchestrator.testing import SUCCESS, ScriptedAgent, Service

pytestmark = pytest.mark.anyio

HELD = {"payload": {"text": "held"}, "meta": {"more": "held"}, "idempotency_key": "key-1"}


async def erase(service: Service, path: str):
    reply = await service.ask("POST", f"{path}/erase")
    assert reply.status == 200, reply
    return reply.json


async def test_task_that_is_done(service: Service) -> None:
    """It says that it is erased, by every way and without its result; the chain holds; twice is once."""
    async with ScriptedAgent("agent-1", {"success": True, "output": {"found": "held"}}) as agent:
        await agent.register(service)
        task_id = (await service.route(HELD)).json["task_id"]
        assert (await service.ended(task_id))["result"] == {"found": "held"}
        answer = await erase(service, f"/task/{task_id}")
        status = await service.ended(task_id)
        again = await service.route(HELD)
        events = await service.ask("GET", f"/task/{task_id}/events")
        assert len(agent.calls) == 1
    assert (answer["status"], answer["erased"]) == ("erased", 1)
    assert (status["status"], status["erased"]) == ("succeeded", True)
    assert (again.json["status"], again.json["erased"]) == ("duplicate", True)
    for text in (repr(status), again.body.decode(), events.body.decode(), repr(await service.audit())):
        assert "held" not in text
    assert (await service.audit(task_id=task_id))[-1]["event"] == "erased"
    assert await erase(service, f"/task/{task_id}") == {"status": "erased", "erased": 0, "receipt": None}
    system: Any = service.orchestrator._system
    ledger = system.ledger
    (head,) = await ledger.audit_heads()
    assert answer["receipt"] == {"writer": head.writer, "seq": head.seq, "entry_hash": head.entry_hash}
    assert list(flaws([entry async for entry in ledger.audit_chain(head.writer)], head)) == []
    assert "orchestrator_tasks_erased_total 1.0" in (await service.ask("GET", "/metrics")).body.decode()


async def test_task_that_runs(service: Service) -> None:
    """It is cancelled, and who waits is told at once. The agent's answer comes, and is never stored nor handed out."""
    go, answered = anyio.Event(), anyio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        await go.wait()
        answered.set()
        return web.json_response({"success": True, "output": {"found": "held"}})

    async with ScriptedAgent("agent-1", slow, SUCCESS) as agent:
        await agent.register(service)
        task_id = (await service.route(HELD)).json["task_id"]
        await agent.until_called()
        ended = {}

        async def wait() -> None:
            ended.update(await service.ended(task_id))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await erase(service, f"/task/{task_id}")
        assert (ended["status"], ended["reason"], ended["erased"]) == ("cancelled", "erased", True)
        go.set()
        await answered.wait()
        # The slot of that call is free again only after its answer was dealt with.
        await service.ended((await service.route({})).json["task_id"])
    status = (await service.ask("GET", f"/task/{task_id}")).json
    assert (status["status"], status.get("result")) == ("cancelled", None)
    assert [e["event"] for e in await service.audit(task_id=task_id)] == ["accepted", "leased", "cancelled", "erased"]


async def test_case(service: Service) -> None:
    """Every task of it, however many, and no other; its name may be any."""
    case = "Zoë/7 🩺"
    tasks = [{"case_id": case, "task_type": "embed", "payload": {"n": n}} for n in range(250)]
    assert (await service.ask("POST", "/route_tasks", json=tasks)).status == 207
    other = (await service.route({})).json["task_id"]
    answer = await erase(service, "/cases/Zo%C3%AB%2F7%20%F0%9F%A9%BA")
    assert answer["erased"] == 250
    assert (await service.ask("GET", f"/task/{other}")).json["status"] == "queued"
    ended = await service.audit(case_id=case)
    assert [sum(e["event"] == event for e in ended) for event in ("accepted", "cancelled")] == [250, 250]


async def test_dead_letter(service: Service) -> None:
    """It is not replayed: there is nothing to do it from."""
    permanent = {"success": False, "error": {"message": "no", "retryable": False}}
    async with ScriptedAgent("agent-1", permanent) as agent:
        await agent.register(service)
        task_id = (await service.route(HELD)).json["task_id"]
        await service.ended(task_id)
        await erase(service, f"/task/{task_id}")
        reply = await service.ask("POST", f"/dlq/{task_id}/replay")
        assert (reply.status, reply.json["code"]) == (410, "E_ERASED")
        assert len(agent.calls) == 1
    assert (await service.ask("GET", "/dlq")).json["entries"][0]["erased"] is True


@pytest.mark.parametrize("path", ["/task/task-unknown", "/cases/%00", "/cases/a%0Ab"])
async def test_nothing_of_that_name(service: Service, path: str) -> None:
    """404, and nothing is written."""
    assert (await service.ask("POST", f"{path}/erase")).status in (400, 404)
    assert await service.audit() == []
