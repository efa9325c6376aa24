"""Tasks over HTTP: accept, explain, look up, wait, cancel; dead letters and their replay."""

import re
from typing import Any

import anyio
import pytest
from aiohttp import web

from orchestrator.testing import SUCCESS, Reply, ScriptedAgent, Service, a_task

pytestmark = pytest.mark.anyio

TASK_ID = re.compile(r"task-[0-9a-f]{32}")
STATUS = {
    "task_id", "case_id", "task_type", "priority", "status", "attempts", "failures", "agent_id", "reason", "created_at",
    "updated_at", "deadline_at", "due_at", "replay_of",
}  # fmt: skip
PERMANENT = {"success": False, "error": {"message": "no", "retryable": False}}


def refused(reply: Reply, status: int, code: str) -> Any:
    """Checks that the answer is the problem with this status and code."""
    assert (reply.status, reply.json["code"]) == (status, code), reply
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert set(reply.json) == {"type", "code", "title", "status", "detail"}
    return reply.json


async def receipt_of(service: Service, task_id: str) -> Any:
    """What the answer to an accepted task must hold: the place of its first entry."""
    accepted = (await service.audit(task_id=task_id))[0]
    assert accepted["event"] == "accepted"
    return {name: accepted[name] for name in ("writer", "seq", "entry_hash")}


@pytest.mark.parametrize("priority", ["urgent", "high", "normal", "low"])
async def test_a_task_that_nobody_can_take_yet(service: Service, priority: str) -> None:
    """Is accepted: 202 with its id, where it waits, and where to look."""
    reply = await service.route({"priority": priority})
    assert reply.status == 202
    assert reply.headers["Content-Type"] == "application/json"
    receipt = await receipt_of(service, reply.json["task_id"])
    expected = {"status": "queued", "queue": f"tasks:{priority}", "receipt": receipt}
    assert reply.json == {"task_id": reply.json["task_id"], **expected}
    assert TASK_ID.fullmatch(reply.json["task_id"])
    assert reply.headers["Location"] == f"/task/{reply.json['task_id']}"
    status = await service.ask("GET", reply.headers["Location"])
    assert set(status.json) == STATUS
    assert (status.json["status"], status.json["attempts"], status.json["priority"]) == ("queued", 0, priority)


async def test_the_priority_is_normal_if_absent(service: Service) -> None:
    """And the queue accordingly."""
    assert (await service.route({})).json["queue"] == "tasks:normal"


async def test_a_synchronous_task(service: Service) -> None:
    """200 with its result, and who gave it."""
    async with ScriptedAgent("light", capabilities=["analyze_light"]) as agent:
        await agent.register(service)
        reply = await service.route({"task_type": "analyze_monitor"})
        assert reply.status == 200
        receipt = await receipt_of(service, reply.json["task_id"])
        expected = {"status": "completed_sync", "result": {"done": True}, "agent_id": "light", "receipt": receipt}
        assert reply.json == {"task_id": reply.json["task_id"], **expected}
        assert reply.headers["Location"] == f"/task/{reply.json['task_id']}"
        status = await service.ended(reply.json["task_id"])
        assert set(status) == STATUS | {"result", "model_version"}
        assert (status["status"], status["result"], status["attempts"]) == ("succeeded", {"done": True}, 1)


async def test_the_same_request_again(service: Service) -> None:
    """200, a duplicate of the first."""
    first = await service.route({"idempotency_key": "k"})
    again = await service.route({"idempotency_key": "k"})
    assert (first.status, again.status) == (202, 200)
    task_id = first.json["task_id"]
    expected = {"status": "duplicate", "state": "queued", "queue": "tasks:normal"}
    assert again.json == {"task_id": task_id, **expected, "receipt": first.json["receipt"]}
    assert again.headers["Location"] == f"/task/{task_id}"


