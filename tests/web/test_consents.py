"""Consent follows the task: it is asked at each step, and may be taken back at any moment."""

import anyio
import pytest
from aiohttp import web

from orchestrator.domain.errors import Forbidden
from orchestrator.domain.identity import Principal, Scope
from orchestrator.domain.task import Consent, Override
from orchestrator.testing import SUCCESS, ScriptedAgent, Service, a_request

pytestmark = pytest.mark.anyio

GIVEN = {"consent": {"consent_given": True, "consent_id": "consent-1"}}


async def revoke(service: Service, consent_id: str = "consent-1"):
    reply = await service.ask("POST", f"/consents/{consent_id}/revoke")
    assert reply.status == 200, reply
    return reply.json


async def test_waiting_work_is_denied(service: Service) -> None:
    """With its entry in the audit; who waits for it is told at once, and a task under another consent goes on."""
    task_id = (await service.route(GIVEN)).json["task_id"]
    other = (await service.route({})).json["task_id"]
    ended = {}

    async def wait() -> None:
        ended.update(await service.ended(task_id))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        answer = await revoke(service)
    assert (answer["status"], answer["denied"]) == ("revoked", 1)
    assert (ended["status"], ended["reason"]) == ("denied", "consent_revoked")
    assert (await service.ask("GET", f"/task/{other}")).json["status"] == "queued"
    assert [e["event"] for e in await service.audit(task_id=task_id)] == ["accepted", "denied"]
    (entry,) = [e for e in await service.audit() if e["event"] == "consent_revoked"]
    assert {name: entry[name] for name in ("writer", "seq", "entry_hash")} == answer["receipt"]
    assert (await revoke(service)) == {"consent_id": "consent-1", "status": "revoked", "denied": 0, "receipt": None}


async def test_running_work_is_fenced(service: Service) -> None:
    """The agent's answer comes, and is never stored nor handed out."""
    go, answered = anyio.Event(), anyio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        await go.wait()
        answered.set()
        return web.json_response({"success": True, "output": {"secret": 1}})

    async with ScriptedAgent("agent-1", slow, SUCCESS) as agent:
        await agent.register(service)
        task_id = (await service.route(GIVEN)).json["task_id"]
        await agent.until_called()
        assert (await revoke(service))["denied"] == 1
        go.set()
        await answered.wait()
        # The slot of that call is free again only after its answer was dealt with.
        await service.ended((await service.route({})).json["task_id"])
    status = (await service.ask("GET", f"/task/{task_id}")).json
    assert (status["status"], status.get("result")) == ("denied", None)
    assert [e["event"] for e in await service.audit(task_id=task_id)] == ["accepted", "leased", "denied"]


async def test_result_is_not_handed_out_any_more(service: Service) -> None:
    """By no way: not the task, not its duplicate, not its events; it says why."""
    async with ScriptedAgent("agent-1") as agent:
        await agent.register(service)
        task = {**GIVEN, "idempotency_key": "key-1"}
        task_id = (await service.route(task)).json["task_id"]
        assert (await service.ended(task_id))["result"] == {"done": True}
    await revoke(service)
    status = await service.ended(task_id)
    assert (status["status"], status["reason"]) == ("succeeded", "consent_revoked")
    again = await service.route(task)
    events = await service.ask("GET", f"/task/{task_id}/events")
    for text in (repr(status), again.body.decode(), events.body.decode()):
        assert "done" not in text
    assert again.json["status"] == "duplicate"


async def test_new_work_under_it(service: Service) -> None:
    """Is refused for ever, alone, in a batch and when it is only explained; each refusal has its entry."""
    await revoke(service)
    for given in (GIVEN, {"consent": {"consent_given": False, "consent_id": "consent-1"}}):
        reply = await service.route(given)
        assert (reply.status, reply.json["code"]) == (403, "E_CONSENT_REQUIRED")
    task = {"case_id": "c", "task_type": "embed", "payload": {}}
    batch = await service.ask("POST", "/route_tasks", json=[{**task, **GIVEN}, task])
    assert [found["status"] for found in batch.json["outcomes"]] == [403, 202]
    explained = await service.ask("POST", "/route_task?dry_run=true", json={**task, **GIVEN})
    assert explained.json["refused"] is True
    refusals = [e for e in await service.audit() if e["event"] == "refused"]
    assert [(e["consent_id"], e["reason"]) for e in refusals] == [("consent-1", "consent_revoked")] * 3


