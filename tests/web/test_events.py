"""A task's life as server-sent events: nothing is missed, nothing is left open."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import pytest

from orchestrator.testing import SUCCESS, ScriptedAgent, Service
from orchestrator.web import events as events_module
from orchestrator.web import streaming

pytestmark = pytest.mark.anyio

PATIENCE_S = 10


@pytest.fixture
def environ() -> dict[str, str]:
    """Few streams, and retries without waiting."""
    return {
        "ORCHESTRATOR_RETRY_BASE": "0.01",
        "ORCHESTRATOR_RETRY_CAP_S": "0.02",
        "ORCHESTRATOR_WEB_MAX_STREAMS": "3",
    }


class Stream:
    """What comes over one connection."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response, self.commented = response, anyio.Event()

    async def next(self) -> dict[str, Any] | None:
        """The next event; None at the end of the stream."""
        event: dict[str, Any] = {}
        with anyio.fail_after(PATIENCE_S):
            async for line in self.response.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if line.startswith(b":"):
                    self.commented.set()
                elif name == "data":
                    event["data"] = json.loads(value)
                elif name:
                    event[name] = value
                elif "data" in event:
                    return event
                else:
                    event = {}
        return None

    async def rest(self) -> list[dict[str, Any]]:
        """All events that are still to come."""
        found: list[dict[str, Any]] = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found


@asynccontextmanager
async def stream(service: Service, task_id: str, last: str | None = None) -> AsyncGenerator[Stream]:
    headers = {} if last is None else {"Last-Event-ID": last}
    url = f"http://127.0.0.1:{service.port}/task/{task_id}/events"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        yield Stream(response)


def steps(events: list[dict[str, Any]]) -> list[str]:
    return [e["data"]["event"] if e["event"] == "transition" else e["event"] for e in events]


async def test_a_task_from_its_acceptance_to_its_end(service: Service) -> None:
    """The state first, then each transition with its number, then the whole task; then the stream ends."""
    async with ScriptedAgent("a", {"success": False, "error": {"message": "private"}}, SUCCESS) as agent:
        task_id = (await service.route({})).json["task_id"]
        async with stream(service, task_id) as open_stream:
            assert open_stream.response.status == 200
            assert open_stream.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            assert open_stream.response.headers["Cache-Control"] == "no-store"
            first = await open_stream.next()
            assert first is not None
            assert (first["event"], first["id"], first["data"]["status"]) == ("state", "1", "queued")
            await agent.register(service)
            events = await open_stream.rest()
        assert steps(events) == ["leased", "retry_scheduled", "due", "leased", "succeeded", "end"]
        assert [e["id"] for e in events] == ["2", "3", "4", "5", "6", "6"]
        assert events[0]["data"] == {
            "at": events[0]["data"]["at"], "event": "leased", "status": "leased", "attempt": 1, "agent_id": "a",
            "model_version": None, "reason": None,
        }  # fmt: skip
        assert events[-1]["data"] == (await service.ask("GET", f"/task/{task_id}")).json
        assert "private" not in str(events)


