"""The typed client, async and blocking, against a real orchestrator, and against one that says no for a while."""

import inspect
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
import pytest
from aiohttp import web
from anyio.to_thread import run_sync
from proxy import Proxy

from orchestrator import client
from orchestrator.client import Answer, BlockingOrchestrator, Client, Event, Orchestrator, Refused, Unreachable
from orchestrator.testing import ScriptedAgent, Service, a_task

pytestmark = pytest.mark.anyio


def at(port: int) -> str:
    return f"http://127.0.0.1:{port}"


class InThreads:
    """A `BlockingOrchestrator` that tests can call as they call the other one."""

    def __init__(self, url: str, **options: Any) -> None:
        self._blocking = BlockingOrchestrator(url, **options)

    async def __aenter__(self) -> "InThreads":
        await run_sync(self._blocking.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await run_sync(self._blocking.__exit__, kind, error, traceback)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._blocking, name)
        return partial(_steps if inspect.isgeneratorfunction(call) else _waits, call)


async def _waits(call: Any, *args: Any, **options: Any) -> Any:
    return await run_sync(partial(call, *args, **options))


async def _steps(call: Any, *args: Any) -> AsyncGenerator[Any]:
    steps = call(*args)
    while (step := await run_sync(next, steps, None)) is not None:
        yield step


@pytest.fixture(params=[Orchestrator, InThreads], ids=["async", "blocking"])
def connect(request: pytest.FixtureRequest) -> Any:
    """Makes a client; each of the two has to keep every promise."""
    return request.param


def test_the_two_clients() -> None:
    """Have the same calls, in the same words and with the same parameters."""

    def calls(kind: type) -> dict[str, Any]:
        return {
            name: (inspect.getdoc(call), list(inspect.signature(call).parameters))
            for name, call in vars(kind).items()
            if not name.startswith("_")
        }

    assert calls(BlockingOrchestrator) == calls(Orchestrator)
    assert inspect.signature(BlockingOrchestrator) == inspect.signature(Orchestrator)


async def test_a_task_from_submission_to_result(connect: Any, tmp_path: Path) -> None:
    """Register, submit, stream and wait, each answer with its type."""
    async with Service(tmp_path / "l.db") as service, ScriptedAgent("a") as agent, connect(at(service.port)) as o:
        sent = await o.submit(**a_task())
        assert (sent.status, sent.result) == ("queued", None)
        waiting = await o.wait(sent.task_id, 0.01)
        assert (waiting.status, waiting.ended) == ("queued", False)
        assert (await o.register(**agent.registration))["status"] == "ok"
        names = [event.name async for event in o.stream(sent.task_id)]
        assert (names[0], names[-1]) == ("state", "end")
        ended = await o.wait(sent.task_id)
        assert (ended.status, ended.result, ended.ended, ended.agent_id) == ("succeeded", {"done": True}, True, "a")
        with pytest.raises(Refused) as refused:
            await o.cancel(sent.task_id)
        assert (refused.value.status, refused.value.code) == (409, "E_ALREADY_FINISHED")
        # A synchronous task is done with its answer.
        async with ScriptedAgent("b", capabilities=["analyze_light"]) as other:
            await o.register(**other.registration)
            done = await o.submit(**a_task(task_type="analyze_monitor"))
        assert (done.status, done.result, done.agent_id) == ("completed_sync", {"done": True}, "b")


async def test_a_dead_letter(connect: Any, tmp_path: Path) -> None:
    """Is found, and replayed once, however often."""
    no = {"success": False, "error": {"message": "no", "retryable": False}}
    async with Service(tmp_path / "l.db") as service, ScriptedAgent("a", no) as agent, connect(at(service.port)) as o:
        await o.register(**agent.registration)
        sent = await o.submit(**a_task())
        assert (await o.wait(sent.task_id)).status == "dead"
        assert [letter.task_id async for letter in o.dead_letters()] == [sent.task_id]
        first, second = await o.replay(sent.task_id), await o.replay(sent.task_id)
        assert first.task_id == second.task_id != sent.task_id