async def test_an_explanation(service: Service, rows) -> None:
    """`dry_run` says every candidate and why, for a refused task too, and stores and sends nothing."""
    async with (
        ScriptedAgent("edge-1", location="edge-a") as near,
        ScriptedAgent("other", capabilities=["audit"]) as other,
    ):
        await near.register(service)
        await other.register(service)
        before = rows("audit_entries")
        reply = await service.ask("POST", "/route_task?dry_run=true", json=a_task(idempotency_key="k"))
        assert reply.status == 200
        assert (reply.json["agent_id"], reply.json["refused"], reply.json["ranking"]) == ("edge-1", False, ["edge-1"])
        assert {c["agent_id"]: c.get("excluded") for c in reply.json["candidates"]} == {
            "edge-1": None,
            "other": "capability",
        }
        raw = a_task(payload={"image_ref": "x"})
        assert (await service.ask("POST", "/route_task?dry_run=1", json=raw)).json["refused"] is True
        refused(
            await service.ask("POST", "/route_task?dry_run=true", json=a_task(task_type="x")),
            400,
            "E_INVALID_TASK_TYPE",
        )
        assert (rows("tasks"), rows("idempotency_keys"), rows("audit_entries")) == (0, 0, before)
        assert not near.calls


async def test_an_unclear_dry_run(service: Service, rows) -> None:
    """Is refused: who asked for it must not have the task done."""
    for query in ("dry_run=yes", "dry_run=", "dry_run=true&dry_run=false"):
        refused(await service.ask("POST", f"/route_task?{query}", json=a_task()), 422, "E_VALIDATION")
    assert rows("tasks") == 0
    assert (await service.ask("POST", "/route_task?dry_run=false", json=a_task())).status == 202


async def test_a_long_poll(service: Service) -> None:
    """Comes back when the task is finished, and not before."""
    go = anyio.Event()

    async def answer(_request: web.Request) -> web.Response:
        await go.wait()
        return web.json_response(SUCCESS)

    async with ScriptedAgent("a", answer) as agent, anyio.create_task_group() as group:
        await agent.register(service)
        task_id = (await service.route({})).json["task_id"]
        found: list[Any] = []

        async def wait() -> None:
            found.append(await service.ended(task_id))

        group.start_soon(wait)
        await agent.until_called()
        await service.reached(task_id, lambda status: status["status"] == "leased")
        assert not found
        go.set()
    assert found[0]["result"] == {"done": True}


async def test_a_long_poll_at_its_limit(service: Service) -> None:
    """Answers with the state as it is."""
    task_id = (await service.route({})).json["task_id"]
    began = anyio.current_time()
    reply = await service.ask("GET", f"/task/{task_id}?wait=0.3")
    assert (reply.status, reply.json["status"]) == (200, "queued")
    assert 0.25 <= anyio.current_time() - began < 5


async def test_an_unknown_task(service: Service) -> None:
    """404 for every call."""
    name = "task-" + "0" * 32
    for method, path in [
        ("GET", f"/task/{name}"), ("GET", f"/task/{name}?wait=1"), ("DELETE", f"/task/{name}"),
        ("POST", f"/dlq/{name}/replay"), ("GET", "/task/x%20y"),
    ]:  # fmt: skip
        refused(await service.ask(method, path), 404, "E_NOT_FOUND")


async def test_cancelling_a_queued_task(service: Service) -> None:
    """200; it never runs, and cancelling it again is 409."""
    task_id = (await service.route({})).json["task_id"]
    reply = await service.ask("DELETE", f"/task/{task_id}")
    assert (reply.status, reply.json["status"], reply.json["reason"]) == (200, "cancelled", "cancelled")
    refused(await service.ask("DELETE", f"/task/{task_id}"), 409, "E_ALREADY_FINISHED")
    async with ScriptedAgent() as agent:
        await agent.register(service)
        other = (await service.route({})).json["task_id"]
        assert (await service.ended(other))["status"] == "succeeded"
        assert [call.body["request_id"] for call in agent.calls] == [other]


async def test_cancelling_a_running_task(service: Service) -> None:
    """200; the result that comes later is not accepted."""
    go = anyio.Event()

    async def answer(_request: web.Request) -> web.Response:
        await go.wait()
        return web.json_response({"success": True, "output": "late"})

    async with ScriptedAgent("a", answer, SUCCESS) as agent:
        await agent.register(service)
        task_id = (await service.route({})).json["task_id"]
        await agent.until_called()
        assert (await service.ask("DELETE", f"/task/{task_id}")).json["status"] == "cancelled"
        go.set()
        following = (await service.route({})).json["task_id"]
        await service.ended(following)
        status = (await service.ask("GET", f"/task/{task_id}")).json
        assert status["status"] == "cancelled"
        assert "result" not in status
        events = [entry["event"] for entry in await service.audit(task_id=task_id)]
        assert events == ["accepted", "leased", "cancelled"]