async def test_how_far_an_agent_is(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each word that it says is told as it comes, with no number of its own; whoever comes later is told the last."""
    monkeypatch.setattr(events_module, "LOOK_AGAIN_S", 10 * PATIENCE_S)
    await service.ask("POST", "/register_agent", json={"agent_id": "p", "capabilities": "embed", "location": "edge-1"})
    task_id = (await service.route({})).json["task_id"]
    async with stream(service, task_id) as open_stream:
        await open_stream.next()
        granted = (await service.ask("POST", "/agents/p/lease", json={})).json["tasks"][0]
        proof = {"agent_id": "p", "attempt": 1, "lease": granted["lease"]}
        leased = await open_stream.next()
        assert leased is not None
        for done, note in ((0.4, "reading"), (0.8, "writing")):
            await service.ask("POST", f"/task/{task_id}/extend", json={**proof, "progress": done, "note": note})
            told = await open_stream.next()
            assert told == {
                "event": "progress", "id": leased["id"],
                "data": {"attempt": 1, "agent_id": "p", "progress": done, "progress_note": note},
            }  # fmt: skip
        async with stream(service, task_id) as later, stream(service, task_id, last=leased["id"]) as again:
            state, last_word = await later.next(), await again.next()
            assert state is not None
            assert last_word is not None
            assert (state["data"]["progress"], state["data"]["progress_note"]) == (0.8, "writing")
            assert (last_word["event"], last_word["data"]["progress"]) == ("progress", 0.8)
        await service.ask("POST", f"/task/{task_id}/result", json={**proof, "success": True, "output": 1})
        assert steps(await open_stream.rest()) == ["succeeded", "end"]


async def test_a_task_that_is_finished(service: Service) -> None:
    """Its state, its end, and that is all."""
    task_id = (await service.route({})).json["task_id"]
    await service.ask("DELETE", f"/task/{task_id}")
    async with stream(service, task_id) as open_stream:
        events = await open_stream.rest()
    assert steps(events) == ["state", "end"]
    assert [e["data"]["status"] for e in events] == ["cancelled", "cancelled"]


async def test_a_client_that_comes_back(service: Service) -> None:
    """Is told exactly what it missed, and not its beginning once more."""
    async with ScriptedAgent("a") as agent:
        await agent.register(service)
        task_id = (await service.route({})).json["task_id"]
        await service.ended(task_id)
        async with stream(service, task_id, last="1") as open_stream:
            assert steps(await open_stream.rest()) == ["leased", "succeeded", "end"]
        async with stream(service, task_id, last="3") as open_stream:
            assert steps(await open_stream.rest()) == ["end"]


async def test_changes_between_two_looks(service: Service) -> None:
    """Each of them is told: the audit is the source, not the wake-up call, which may be lost."""
    system: Any = service.orchestrator._system
    task_id = (await service.route({})).json["task_id"]
    async with stream(service, task_id) as open_stream:
        await open_stream.next()
        publish: Callable[..., None] = system.feed.publish
        system.feed.publish = lambda record: None
        async with ScriptedAgent("a") as agent:
            await agent.register(service)
            await agent.until_called()
            assert steps(await open_stream.rest()) == ["leased", "succeeded", "end"]
        system.feed.publish = publish


async def test_a_long_trail_is_read_page_by_page(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers go on across pages, and no entry comes twice."""
    monkeypatch.setattr("orchestrator.actors.timeline.PAGE", 2)
    async with ScriptedAgent("a", 500, 500, SUCCESS) as agent:
        await agent.register(service)
        task_id = (await service.route({})).json["task_id"]
        await service.ended(task_id)
        async with stream(service, task_id, last="0") as open_stream:
            events = await open_stream.rest()
    trail = [entry["event"] for entry in await service.audit(task_id=task_id)]
    assert steps(events) == [*trail, "end"]
    assert [int(e["id"]) for e in events] == [*range(1, len(trail) + 1), len(trail)]


async def test_a_quiet_task(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment now and then tells proxies and clients that the connection lives."""
    monkeypatch.setattr(streaming, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(events_module, "LOOK_AGAIN_S", 0.05)
    task_id = (await service.route({})).json["task_id"]
    async with stream(service, task_id) as open_stream, anyio.create_task_group() as group:
        await open_stream.next()

        async def cancel_soon() -> None:
            await open_stream.commented.wait()
            await service.ask("DELETE", f"/task/{task_id}")

        group.start_soon(cancel_soon)
        assert steps(await open_stream.rest()) == ["cancelled", "end"]
    assert open_stream.commented.is_set()


async def test_more_streams_than_may_be_open(service: Service) -> None:
    """One more is told 503 and when to try again; a stream that its client leaves makes room."""
    system: Any = service.orchestrator._system
    task_id = (await service.route({})).json["task_id"]
    async with stream(service, task_id) as first:
        await first.next()
        async with stream(service, task_id) as second, stream(service, task_id) as third:
            await second.next()
            await third.next()
            refused = await service.ask("GET", f"/task/{task_id}/events")
            assert (refused.status, refused.json["code"], refused.headers["Retry-After"]) == (503, "E_OVERLOADED", "5")
    with anyio.fail_after(PATIENCE_S):
        while system.feed._waiting:  # noqa: ASYNC110 - seen from outside only
            await anyio.sleep(0.01)
    async with stream(service, task_id) as again:
        assert await again.next() is not None


async def test_what_is_no_stream(service: Service) -> None:
    """404 for a task that is not there, 422 for a number that is none; HEAD ends at once."""
    task_id = (await service.route({})).json["task_id"]
    assert (await service.ask("GET", "/task/task-0/events")).status == 404
    reply = await service.ask("GET", f"/task/{task_id}/events", headers={"Last-Event-ID": "x"})
    assert (reply.status, reply.json["code"]) == (422, "E_VALIDATION")
    with anyio.fail_after(PATIENCE_S):
        assert (await service.ask("HEAD", f"/task/{task_id}/events")).status == 200


async def test_the_end_of_service(service: Service) -> None:
    """Ends the streams, so that they do not hold it up; the task is not at its end."""
    task_id = (await service.route({})).json["task_id"]
    async with stream(service, task_id) as open_stream:
        await open_stream.next()
        service.orchestrator.drain()
        assert await open_stream.rest() == []