@pytest.mark.parametrize(("call", "sent"), [("submit", b'"case_id"'), ("register", b'"agent_id"')])
async def test_an_answer_that_is_lost(connect: Any, tmp_path: Path, call: str, sent: bytes) -> None:
    """The same request is sent again: what was done is not done twice."""
    async with Service(tmp_path / "l.db") as service, ScriptedAgent("a", capabilities=["indexing"]) as agent:
        async with Proxy(service.port, cutting=sent) as proxy, connect(at(proxy.port)) as o:
            proxy.cut = "after"
            answer = await getattr(o, call)(**(a_task() if call == "submit" else agent.registration))
            assert proxy.cuts == 1
        events = [entry["event"] for entry in await service.audit()]
    if call == "submit":
        assert answer.status == "duplicate"
    assert events == ["accepted" if call == "submit" else "agent_registered"]


async def test_a_cancellation_whose_answer_is_lost(connect: Any, tmp_path: Path) -> None:
    """Is one, not a refusal."""
    async with (
        Service(tmp_path / "l.db") as service,
        Proxy(service.port, cutting=b"DELETE /task/") as proxy,
        connect(at(proxy.port)) as o,
    ):
        sent = await o.submit(**a_task())
        proxy.cut = "after"
        assert (await o.cancel(sent.task_id)).status == "cancelled"
        assert proxy.cuts == 1