async def test_dead_letter_under_it(service: Service) -> None:
    """It is not replayed."""
    permanent = {"success": False, "error": {"message": "no", "retryable": False}}
    async with ScriptedAgent("agent-1", permanent) as agent:
        await agent.register(service)
        task_id = (await service.route(GIVEN)).json["task_id"]
        await service.ended(task_id)
        await revoke(service)
        reply = await service.ask("POST", f"/dlq/{task_id}/replay")
        assert (reply.status, reply.json["code"]) == (403, "E_CONSENT_REQUIRED")
        assert len(agent.calls) == 1


@pytest.mark.parametrize("path", ["%00", "a%0Ab", "x" * 201])
async def test_name_that_is_none(service: Service, path: str) -> None:
    """It is refused, and not quoted."""
    reply = await service.ask("POST", f"/consents/{path}/revoke")
    assert reply.status in (400, 404, 422)
    assert await service.audit() == []


@pytest.mark.parametrize("name", ["a%2Fb", "%2Fa", "%2F", "Zo%C3%AB%20%F0%9F%A9%BA", "..", "revoke"])
async def test_any_name(service: Service, name: str) -> None:
    """Whatever a consent may be called, it can be revoked."""
    reply = await service.ask("POST", f"/consents/{name}/revoke")
    assert reply.status == 200


async def test_override_without_the_right(service: Service) -> None:
    """403; nothing is stored."""
    override = {"reason": "cardiac arrest", "requested_by": "dr-1"}
    reply = await service.route({"payload": {"image": "x"}, "consent": {"override": override}})
    assert (reply.status, reply.json["code"]) == (403, "E_FORBIDDEN")
    assert await service.audit() == []
    with pytest.raises(Forbidden):
        await service.orchestrator.gateway.explain(a_request(consent=Consent(override=Override("r", "d"))))


async def test_override_with_the_right(service: Service) -> None:
    """Raw media goes through, with an entry of who and why, counted, and its result is given for a short time only."""
    async with ScriptedAgent("agent-1") as agent:
        await agent.register(service)
        consent = Consent(override=Override("cardiac arrest", "dr-1"))
        request = a_request(payload={"image": "x"}, consent=consent)
        doctor = Principal("dr-1", frozenset({Scope.BREAKGLASS}))
        routed = await service.orchestrator.gateway.acting_for(doctor).route(request)
        task_id = routed.record.task.task_id
        assert (await service.ended(task_id))["result"] == {"done": True}
    entries = await service.audit(task_id=task_id)
    assert [e["event"] for e in entries] == ["consent_overridden", "accepted", "leased", "succeeded"]
    assert entries[0]["principal"] == "dr-1"
    assert entries[0]["detail"]["override"] == {"reason": "cardiac arrest", "requested_by": "dr-1"}
    assert routed.record.task.consent.expires_at is not None
    held = routed.record.task.consent.expires_at.timestamp() - routed.record.task.created_at
    assert 899 < held < 901
    metrics = (await service.ask("GET", "/metrics")).body.decode()
    assert "orchestrator_consent_overrides_total 1.0" in metrics


async def test_agent_that_is_not_for_raw_media(service: Service) -> None:
    """It gets the task without it, unless the task's type needs it."""
    async with ScriptedAgent("agent-1", capabilities=["embed", "analyze_light"]) as agent:
        await agent.register(service)
        for task_type in ("analyze_monitor", "embed"):
            task = {**GIVEN, "task_type": task_type, "payload": {"image": "x", "note": "n"}, "meta": {"photo": "y"}}
            await service.ended((await service.route(task)).json["task_id"])
        stripped, whole = (call.body for call in agent.calls)
    assert (stripped["payload"], stripped["meta"]) == ({"note": "n"}, {})
    assert (whole["payload"], whole["meta"]) == ({"image": "x", "note": "n"}, {"photo": "y"})
