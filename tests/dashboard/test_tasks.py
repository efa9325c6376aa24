"""Tasks in a real browser: one followed from the form to its result, the list, what is found, what is done."""

import asyncio
import json

import pytest
from aiohttp import web
from playwright.async_api import expect
from visiting import Visitor

from orchestrator.testing import ScriptedAgent, Service, a_task

pytestmark = pytest.mark.anyio


async def test_from_the_form_to_the_result(service: Service, visitor: Visitor) -> None:
    """Sent, seen at work and how far it is, seen to end, without reloading; the result only when it is asked for."""
    go_on = asyncio.Event()

    async def work(_request: web.Request) -> web.Response:
        await go_on.wait()
        return web.json_response({"success": True, "output": {"finding": "sinus rhythm"}, "model_version": "m-7"})

    async with ScriptedAgent("follower-1", work) as agent, ScriptedAgent("other-1", capabilities=["audit"]) as other:
        await agent.register(service)
        await other.register(service)
        page = await visitor.go("/ui/send")
        await page.get_by_label("Case").fill("case-from-the-form")
        await page.get_by_label("Type").select_option("embed")
        await page.get_by_label("Class").select_option("high")
        await page.get_by_label("Payload").fill('{"text": "kept to itself"}')
        await page.get_by_role("button", name="Send").click()
        await expect(page.get_by_role("heading", level=2).first).to_contain_text("leased")
        story = page.get_by_role("region", name="What happened")
        await expect(story).to_contain_text("follower-1 chosen")
        await expect(story).to_contain_text("other-1 left out: cannot do this type of task")
        task_id = page.url.rpartition("/")[2]
        said = {"attempt": 1, "agent_id": "follower-1", "progress": 0.4, "note": "reading"}
        assert (await service.ask("POST", f"/task/{task_id}/extend", json=said)).status == 200
        await expect(page.get_by_role("region", name="leased")).to_contain_text("40 % reading")
        go_on.set()
        await expect(page.get_by_role("heading", level=2).first).to_contain_text("succeeded")
        await expect(page.get_by_role("status")).to_have_text("ended")
        content = await page.content()
        assert "sinus rhythm" not in content
        assert "kept to itself" not in content
        await page.get_by_role("link", name="Show the result").click()
        await expect(page.get_by_role("region", name="Result")).to_contain_text("sinus rhythm")
        steps = await story.locator("li strong").all_inner_texts()
        assert steps == ["accepted", "leased", "succeeded"]
    for name in ("follower-1", "other-1"):
        await service.ask("DELETE", f"/agents/{name}")
    assert not [url for url in visitor.requests if "case-from-the-form" in url]


async def test_what_is_wrong_in_the_form(service: Service, visitor: Visitor) -> None:
    """Is said above it, and what was filled in stays; to explain stores nothing."""
    visitor.allowed = ("status of 400", "status of 422")
    page = await visitor.go("/ui/send")
    await page.get_by_label("Case").fill("case-wrong")
    await page.get_by_label("Payload").fill("{no json")
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_role("alert")).to_contain_text("E_INVALID_JSON")
    await expect(page.get_by_label("Payload")).to_have_value("{no json")
    await page.get_by_label("Payload").fill("[]")
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_role("alert")).to_contain_text("payload: Expected `object`")
    await page.get_by_label("Payload").fill('{"raw_image": "aGk="}')
    await page.get_by_label("Type").select_option("embed")
    await page.get_by_role("button", name="Explain only").click()
    await expect(page.get_by_role("region", name="What would be decided now")).to_contain_text("there is no consent")
    assert await service.audit(case_id="case-wrong") == []


async def test_cancel_and_replay(service: Service, visitor: Visitor) -> None:
    """Each asked first. What is cancelled ends; a dead task becomes a new one, which names it."""
    waits = (await service.route({"task_type": "indexing"})).json["task_id"]
    page = await visitor.go(f"/ui/task/{waits}")
    await page.get_by_role("link", name="Cancel").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("heading", level=2).first).to_contain_text("cancelled")
    no = {"success": False, "error": {"message": "no", "retryable": False}}
    async with ScriptedAgent("refuser-1", no, capabilities=["indexing"]) as agent:
        await agent.register(service)
        dead = (await service.route({"task_type": "indexing"})).json["task_id"]
        assert (await service.ended(dead))["status"] == "dead"
        page = await visitor.go(f"/ui/task/{dead}")
        await page.get_by_role("link", name="Replay").click()
        await page.get_by_role("dialog").get_by_role("button", name="Replay").click()
        await expect(page.get_by_text("Replay of")).to_be_visible()
        assert page.url != f"{visitor.origin}/ui/task/{dead}"
    await service.ask("DELETE", "/agents/refuser-1")


async def test_what_is_searched_for(service: Service, visitor: Visitor) -> None:
    """A task by its id, tasks by their case, whose id stands in no address; and by their state."""
    ids = [(await service.route({"task_type": "indexing", "case_id": "case-sought"})).json["task_id"] for _ in range(2)]
    page = await visitor.go("/ui/tasks")
    await page.get_by_label("Task or case").fill("case-sought")
    await page.get_by_role("button", name="Find").click()
    rows = page.get_by_role("region", name="Tasks found").get_by_role("rowheader")
    await expect(rows).to_have_count(2)
    assert "case-sought" not in page.url
    await page.get_by_label("Task or case").fill(ids[0])
    await page.get_by_role("button", name="Find").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text(ids[0])
    await service.ask("DELETE", f"/task/{ids[0]}")
    page = await visitor.go("/ui/tasks")
    await page.get_by_label("State").select_option("cancelled")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_role("link", name=ids[0])).to_be_visible()
    await expect(page.get_by_role("link", name=ids[1])).to_have_count(0)


async def test_ten_thousand_tasks(service: Service, visitor: Visitor) -> None:
    """A page has fifty of them and is small, however many there are; new ones come live, older ones are a link away."""
    for number in range(20):
        body = [a_task(task_type="indexing", case_id=f"many-{number}", priority=p) for p in ("low", "normal")] * 250
        reply = await service.ask("POST", "/route_tasks", data=json.dumps(body), headers=JSON)
        assert reply.status == 207
    plain = await service.ask("GET", "/ui/tasks")
    assert plain.body.count(b'<tr role="row">') == 51
    assert len(plain.body) < 80_000
    page = await visitor.go("/ui/tasks")
    rows = page.get_by_role("region", name="Tasks found").get_by_role("rowheader")
    await expect(rows).to_have_count(50)
    await expect(page.get_by_role("status")).to_have_text("live")
    newest = (await service.route({"task_type": "indexing"})).json["task_id"]
    await expect(rows.first.get_by_role("link")).to_have_attribute("title", newest)
    await expect(rows).to_have_count(50)
    first = await rows.all_inner_texts()
    await page.get_by_role("link", name="Older").click()
    await expect(page.get_by_role("link", name="Newest")).to_be_visible()
    second = await rows.all_inner_texts()
    assert len(second) == 50
    assert not set(first) & set(second)


JSON = {"Content-Type": "application/json"}