async def test_a_caller_that_asks_too_often(connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told when to come back, and does not ask before."""
    whole, waits = Client.call, list[float | None]()

    async def noted(self: Client, *args: Any, **options: Any) -> Answer:
        answer = await whole(self, *args, **options)
        waits.append(answer.retry_after)
        return answer

    monkeypatch.setattr(Client, "call", noted)
    share = {"ORCHESTRATOR_LIMITS_REQUESTS_PER_S": "0.5", "ORCHESTRATOR_LIMITS_REQUESTS_BURST": "1"}
    async with Service(tmp_path / "l.db", share) as service:
        assert (await service.route({})).status == 202
        async with connect(at(service.port)) as o:
            assert (await o.submit(**a_task())).status == "queued"
    assert waits == [2, None]


async def test_each_refusal_has_its_code(connect: Any, tmp_path: Path) -> None:
    """As the description of the API names it, with status and words; none is asked again."""
    async with Service(tmp_path / "l.db") as service, connect(at(service.port)) as o:
        refused = list[Refused]()
        for ask in (
            partial(o.submit, case_id="c", task_type="embed", payload={"image_ref": "i.png"}),
            partial(o.submit, case_id="c", task_type="unknown", payload={}),
            partial(o.submit, case_id="", task_type="embed", payload={}),
            partial(o.register, agent_id="a", capabilities=["embed"], endpoint="http://192.0.2.1:9000"),
            partial(o.task, "task-" + "0" * 32),
            partial(o.wait, "../keys"),
            partial(o.replay, "task-" + "0" * 32),
        ):
            with pytest.raises(Refused) as no:
                await ask()
            refused.append(no.value)
        with pytest.raises(Refused) as no:
            async for _ in o.stream("task-" + "0" * 32):
                pass
        refused.append(no.value)
    assert [(no.status, no.code) for no in refused] == [
        (403, "E_CONSENT_REQUIRED"), (400, "E_INVALID_TASK_TYPE"), (422, "E_VALIDATION"), (422, "E_VALIDATION"),
        (404, "E_NOT_FOUND"), (404, "E_NOT_FOUND"), (404, "E_NOT_FOUND"), (404, "E_NOT_FOUND"),
    ]  # fmt: skip
    assert all(no.detail and not no.passing for no in refused)


class Moody:
    """Answers `answers` in turn, and keeps what it was asked."""

    def __init__(self, *answers: tuple[int, dict[str, Any], dict[str, str]]) -> None:
        self._answers, self.asked = list(answers), list[Any]()

    async def __aenter__(self) -> "Moody":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append((anyio.current_time(), json.loads(body or b"null")))
        status, body, headers = self._answers.pop(0)
        return web.json_response(body, status=status, headers=headers)


async def test_an_orchestrator_that_says_no_for_a_while(connect: Any) -> None:
    """Is asked again, the same request under the same key, and not before it said."""
    overloaded = (503, {"code": "E_OVERLOADED"}, {"Retry-After": "1"})
    in_progress: Any = (409, {"code": "E_IN_PROGRESS"}, {})
    away: Any = (502, {}, {})
    done: Any = (202, {"task_id": "task-1", "status": "queued", "queue": "q"}, {})
    async with Moody(overloaded, in_progress, away, done) as moody, connect(at(moody.port)) as o:
        assert (await o.submit(**a_task())).task_id == "task-1"
    (first, one), (second, two), (_, three), (_, four) = moody.asked
    assert one == two == three == four
    assert len(one["idempotency_key"]) == 32
    assert second - first >= 1


async def test_a_refusal_for_good(connect: Any) -> None:
    """Is raised at once, with its code."""
    no: Any = (403, {"code": "E_CONSENT_REQUIRED", "detail": "no"}, {})
    async with Moody(no) as moody, connect(at(moody.port)) as o:
        with pytest.raises(Refused) as refused:
            await o.submit(**a_task())
    assert (refused.value.code, len(moody.asked)) == ("E_CONSENT_REQUIRED", 1)


async def test_the_deadline_of_a_call(connect: Any) -> None:
    """Ends the attempts: with the last refusal, or with nobody having answered at all."""
    late: Any = (503, {"code": "E_SHUTTING_DOWN"}, {"Retry-After": "5"})
    async with Moody(late) as moody, connect(at(moody.port), deadline_s=1) as o:
        with pytest.raises(Refused) as refused:
            await o.submit(**a_task())
    assert refused.value.code == "E_SHUTTING_DOWN"
    async with connect("http://127.0.0.1:1", deadline_s=0.3) as o:
        with pytest.raises(Unreachable):
            await o.task("task-1")


ELSEWHERE = {"Location": "https://127.0.0.1/"}


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [(301, {}, ELSEWHERE), (308, {"moved": True}, ELSEWHERE), (200, {}, {}), (204, {}, {}), (200, [1], {})],
)
async def test_somebody_else_at_that_address(connect: Any, status: int, body: Any, headers: Any) -> None:
    """A redirect, or any page that is none of ours, is never taken for a yes."""
    answers = [(status, body, headers)] * 20
    async with Moody(*answers) as moody, connect(at(moody.port), deadline_s=0.3) as o:
        for ask in (partial(o.submit, **a_task()), partial(o.cancel, "task-1"), partial(o.replay, "task-1")):
            with pytest.raises(Unreachable, match="is no orchestrator"):
                await ask()
        with pytest.raises(Unreachable, match="is no orchestrator"):
            async for _ in o.stream("task-1"):
                pass


async def test_a_large_result_in_a_stream(connect: Any, tmp_path: Path) -> None:
    """Comes as it is: an event is one line, however long."""
    output = {"vectors": "x" * 1_000_000}
    async with (
        Service(tmp_path / "l.db") as service,
        ScriptedAgent("a", {"success": True, "output": output}) as agent,
        connect(at(service.port)) as o,
    ):
        await agent.register(service)
        task_id = (await o.submit(**a_task())).task_id
        *_, last = [event async for event in o.stream(task_id)]
    assert (last.name, last.data["result"]) == ("end", output)


@pytest.mark.parametrize("without", ["a word", "an end"])
async def test_a_stream_that_says_no_more(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is given up when not even a sign of life comes, or a line that never ends: what it holds has a bound."""

    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"retry: 2000\n\nevent: state\nid: 1\ndata: {}\n\n")
        while without == "an end":
            await response.write(b"x" * 100)
            await anyio.sleep(0.01)
        await anyio.sleep_forever()
        return response

    monkeypatch.setattr(client, *(("SILENT_S", 0.2) if without == "a word" else ("MAX_LINE", 1_000)))
    app = web.Application()
    app.router.add_get("/task/task-1/events", silent)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    seen = list[Event]()
    try:
        with anyio.fail_after(20):
            async with Client(at(runner.addresses[0][1])) as asking:
                with pytest.raises(Unreachable):
                    async for event in asking.events("task-1"):
                        seen.append(event)
    finally:
        await runner.cleanup()
    assert [event.name for event in seen] == ["state"]


async def test_a_stream_that_breaks_off(connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goes on over another connection, where it was: no event is missed, none comes twice."""
    whole, asked = Client.events, list[str | None]()

    async def broken_off(self: Client, task_id: str, last: str | None = None) -> AsyncGenerator[Event]:
        asked.append(last)
        async with aclosing(whole(self, task_id, last)) as events:
            async for event in events:
                yield event
                if len(asked) == 1:
                    return

    monkeypatch.setattr(Client, "events", broken_off)
    async with Service(tmp_path / "l.db") as service, ScriptedAgent("a") as agent, connect(at(service.port)) as o:
        task_id = (await o.submit(**a_task())).task_id
        await agent.register(service)
        await service.ended(task_id)
        seen = [(event.name, event.number) async for event in o.stream(task_id)]
    assert asked == [None, "3"]
    assert seen[0] == ("state", "3")
    assert seen[-1] == ("end", "3")
