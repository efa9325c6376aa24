"""The typed client against a real orchestrator, and against one that says no for a while."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web
from anyio.to_thread import run_sync

from orchestrator.client import BlockingOrchestrator, Client, Event, Orchestrator, Refused, Unreachable
from orchestrator.testing import ScriptedAgent, Service, a_task

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def at(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def test_a_task_from_submission_to_result(tmp_path: Path) -> None:
    """Register, submit, stream and wait, each answer with its type."""
    async with Service(tmp_path / "l.db") as service, ScriptedAgent("a") as agent, Orchestrator(at(service.port)) as o:
        sent = await o.submit(**a_task())
        assert (sent.status, sent.result) == ("queued", None)
        assert (await o.register(**agent.registration))["status"] == "ok"
        names = [event.name async for event in o.stream(sent.task_id)]
        assert (names[0], names[-1]) == ("state", "end")
        ended = await o.wait(sent.task_id)
        assert (ended.status, ended.result, ended.ended, ended.agent_id) == ("succeeded", {"done": True}, True, "a")
        with pytest.raises(Refused) as refused:
            await o.cancel(sent.task_id)
        assert (refused.value.status, refused.value.code) == (409, "E_ALREADY_FINISHED")


async def test_a_program_without_an_event_loop(tmp_path: Path) -> None:
    """Has the same calls, in the same words."""

    def program(url: str, registration: dict[str, Any]) -> list[str]:
        with BlockingOrchestrator(url) as o:
            o.register(**registration)
            sent = o.submit(**a_task())
            names = [event.name for event in o.stream(sent.task_id)]
            waiting = o.submit(**a_task(task_type="indexing"))
            assert o.task(waiting.task_id).status == "queued"
            return [names[-1], o.wait(sent.task_id).status, o.cancel(waiting.task_id).status]

    async with Service(tmp_path / "l.db") as service, ScriptedAgent("a") as agent:
        assert await run_sync(program, at(service.port), agent.registration) == ["end", "succeeded", "cancelled"]


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

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append((anyio.current_time(), await request.json()))
        status, body, headers = self._answers.pop(0)
        return web.json_response(body, status=status, headers=headers)


async def test_an_orchestrator_that_says_no_for_a_while() -> None:
    """Is asked again, the same request under the same key, and not before it said."""
    overloaded = (503, {"code": "E_OVERLOADED"}, {"Retry-After": "1"})
    in_progress: Any = (409, {"code": "E_IN_PROGRESS"}, {})
    done: Any = (202, {"task_id": "task-1", "status": "queued", "queue": "q"}, {})
    async with Moody(overloaded, in_progress, done) as moody, Orchestrator(at(moody.port)) as o:
        assert (await o.submit(**a_task())).task_id == "task-1"
    (first, one), (second, two), (_, three) = moody.asked
    assert one == two == three
    assert len(one["idempotency_key"]) == 32
    assert second - first >= 1


async def test_a_refusal_for_good() -> None:
    """Is raised at once, with its code."""
    no: Any = (403, {"code": "E_CONSENT_REQUIRED", "detail": "no"}, {})
    async with Moody(no) as moody, Orchestrator(at(moody.port)) as o:
        with pytest.raises(Refused) as refused:
            await o.submit(**a_task())
    assert (refused.value.code, len(moody.asked)) == ("E_CONSENT_REQUIRED", 1)


async def test_the_deadline_of_a_call() -> None:
    """Ends the attempts: with the last refusal, or with nobody having answered at all."""
    late: Any = (503, {"code": "E_SHUTTING_DOWN"}, {"Retry-After": "5"})
    async with Moody(late) as moody, Orchestrator(at(moody.port), deadline_s=1) as o:
        with pytest.raises(Refused) as refused:
            await o.submit(**a_task())
    assert refused.value.code == "E_SHUTTING_DOWN"
    async with Orchestrator("http://127.0.0.1:1", deadline_s=0.3) as o:
        with pytest.raises(Unreachable):
            await o.task("task-1")


async def test_a_stream_that_breaks_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    async with Service(tmp_path / "l.db") as service, ScriptedAgent("a") as agent, Orchestrator(at(service.port)) as o:
        task_id = (await o.submit(**a_task())).task_id
        await agent.register(service)
        await service.ended(task_id)
        seen = [(event.name, event.number) async for event in o.stream(task_id)]
    assert asked == [None, "3"]
    assert seen[0] == ("state", "3")
    assert seen[-1] == ("end", "3")
