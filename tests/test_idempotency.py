"""One idempotency key is one task, over real HTTP: however many ask at once, whoever leaves, whatever restarts."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator

import anyio
import pytest
from aiohttp import web

from orchestrator.testing import SUCCESS, ScriptedAgent, Service, a_task

pytestmark = pytest.mark.anyio

SYNC = {"task_type": "analyze_monitor", "idempotency_key": "k"}


@pytest.fixture
async def service(ledger: dict[str, str]) -> AsyncGenerator[Service]:
    async with Service(ledger) as service:
        yield service


@pytest.fixture
async def agent(service: Service) -> AsyncGenerator[ScriptedAgent]:
    async with ScriptedAgent("agent-1", capabilities=["embed", "analyze_light"]) as agent:
        await agent.register(service)
        yield agent


def outcome(status: int, answer: dict) -> str:
    return f"{status} {answer.get('code') or answer['status']}"


@pytest.mark.parametrize("with_agent", [False, True], ids=["nobody to take it", "an agent"])
async def test_a_hundred_requests_at_once(service: Service, with_agent: bool) -> None:
    """One task, run once: exactly one 202, all others are told 200 duplicate or 409 in progress."""
    async with ScriptedAgent() as agent:
        if with_agent:
            await agent.register(service)
        replies = await asyncio.gather(*(service.route({"idempotency_key": "k"}) for _ in range(100)))
        outcomes = Counter(outcome(reply.status, reply.json) for reply in replies)
        assert outcomes.pop("202 queued") == 1
        assert set(outcomes) <= {"200 duplicate", "409 E_IN_PROGRESS"}, outcomes
        ids = {reply.json["task_id"] for reply in replies if "task_id" in reply.json}
        assert len(ids) == 1
        assert all("Retry-After" in reply.headers for reply in replies if reply.status == 409)
        accepted = [entry for entry in await service.audit() if entry["event"] == "accepted"]
        assert [entry["task_id"] for entry in accepted] == list(ids)
        if with_agent:
            assert (await service.ended(*ids))["status"] == "succeeded"
            assert len(agent.calls) == 1


async def test_a_hundred_synchronous_requests_at_once(service: Service, agent: ScriptedAgent) -> None:
    """One call to the agent; one caller has its result, the others are told duplicate or in progress."""
    replies = await asyncio.gather(*(service.route(SYNC) for _ in range(100)))
    outcomes = Counter(outcome(reply.status, reply.json) for reply in replies)
    assert outcomes.pop("200 completed_sync") == 1
    assert set(outcomes) <= {"200 duplicate", "409 E_IN_PROGRESS"}, outcomes
    assert len(agent.calls) == 1


async def test_many_keys_at_once(service: Service, agent: ScriptedAgent) -> None:
    """Each is its own task, however the requests mix."""
    keys = [f"k{number % 20}" for number in range(100)]
    replies = await asyncio.gather(*(service.route({"idempotency_key": key}) for key in keys))
    ids: dict[str, set[str]] = {}
    for key, reply in zip(keys, replies, strict=True):
        assert reply.status in (200, 202, 409)
        ids.setdefault(key, set()).update({reply.json["task_id"]} if reply.status != 409 else set())
    assert all(len(found) == 1 for found in ids.values())
    assert len(set.union(*ids.values())) == 20
    for task_id in set.union(*ids.values()):
        await service.ended(task_id)
    assert Counter(call.body["request_id"] for call in agent.calls) == dict.fromkeys(set.union(*ids.values()), 1)


async def test_the_key_in_the_header(service: Service) -> None:
    """Is the same key as in the body, bare or as a quoted string; both may be given, and then agree."""
    first = await service.route({}, headers={"Idempotency-Key": "k"})
    again = [
        await service.route({"idempotency_key": "k"}),
        await service.route({}, headers={"idempotency-key": '"k"'}),
        await service.route({"idempotency_key": "k"}, headers={"Idempotency-Key": "k"}),
    ]
    assert first.status == 202
    assert {(r.status, r.json["status"], r.json["task_id"]) for r in again} == {
        (200, "duplicate", first.json["task_id"])
    }
    differing = await service.route({"idempotency_key": "k"}, headers={"Idempotency-Key": "other"})
    assert (differing.status, differing.json["code"]) == (422, "E_VALIDATION")


@pytest.mark.parametrize(
    "other",
    [
        {"payload": {"text": "hello "}}, {"case_id": "case-2"}, {"priority": "high"}, {"meta": {"site": "a"}},
        {"consent": {"consent_given": True}}, {"deadline_s": 60}, {"payload": {"text": "hello", "more": None}},
        {"task_type": "indexing"},
    ],
)  # fmt: skip
async def test_another_body_under_the_same_key(service: Service, other: dict) -> None:
    """422, whichever part differs; the first task stays what it was."""
    first = await service.route({"idempotency_key": "k"})
    reply = await service.route({"idempotency_key": "k", **other})
    assert (reply.status, reply.json["code"]) == (422, "E_IDEMPOTENCY_KEY_REUSED")
    assert (await service.route({"idempotency_key": "k"})).json["task_id"] == first.json["task_id"]


async def test_another_body_while_the_first_is_answered(service: Service) -> None:
    """422 at once; the same body is told 409 until the first is answered."""
    go = anyio.Event()

    async def answer(_request: web.Request) -> web.Response:
        await go.wait()
        return web.json_response(SUCCESS)

    async with ScriptedAgent("a", answer, capabilities=["analyze_light"]) as agent:
        await agent.register(service)
        async with anyio.create_task_group() as group:
            group.start_soon(service.route, SYNC)
            await agent.until_called()
            same, other = await service.route(SYNC), await service.route({**SYNC, "priority": "low"})
            assert (same.status, same.json["code"]) == (409, "E_IN_PROGRESS")
            assert (other.status, other.json["code"]) == (422, "E_IDEMPOTENCY_KEY_REUSED")
            go.set()
        assert (await service.route(SYNC)).json["status"] == "duplicate"
        assert len(agent.calls) == 1


async def test_the_same_key_after_completion(service: Service, agent: ScriptedAgent) -> None:
    """Returns the result, and the agent is not called again."""
    first = (await service.route({"idempotency_key": "k"})).json
    task_id = first["task_id"]
    await service.ended(task_id)
    reply = await service.route({"idempotency_key": "k"})
    assert reply.status == 200
    assert reply.json == {
        "task_id": task_id,
        "status": "duplicate",
        "state": "succeeded",
        "queue": "tasks:normal",
        "result": {"done": True},
        "agent_id": "agent-1",
        "receipt": first["receipt"],
    }
    assert len(agent.calls) == 1


async def test_bodies_that_differ_in_spelling_only(service: Service) -> None:
    """Are the same request: order, spaces, escapes, defaults written out, whole numbers as such."""
    first = await service.route({"idempotency_key": "k", "payload": {"a": "é", "b": [1, 2]}})
    task = a_task(idempotency_key="k")
    spelled = [
        {**task, "payload": {"b": [1, 2], "a": "é"}},
        {**task, "payload": {"a": "é", "b": [1, 2]}, "priority": "normal", "meta": {}, "consent": {}},
        {**task, "payload": {"a": "é", "b": [1, 2]}, "consent": {"consent_given": False}, "deadline_s": None},
    ]
    bodies = [json.dumps(body, indent=3, ensure_ascii=number == 1).encode() for number, body in enumerate(spelled)]
    bodies.append(json.dumps(dict(reversed(spelled[0].items()))).replace("\\u00e9", "\\u00E9").encode())
    for body in bodies:
        reply = await service.ask("POST", "/route_task", data=body, headers={"Content-Type": "application/json"})
        assert (reply.status, reply.json["task_id"]) == (200, first.json["task_id"]), body


async def test_a_refused_request_does_not_take_its_key(service: Service) -> None:
    """The corrected request may use it."""
    assert (await service.route({"idempotency_key": "k", "payload": {"image": 1}})).status == 403
    assert (await service.route({"idempotency_key": "k", "task_type": "none"})).status == 400
    assert (await service.route({"idempotency_key": "k"})).status == 202


async def test_keys_survive_a_restart(ledger: dict[str, str]) -> None:
    """A new process on the same file knows them, with the result."""
    async with Service(ledger) as service, ScriptedAgent() as agent:
        await agent.register(service)
        done = (await service.route({"idempotency_key": "done"})).json["task_id"]
        await service.ended(done)
        waiting = (await service.route({"idempotency_key": "waiting", "task_type": "indexing"})).json["task_id"]
    async with Service(ledger) as service:
        reply = await service.route({"idempotency_key": "done"})
        assert (reply.status, reply.json["task_id"], reply.json["result"]) == (200, done, {"done": True})
        reply = await service.route({"idempotency_key": "waiting", "task_type": "indexing"})
        assert (reply.status, reply.json["task_id"], reply.json["state"]) == (200, waiting, "queued")
        reply = await service.route({"idempotency_key": "done", "priority": "low"})
        assert (reply.status, reply.json["code"]) == (422, "E_IDEMPOTENCY_KEY_REUSED")
        assert len(agent.calls) == 1


async def test_a_client_that_leaves_before_its_answer(service: Service) -> None:
    """Its request is completed all the same, and its key answers."""
    go = anyio.Event()

    async def answer(_request: web.Request) -> web.Response:
        await go.wait()
        return web.json_response(SUCCESS)

    async with ScriptedAgent("a", answer, capabilities=["analyze_light"]) as agent:
        await agent.register(service)
        body = json.dumps({**a_task(), **SYNC}).encode()
        head = b"POST /route_task HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        async with await anyio.connect_tcp("127.0.0.1", service.port) as stream:
            await stream.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            call = await agent.until_called()
        go.set()
        status = await service.ended(call.body["request_id"])
        assert (status["status"], status["attempts"]) == ("succeeded", 1)
        reply = await service.route(SYNC)
        assert (reply.status, reply.json["status"], reply.json["result"]) == (200, "duplicate", {"done": True})
        assert reply.json["task_id"] == call.body["request_id"]
        assert len(agent.calls) == 1


async def test_a_hundred_clients_that_leave_at_once(service: Service, agent: ScriptedAgent) -> None:
    """Whatever became of their requests, each key is one task, and asking again says which."""
    head = b"POST /route_task HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

    async def leave(key: str) -> None:
        body = json.dumps(a_task(idempotency_key=key)).encode()
        async with await anyio.connect_tcp("127.0.0.1", service.port) as stream:
            await stream.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    keys = [f"k{number}" for number in range(100)]
    async with anyio.create_task_group() as group:
        for key in keys:
            group.start_soon(leave, key)
    ids = set()
    for key in keys:
        reply = await service.route({"idempotency_key": key})
        while reply.status == 409:
            reply = await service.route({"idempotency_key": key})
        assert reply.status in (200, 202)
        ids.add(reply.json["task_id"])
        await service.ended(reply.json["task_id"])
    assert len(ids) == 100
    assert Counter(call.body["request_id"] for call in agent.calls) == dict.fromkeys(ids, 1)
