import asyncio
import gzip
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.workers import Agent, Options, Permanent, Retryable, Task
from orchestrator.workers.executor import Executor
from orchestrator.workers.testing import PATIENCE, Gate, StubOrchestrator, running

pytestmark = pytest.mark.anyio


def failed(message: str, *, retryable: bool) -> dict[str, Any]:
    return {"success": False, "error": {"message": message, "retryable": retryable}}


def gated(**settings: Any) -> tuple[Agent, Gate]:
    agent, gate = Agent("gate-1", location="edge-test", **settings), Gate()
    agent.handles("embed")(gate)
    return agent, gate


def saying(**output: Any) -> Callable[[Task], dict[str, Any]]:
    return lambda _task: output


def answering(handler: Any, **settings: Any) -> Agent:
    agent = Agent("agent-1", location="edge-test", **settings)
    agent.handles("embed")(handler)
    return agent


async def test_a_handler_sees_the_task_and_its_output_comes_back(stub: StubOrchestrator) -> None:
    """A call's fields and headers reach the handler; its output and the model's version come back."""
    seen: list[Task] = []

    async def embed(task: Task) -> dict[str, Any]:
        seen.append(task)
        return {"vector": [1.0]}

    async with running(answering(embed, model_version="m-1"), stub) as served:
        status, answer = await served.call("embed", {"image_ref": "a"}, task_id="task-7", attempt=3, within=60)
    assert (status, answer) == (200, {"success": True, "output": {"vector": [1.0]}, "model_version": "m-1"})
    (task,) = seen
    assert (task.task_id, task.case_id, task.task_type, task.attempt) == ("task-7", "case-1", "embed", 3)
    assert (task.payload, task.meta) == ({"image_ref": "a"}, {})
    assert 50 < task.time_left() <= 60
    assert "image_ref" not in repr(task)


