"""Agents that ask for work, over HTTP: lease, extend, result, and all that can be wrong with them."""

import asyncio
from typing import Any

import aiohttp
import pytest

from orchestrator.kernel.mailbox import Mailbox
from orchestrator.testing import Service

pytestmark = pytest.mark.anyio

CARD = {"agent_id": "puller-1", "capabilities": ["embed"]}


async def register(service: Service, **fields: Any) -> Any:
    reply = await service.ask("POST", "/register_agent", json={**CARD, **fields})
    assert reply.status == 200, reply
    return reply.json


async def lease(service: Service, **ask: Any) -> list[Any]:
    reply = await service.ask("POST", "/agents/puller-1/lease", json=ask)
    assert reply.status == 200, reply
    return reply.json["tasks"]


def proof(task: Any, **fields: Any) -> dict[str, Any]:
    return {"agent_id": "puller-1", "attempt": task["attempt"], "lease": task["lease"], **fields}


async def post(service: Service, task_id: str, call: str, body: Any) -> tuple[int, Any]:
    reply = await service.ask("POST", f"/task/{task_id}/{call}", json=body)
    return reply.status, reply.json


async def test_from_a_lease_to_a_result(service: Service) -> None:
    """The agent is given all that a call would give it, says how far it is, and its result is the task's."""
    assert (await register(service))["mode"] == "pull"
    routed = await service.route({"meta": {"visit": 7}})
    task_id = routed.json["task_id"]
    (task,) = await lease(service, wait=5)
    assert (task["task_id"], task["attempt"], task["task_type"]) == (task_id, 1, "embed")
    assert (task["case_id"], task["payload"], task["meta"]) == ("case-1", {"text": "hello"}, {"visit": 7})
    assert 9 < task["lease_s"] <= 10
    assert task["lease_until"] < task["deadline"]
    status, extended = await post(service, task_id, "extend", proof(task, progress=0.4, note="reading"))
    assert (status, extended["task_id"], extended["attempt"]) == (200, task_id, 1)
    seen = (await service.ask("GET", f"/task/{task_id}")).json
    assert (seen["status"], seen["progress"], seen["progress_note"]) == ("leased", 0.4, "reading")
    assert "lease" not in str({**seen, "status": ""})
    result = proof(task, success=True, output={"vector": [1.5]}, model_version="m-1")
    for _ in range(2):
        assert await post(service, task_id, "result", result) == (200, {"task_id": task_id, "status": "succeeded"})
    ended = await service.ended(task_id)
    assert (ended["result"], ended["agent_id"], ended["model_version"]) == ({"vector": [1.5]}, "puller-1", "m-1")
    assert "progress" not in ended


async def test_a_failure(service: Service) -> None:
    """Is tried again, or is a dead letter, as the agent says; its words are kept nowhere."""
    await register(service)
    task_id = (await service.route({})).json["task_id"]
    (task,) = await lease(service, wait=5)
    error = {"message": "Jane Roe", "retryable": True}
    assert (await post(service, task_id, "result", proof(task, success=False, error=error)))[0] == 200
    (task,) = await lease(service, wait=5)
    assert task["attempt"] == 2
    status, body = await post(service, task_id, "result", proof(task, success=False, error={"retryable": False}))
    assert (status, body["status"]) == (200, "dead")
    assert "Jane" not in str([await service.audit(), (await service.ask("GET", f"/task/{task_id}")).json])


async def test_a_lease_that_is_not_the_agents(service: Service) -> None:
    """409 E_STALE_LEASE, 404 for no task at all, and the one that holds it goes on."""
    await register(service)
    task_id = (await service.route({})).json["task_id"]
    (task,) = await lease(service, wait=5)
    for wrong in ({"lease": "0" * 32}, {"attempt": 2}, {"agent_id": "somebody"}):
        for call, body in (("result", {"success": True, "output": 1}), ("extend", {})):
            status, problem = await post(service, task_id, call, {**proof(task, **body), **wrong})
            assert (status, problem["code"]) == (409, "E_STALE_LEASE"), (wrong, call)
    status, problem = await post(service, "task-none", "result", proof(task, success=True, output=1))
    assert (status, problem["code"]) == (404, "E_NOT_FOUND")
    assert (await post(service, task_id, "result", proof(task, success=True, output=None)))[0] == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"success": True}, {"success": "yes", "output": 1}, {"output": 1}, {"success": True, "output": 1, "lease": "x"},
        {"success": True, "output": 1, "lease": None}, {"success": True, "output": 1, "attempt": "1"},
        {"success": True, "output": 1, "attempt": 0}, {"success": True, "output": 1, "state": "succeeded"},
        {"success": False, "error": "broken"}, {"success": False, "error": {"retryable": 1}},
        {"success": True, "output": 1, "model_version": "x" * 201}, {"success": True, "output": 1, "agent_id": "a/b"},
    ],
)  # fmt: skip
async def test_a_result_that_does_not_fit(service: Service, fields: dict[str, Any]) -> None:
    """422, and the agent still holds the task: it may say it better."""
    await register(service)
    task_id = (await service.route({})).json["task_id"]
    (task,) = await lease(service, wait=5)
    status, problem = await post(service, task_id, "result", {**proof(task), **fields})
    assert (status, problem["code"]) == (422, "E_VALIDATION"), problem
    assert (await post(service, task_id, "result", proof(task, success=True, output=1)))[0] == 200


