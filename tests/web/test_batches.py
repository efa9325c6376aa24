"""Many tasks in one request: an outcome for each, one commit for all."""

import json
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from orchestrator.testing import Reply, ScriptedAgent, Service, a_task

pytestmark = pytest.mark.anyio

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def environ() -> dict[str, str]:
    """Bounds that are reached with little."""
    return {
        "ORCHESTRATOR_WEB_MAX_BODY_BYTES": "2048",
        "ORCHESTRATOR_WEB_MAX_BATCH_BYTES": "262144",
        "ORCHESTRATOR_QUEUE_MAX_OPEN": "502",
    }


async def sent(service: Service, lines: Sequence[Any]) -> Reply:
    """The lines as NDJSON; a line that is text is sent as it is."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return await service.ask("POST", "/route_tasks", data="\n".join(texts).encode(), headers=NDJSON)


def outcomes(reply: Reply) -> list[Any]:
    assert reply.status == 207, reply
    assert reply.headers["Content-Type"] == "application/json"
    return reply.json["outcomes"]


def told(reply: Reply) -> list[tuple[int, str]]:
    """Status, and code or status of the task, of each outcome."""
    return [(found["status"], found["body"].get("code") or found["body"]["status"]) for found in outcomes(reply)]


async def test_an_array_of_tasks(service: Service) -> None:
    """Each is accepted in its place, with the body that a single call would have answered."""
    reply = await service.ask("POST", "/route_tasks", json=[a_task(priority=p) for p in ("low", "urgent")])
    for found, priority in zip(outcomes(reply), ("low", "urgent"), strict=True):
        task_id = found["body"]["task_id"]
        entry = (await service.audit(task_id=task_id))[0]
        receipt = {name: entry[name] for name in ("writer", "seq", "entry_hash")}
        expected = {"task_id": task_id, "status": "queued", "queue": f"tasks:{priority}", "receipt": receipt}
        assert found == {"status": 202, "body": expected}
        assert (await service.ask("GET", f"/task/{task_id}")).json["priority"] == priority


async def test_a_batch_in_which_everything_happens(service: Service, rows) -> None:
    """Every outcome is the one of a single call with the same task; what is refused keeps nothing else back."""
    await service.route({"idempotency_key": "known"})
    lines = [
        a_task(),
        a_task(idempotency_key="known"),
        a_task(idempotency_key="known", payload={"other": 1}),
        a_task(idempotency_key="twice"),
        a_task(idempotency_key="twice"),
        a_task(idempotency_key="twice", payload={"other": 1}),
        a_task(payload={"image_ref": "x"}),
        a_task(task_type="nonsense"),
        a_task(priority="soon"),
        "{not json",
        '{"case_id": "a", "case_id": "b"}',
        a_task(payload={"long": "x" * 2048}),
        [],
        a_task(not_before="2999-01-01T00:00:00Z"),
        a_task(task_type="analyze_monitor"),
    ]
    reply = await sent(service, lines)
    assert told(reply) == [
        (202, "queued"),
        (200, "duplicate"),
        (422, "E_IDEMPOTENCY_KEY_REUSED"),
        (202, "queued"),
        (200, "duplicate"),
        (422, "E_IDEMPOTENCY_KEY_REUSED"),
        (403, "E_CONSENT_REQUIRED"),
        (400, "E_INVALID_TASK_TYPE"),
        (422, "E_VALIDATION"),
        (400, "E_INVALID_JSON"),
        (400, "E_INVALID_JSON"),
        (413, "E_TOO_LARGE"),
        (422, "E_VALIDATION"),
        (422, "E_VALIDATION"),
        (202, "queued"),
    ]
    found = outcomes(reply)
    assert found[3]["body"]["task_id"] == found[4]["body"]["task_id"]
    assert all(set(f["body"]) == {"type", "code", "title", "status", "detail"} for f in found if f["status"] >= 400)
    assert rows("tasks") == 4
    events = [entry["event"] for entry in await service.audit()]
    assert events.count("refused") == 1


@pytest.mark.parametrize("character", ["\n", "\x1b", "\x7f"])
async def test_a_control_character_in_one_of_many(service: Service, character: str) -> None:
    """Is refused where it stands, however many are read together."""
    tasks = [a_task() for _ in range(40)]
    for place, field in ((7, "case_id"), (33, "idempotency_key")):
        tasks[place] = a_task(**{field: f"x{character}"})
    body = json.dumps(tasks, ensure_ascii=False).encode()
    found = told(await service.ask("POST", "/route_tasks", data=body, headers={"Content-Type": "application/json"}))
    assert [place for place, one in enumerate(found) if one == (422, "E_VALIDATION")] == [7, 33]
    assert found.count((202, "queued")) == 38


async def test_a_batch_is_one_commit(service: Service) -> None:
    """However many tasks there are, the ledger is asked once."""
    system: Any = service.orchestrator._system
    commit, sizes = system.ledger.commit, list[int]()

    async def counted(commands: Sequence[Any]) -> Any:
        sizes.append(len(commands))
        return await commit(commands)

    system.ledger.commit = counted
    try:
        assert {status for status, _ in told(await sent(service, [a_task()] * 500))} == {202}
    finally:
        system.ledger.commit = commit
    assert max(sizes) == 500
    assert sum(sizes) < 1000, sizes


async def test_synchronous_tasks_in_a_batch_are_queued(service: Service) -> None:
    """They are done all the same, by the queue."""
    async with ScriptedAgent("light", capabilities=["analyze_light"]) as agent:
        await agent.register(service)
        found = outcomes(await sent(service, [a_task(task_type="analyze_monitor")] * 3))
        assert [f["status"] for f in found] == [202] * 3
        for one in found:
            assert (await service.ended(one["body"]["task_id"]))["status"] == "succeeded"


async def test_a_class_that_fills_up_within_the_batch(service: Service, rows) -> None:
    """The tasks that still find room are accepted; each of the others is told when to try again."""
    await sent(service, [a_task()] * 500)
    found = outcomes(await sent(service, [a_task()] * 3))
    assert [f["status"] for f in found] == [202, 202, 503]
    assert (found[2]["body"]["code"], found[2]["retry_after"]) == ("E_OVERLOADED", 5)
    assert rows("tasks") == 502


async def test_a_key_whose_first_request_is_being_answered(service: Service) -> None:
    """Is told so in its place, as a single call would be."""
    go = anyio.Event()

    async def answer(_request: Any) -> Any:
        await go.wait()
        return 500

    async with ScriptedAgent("light", answer, capabilities=["analyze_light"]) as agent:
        await agent.register(service)
        task = a_task(task_type="analyze_monitor", idempotency_key="k")
        async with anyio.create_task_group() as group:
            group.start_soon(service.route, task)
            await agent.until_called()
            other = {**task, "payload": {"other": 1}}
            found = outcomes(await sent(service, [task, other, a_task()]))
            go.set()
    assert [(f["status"], f.get("retry_after")) for f in found] == [(409, 1), (422, None), (202, None)]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "E_VALIDATION"),
        (b"\n \n", 422, "E_VALIDATION"),
        (b"{}\n" * 501, 422, "E_VALIDATION"),
        (b"x" * 262_145, 413, "E_TOO_LARGE"),
    ],
)
async def test_a_bad_batch_as_ndjson(service: Service, rows, body: bytes, status: int, code: str) -> None:
    """Is refused as a whole, and nothing is stored."""
    reply = await service.ask("POST", "/route_tasks", data=body, headers=NDJSON)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert rows("tasks") == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"[]", 422, "E_VALIDATION"),
        (b"{}", 422, "E_VALIDATION"),
        (b"", 400, "E_INVALID_JSON"),
        (b"[{}", 400, "E_INVALID_JSON"),
        (b"[{}] []", 400, "E_INVALID_JSON"),
        (b"[" + b"{}," * 500 + b"{}]", 422, "E_VALIDATION"),
        (b"[" * 30_000 + b"]" * 30_000, 400, "E_INVALID_JSON"),
    ],
)
async def test_a_bad_batch_as_an_array(service: Service, body: bytes, status: int, code: str) -> None:
    """Is refused as a whole."""
    reply = await service.ask("POST", "/route_tasks", data=body, headers={"Content-Type": "application/json"})
    assert (reply.status, reply.json["code"]) == (status, code)


@pytest.mark.parametrize(
    ("end", "apart"),
    [
        (', "case_id": "x"}', True),
        (', "meta": {"a": ' + "[" * 40 + "]" * 40 + "}}", True),
        (', "meta": {"a": 9007199254740993}}', True),
        (', "meta": {"a": "\\u0000"}}', True),
        (', "deadline_s": NaN}', False),
        (', "meta": {"a": "\\ud800"}}', False),
    ],
)
async def test_what_a_strict_reader_refuses_inside_an_array(service: Service, end: str, apart: bool) -> None:
    """Nothing gets by that a single call would refuse; where it leaves the array readable, the others go on."""
    task = json.dumps(a_task())
    body = f"[{task}, {task[:-1]}{end}, {task}]".encode()
    reply = await service.ask("POST", "/route_tasks", data=body, headers={"Content-Type": "application/json"})
    if apart:
        assert told(reply) == [(202, "queued"), (400, "E_INVALID_JSON"), (202, "queued")]
    else:
        assert (reply.status, reply.json["code"]) == (400, "E_INVALID_JSON")


async def test_a_batch_of_another_media_type_or_with_one_key_for_all(service: Service) -> None:
    """415, and 422: a key stands for one task."""
    reply = await service.ask("POST", "/route_tasks", data=b"[]", headers={"Content-Type": "text/plain"})
    assert reply.status == 415
    reply = await service.ask("POST", "/route_tasks", json=[a_task()], headers={"Idempotency-Key": "k"})
    assert (reply.status, reply.json["code"]) == (422, "E_VALIDATION")


async def test_more_batches_than_may_be_in_memory(service: Service) -> None:
    """Those beyond are told 503, and when to try again, before they are read; the others go on."""
    head = (
        b"POST /route_tasks HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n[{}"
    )
    async with anyio.create_task_group() as group:
        for _ in range(service.orchestrator.settings.web.max_batches):
            group.start_soon(service.raw, head)
        answers: list[Reply] = []
        while not answers or answers[-1].status == 207:
            answers.append(await service.ask("POST", "/route_tasks", json=[a_task()]))
        assert (answers[-1].status, answers[-1].json["code"]) == (503, "E_OVERLOADED")
        assert answers[-1].headers["Retry-After"] == "1"
        group.cancel_scope.cancel()