async def test_a_plain_function_runs_in_a_thread(stub: StubOrchestrator) -> None:
    """A blocking handler does not hold up the agent: health answers while it runs."""
    began, go_on = threading.Event(), threading.Event()

    def embed(task: Task) -> dict[str, Any]:
        began.set()
        assert go_on.wait(PATIENCE)
        return {"thread": threading.current_thread() is not threading.main_thread()}

    async with running(answering(embed), stub) as served:
        call = asyncio.create_task(served.call("embed"))
        await asyncio.to_thread(began.wait, PATIENCE)
        assert (await served.health())["in_flight"] == 1
        go_on.set()
        assert (await call)[1]["output"] == {"thread": True}
        assert (await served.health())["in_flight"] == 0


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (Permanent("image_ref: missing"), failed("image_ref: missing", retryable=False)),
        (Retryable("busy disk"), failed("busy disk", retryable=True)),
        (ValueError("patient Jane Roe"), failed("ValueError", retryable=True)),
        (TimeoutError("patient Jane Roe"), failed("TimeoutError", retryable=True)),
        (StopIteration("patient Jane Roe"), failed("RuntimeError", retryable=True)),
    ],
)
@pytest.mark.parametrize("plain", [False, True])
async def test_errors_are_answers(
    stub: StubOrchestrator, error: Exception, answer: dict[str, Any], plain: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A typed error says if a retry may help; any other one is retryable and shows its class only, in the log too."""
    caplog.set_level("DEBUG")

    async def later(task: Task) -> dict[str, Any]:
        raise error

    def now(task: Task) -> dict[str, Any]:
        raise error

    async with running(answering(now if plain else later), stub) as served:
        assert await served.call("embed", {"name": "Jane Roe"}) == (200, answer)
    assert "Jane" not in caplog.text
    assert answer["error"]["message"] in caplog.text or type(error).__name__ in caplog.text


@pytest.mark.parametrize("output", [{"x": float("nan")}, {"x": {1, 2}}, {"x": b""}])
async def test_an_output_that_json_cannot_say(stub: StubOrchestrator, output: dict[str, Any]) -> None:
    """NaN, sets and bytes are an error of the handler, not a broken answer."""
    async with running(answering(saying(**output)), stub) as served:
        status, answer = await served.call("embed")
    assert status == 200
    assert answer["success"] is False
    assert answer["error"]["message"] in ("ValueError", "TypeError")


async def test_task_types_go_to_their_handlers(stub: StubOrchestrator) -> None:
    """An agent with several capabilities dispatches by task type, and refuses for good a type it has no handler for."""
    agent = Agent("both-1", location="edge-test")
    agent.handles("analyze_light")(saying(by="light"))
    agent.handles("special", task_types=["one", "two"])(saying(by="special"))
    async with running(agent, stub) as served:
        assert served.card["capabilities"] == ["analyze_light", "special"]
        for task_type, by in [("analyze_monitor", "light"), ("one", "special"), ("two", "special")]:
            _, answer = await served.call(task_type, task_id=f"task-{task_type}")
            assert answer["output"] == {"by": by}
        for number, task_type in enumerate(["embed", ""]):
            _, answer = await served.call(task_type, task_id=f"unknown-{number}")
            assert answer == failed("this agent has no handler for the task type", retryable=False)


async def test_an_agent_of_one_handler_needs_no_task_type(stub: StubOrchestrator) -> None:
    """A caller that sends no task type reaches the only handler there is."""
    async with running(answering(saying(ok=1)), stub) as served:
        body = b'{"request_id": "task-1", "case_id": "c", "payload": {}}'
        assert (await served.post(body))[:2] == (200, {"success": True, "output": {"ok": 1}})


def test_capabilities_are_declared_once() -> None:
    """An unknown capability needs task types, and no task type has two handlers."""
    agent = Agent("agent-1", location="edge-test")
    agent.handles("embed")(saying())
    with pytest.raises(ValueError, match="task_types"):
        agent.handles("special")
    with pytest.raises(ValueError, match="already"):
        agent.handles("other", task_types=["embed"])


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", {}),
        (b"\xff", {}),
        (b"[]", {}),
        (b'{"request_id": "t", "case_id": "c", "payload": {}, "payload": {}}', {}),
        (b'{"request_id": "t", "case_id": "c", "payload": {"x": NaN}}', {}),
        (b"[" * 100_000, {}),
        (b'{"case_id": "c", "payload": {}}', {}),
        (b'{"request_id": "a b", "case_id": "c", "payload": {}}', {}),
        (b'{"request_id": "t", "case_id": "c", "payload": []}', {}),
        (b'{"request_id": "t", "case_id": 1, "payload": {}}', {}),
        (b'{"request_id": "t", "case_id": "c", "payload": {}}', {"Idempotency-Key": "other"}),
        (b'{"request_id": "t", "case_id": "c", "payload": {}}', {"X-Attempt": "0"}),
        (b'{"request_id": "t", "case_id": "c", "payload": {}}', {"X-Attempt": "one"}),
        (b'{"request_id": "t", "case_id": "c", "payload": {}}', {"X-Deadline": "tomorrow"}),
        (b'{"request_id": "t", "case_id": "c", "payload": {}}', {"X-Deadline": "nan"}),
    ],
)
async def test_a_call_that_breaks_the_contract(stub: StubOrchestrator, body: bytes, headers: dict[str, str]) -> None:
    """It is answered 400 with success false, and runs nothing."""
    agent, gate = gated()
    async with running(agent, stub) as served:
        status, answer, _ = await served.post(body, headers)
    assert (status, answer["success"], answer["error"]["retryable"]) == (400, False, False)
    assert gate.runs == 0


async def test_a_body_above_the_limit(stub: StubOrchestrator) -> None:
    """It is answered 413, whether its length is declared or not."""
    agent, gate = gated(body_limit=1000)

    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 100

    async with running(agent, stub) as served:
        assert (await served.post(b"x" * 1001))[0] == 413
        async with served.client.post(f"{served.endpoint}/call", data=chunks()) as response:
            assert response.status == 413
    assert gate.runs == 0


async def test_a_small_body_that_grows(stub: StubOrchestrator) -> None:
    """The limit holds for the body as it is read, decompressed."""
    agent, gate = gated()
    async with running(agent, stub) as served:
        status, _, _ = await served.post(gzip.compress(b" " * 50_000_000), {"Content-Encoding": "gzip"})
    assert (status, gate.runs) == (413, 0)


async def test_a_body_that_does_not_come(stub: StubOrchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that stops in the middle of its body is answered 408 and holds no place."""
    monkeypatch.setattr("orchestrator.workers.server.BODY_DEADLINE", 0.1)
    async with running(gated()[0], stub) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(served.endpoint.rpartition(":")[2]))
        writer.write(b"POST /call HTTP/1.1\r\nHost: agent\r\nContent-Length: 100\r\n\r\n{")
        assert b" 408 " in await asyncio.wait_for(reader.readline(), PATIENCE)
        writer.close()
        await writer.wait_closed()