async def test_cancelling_a_finished_task(service: Service) -> None:
    """409, and its result stays."""
    async with ScriptedAgent() as agent:
        await agent.register(service)
        task_id = (await service.route({})).json["task_id"]
        await service.ended(task_id)
        refused(await service.ask("DELETE", f"/task/{task_id}"), 409, "E_ALREADY_FINISHED")
        assert (await service.ended(task_id))["status"] == "succeeded"


async def test_dead_letters(service: Service) -> None:
    """Are listed page by page; a replay makes a new, linked task, and twice the same one."""
    async with ScriptedAgent("a", PERMANENT, PERMANENT, PERMANENT, SUCCESS) as agent:
        await agent.register(service)
        dead = []
        for _ in range(3):
            dead.append((await service.route({})).json["task_id"])
            assert (await service.ended(dead[-1]))["status"] == "dead"
        page = (await service.ask("GET", "/dlq?limit=2")).json
        rest = (await service.ask("GET", f"/dlq?limit=2&after={page['next']}")).json
        assert [entry["task_id"] for entry in page["entries"] + rest["entries"]] == dead
        assert rest["next"] is None
        assert page["entries"][0]["reason"] == "agent_error_permanent"

        replayed = await service.ask("POST", f"/dlq/{dead[0]}/replay")
        assert (replayed.status, replayed.json["status"]) == (202, "queued")
        again = await service.ask("POST", f"/dlq/{dead[0]}/replay")
        assert (again.status, again.json["status"]) == (200, "duplicate")
        assert again.json["task_id"] == replayed.json["task_id"] != dead[0]
        status = await service.ended(replayed.json["task_id"])
        assert (status["status"], status["replay_of"]) == ("succeeded", dead[0])
        assert (await service.ended(dead[0]))["status"] == "dead"
        refused(await service.ask("POST", f"/dlq/{replayed.json['task_id']}/replay"), 409, "E_NOT_DEAD")


async def test_too_many_unfinished_tasks(ledger, environ: dict[str, str], rows) -> None:
    """503 with Retry-After for that class alone, and nothing is stored."""
    async with Service(ledger, {**environ, "ORCHESTRATOR_QUEUE_MAX_OPEN": "2"}) as service:
        for _ in range(2):
            assert (await service.route({})).status == 202
        reply = await service.route({"idempotency_key": "k"})
        refused(reply, 503, "E_OVERLOADED")
        assert int(reply.headers["Retry-After"]) > 0
        assert (rows("tasks"), rows("idempotency_keys")) == (2, 0)
        assert (await service.route({"priority": "urgent"})).status == 202


async def test_once_the_drain_has_begun(service: Service) -> None:
    """New work is refused with 503 and Retry-After; a long-poll is answered; readiness says so."""
    task_id = (await service.route({})).json["task_id"]
    async with anyio.create_task_group() as group:
        replies: list[Reply] = []

        async def poll() -> None:
            replies.append(await service.ask("GET", f"/task/{task_id}?wait=30"))

        group.start_soon(poll)
        group.start_soon(poll)
        system: Any = service.orchestrator._system
        with anyio.fail_after(10):
            while system.feed._waiting[task_id] < 2:
                await anyio.lowlevel.checkpoint()
        began = anyio.current_time()
        service.orchestrator.drain()
    assert anyio.current_time() - began < 5
    assert [reply.json["status"] for reply in replies] == ["queued", "queued"]
    for reply in (await service.route({}), await service.ask("POST", f"/dlq/{task_id}/replay")):
        refused(reply, 503, "E_SHUTTING_DOWN")
        assert reply.headers["Retry-After"] == "5"
    ready = await service.ask("GET", "/ready")
    assert (ready.status, ready.json) == (503, {"ready": False, "reasons": ["shutting_down"]})
    assert (await service.ask("GET", "/health")).status == 200