async def test_other_calls_that_do_not_fit(service: Service) -> None:
    """422 for a lease or an extension out of bounds; 400 for what is no strict JSON."""
    await register(service)
    for ask in ({"max": 0}, {"max": 101}, {"wait": -1}, {"wait": "5"}, {"task_id": ""}, {"other": 1}, {"max": None}):
        reply = await service.ask("POST", "/agents/puller-1/lease", json=ask)
        assert (reply.status, reply.json["code"]) == (422, "E_VALIDATION"), ask
    for word in ({"progress": 1.1}, {"progress": -0.1}, {"note": "x" * 201}, {"progress": "half"}, {"more": 1}):
        body = {"agent_id": "puller-1", "attempt": 1, "lease": "0" * 32, **word}
        status, problem = await post(service, "task-x", "extend", body)
        assert (status, problem["code"]) == (422, "E_VALIDATION"), word
    reply = await service.ask(
        "POST", "/task/x/result", data=b'{"a":1,"a":1}', headers={"Content-Type": "application/json"}
    )
    assert (reply.status, reply.json["code"]) == (400, "E_INVALID_JSON")


async def test_who_may_not_ask(service: Service) -> None:
    """404 for an agent that is not known, 409 for one that is called."""
    reply = await service.ask("POST", "/agents/nobody/lease", json={})
    assert (reply.status, reply.json["code"]) == (404, "E_NOT_FOUND")
    await register(service, agent_id="caller", endpoint="http://127.0.0.1:9009")
    reply = await service.ask("POST", "/agents/caller/lease", data=b"")
    assert (reply.status, reply.json["code"]) == (409, "E_NOT_A_PULL_AGENT")


async def test_a_large_result(service: Service) -> None:
    """An agent may say as much as in the answer to a call, and no more."""
    await register(service)
    task_id = (await service.route({})).json["task_id"]
    (task,) = await lease(service, wait=5)
    head = f"POST /task/{task_id}/result HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    said = await service.raw(f"{head}Content-Length: {2**20 + 1}\r\nConnection: close\r\n\r\n".encode())
    assert b" 413 " in said.split(b"\r\n")[0]
    assert (await post(service, task_id, "result", proof(task, success=True, output="x" * 1_000_000)))[0] == 200
    assert len((await service.ended(task_id))["result"]) == 1_000_000


class Heard:
    """What was said to the lease desk, by the names of the messages."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._said, self._changed = list[str](), asyncio.Event()
        post = Mailbox.post

        def posting(mailbox: Mailbox[Any], message: Any) -> None:
            post(mailbox, message)
            if mailbox.name == "lease_desk":
                self._said.append(type(message).__name__)
                self._changed.set()

        monkeypatch.setattr(Mailbox, "post", posting)

    async def until(self, *names: str) -> None:
        """Waits until exactly this was said. Raises TimeoutError."""
        async with asyncio.timeout(20):
            while self._said != list(names):
                self._changed.clear()
                await self._changed.wait()


async def test_an_agent_that_hangs_up_while_it_waits(monkeypatch, ledger, environ) -> None:
    """Work that comes afterwards is for the next one that asks, as the first attempt."""
    heard = Heard(monkeypatch)
    async with Service(ledger, environ) as service:
        await register(service)
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{service.port}/agents/puller-1/lease"
            asking = asyncio.ensure_future(session.post(url, json={"wait": 50}))
            await heard.until("LeaseTasks")
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await heard.until("LeaseTasks", "Withdraw")
        task_id = (await service.route({})).json["task_id"]
        (task,) = await lease(service, wait=20)
        assert (task["task_id"], task["attempt"]) == (task_id, 1)


async def test_who_waits_when_service_ends(monkeypatch, ledger, environ) -> None:
    """Is answered at once with nothing."""
    heard = Heard(monkeypatch)
    async with Service(ledger, environ) as service:
        await register(service)
        waiting = asyncio.ensure_future(lease(service, wait=50))
        await heard.until("LeaseTasks")
        service.orchestrator.drain()
        async with asyncio.timeout(20):
            assert await waiting == []