async def test_more_calls_than_places(stub: StubOrchestrator) -> None:
    """Beyond max_concurrency a call is answered 503 with Retry-After and runs nothing; a freed place takes it."""
    agent, gate = gated(max_concurrency=2)
    async with running(agent, stub) as served:
        calls = [asyncio.create_task(served.call("embed", task_id=f"task-{number}")) for number in range(2)]
        for _ in calls:
            await asyncio.wait_for(gate.began.acquire(), PATIENCE)
        body = b'{"request_id": "task-9", "case_id": "c", "task_type": "embed", "payload": {}}'
        status, answer, headers = await served.post(body)
        assert (status, answer, headers["Retry-After"]) == (503, failed("overloaded", retryable=True), "1")
        assert gate.runs == 2
        gate.open.set()
        assert [status for status, _ in await asyncio.gather(*calls)] == [200, 200]
        assert (await served.post(body))[0] == 200


async def test_a_repeated_attempt_runs_once(stub: StubOrchestrator) -> None:
    """The same task and attempt, while it runs or after, gets the first one's answer; another attempt runs anew."""
    agent, gate = gated()
    async with running(agent, stub) as served:
        calls = [asyncio.create_task(served.call("embed")) for _ in range(5)]
        await asyncio.wait_for(gate.began.acquire(), PATIENCE)
        gate.open.set()
        answers = [answer for _, answer in await asyncio.gather(*calls)]
        answers.append((await served.call("embed"))[1])
        assert [answer["output"] for answer in answers] == [{"run": 1}] * 6
        assert (await served.call("embed", attempt=2))[1]["output"] == {"run": 2}


async def test_a_caller_that_goes_away(stub: StubOrchestrator) -> None:
    """The handler goes on without its caller, and a repeated call gets the answer."""
    agent, gate = gated()
    async with running(agent, stub) as served:
        call = asyncio.create_task(served.call("embed"))
        await asyncio.wait_for(gate.began.acquire(), PATIENCE)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        again = asyncio.create_task(served.call("embed"))
        gate.open.set()
        assert (await again)[1]["output"] == {"run": 1}
    assert not gate.cancelled.is_set()


async def test_a_wait_that_is_cancelled() -> None:
    """Cancelling one who waits for an answer stops neither the handler nor the others who wait."""
    gate = Gate()
    executor = Executor({"embed": gate}, max_concurrency=1, model_version=None)
    task = Task(task_id="task-1", case_id="case-1", task_type="embed", payload={}, meta={})
    first, second = (asyncio.create_task(executor.answer(task)) for _ in range(2))
    await asyncio.wait_for(gate.began.acquire(), PATIENCE)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    gate.open.set()
    assert json.loads(await second)["output"] == {"run": 1}
    assert repr(executor) == "<Executor 0/1>"


async def test_the_deadline_stops_a_handler(stub: StubOrchestrator) -> None:
    """At X-Deadline the handler is cancelled and the call fails retryably."""
    agent, gate = gated()
    async with running(agent, stub) as served:
        assert await served.call("embed", within=0.5) == (200, failed("the deadline passed", retryable=True))
        assert gate.cancelled.is_set()


async def test_a_deadline_that_passed_runs_nothing(stub: StubOrchestrator) -> None:
    """A call that comes too late fails retryably at once."""
    agent, gate = gated()
    async with running(agent, stub) as served:
        _, answer = await served.call("embed", within=-1)
    assert answer == failed("the deadline passed before the call began", retryable=True)
    assert gate.runs == 0


async def test_a_thread_beyond_its_deadline_holds_its_place(stub: StubOrchestrator) -> None:
    """A plain function cannot be stopped: its call fails in time, and its place is free only when it ends."""
    go_on, ended = threading.Event(), threading.Event()

    def embed(task: Task) -> dict[str, Any]:
        go_on.wait(PATIENCE)
        ended.set()
        raise ValueError("nobody waits for this any more")

    async with running(answering(embed, max_concurrency=1), stub, Options(heartbeat_every=0.01)) as served:
        assert (await served.call("embed", within=0.5))[1] == failed("the deadline passed", retryable=True)
        assert (await served.call("embed", task_id="task-2"))[0] == 503
        go_on.set()
        assert await asyncio.to_thread(ended.wait, PATIENCE)
        beat = "POST /agents/agent-1/heartbeat"
        while (await stub.until(beat, len(stub.bodies(beat)) + 1))["load"]:
            pass
        assert (await served.health())["in_flight"] == 0


async def test_bytes_that_are_not_http(stub: StubOrchestrator, caplog: pytest.LogCaptureFixture) -> None:
    """They are answered 400, and the log has none of them."""
    caplog.set_level("DEBUG")
    async with running(gated()[0], stub) as served:
        port = int(served.endpoint.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /call HTTP/1.1\r\nContent-Length: Jane Roe\r\n\r\n")
        assert b" 400 " in await asyncio.wait_for(reader.readline(), PATIENCE)
        writer.close()
        await writer.wait_closed()
    assert "bad request or broken connection" in caplog.text
    assert "Jane" not in caplog.text
