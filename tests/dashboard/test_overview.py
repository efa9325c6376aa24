"""The overview in a real browser: every panel, live, for everybody, and nothing from elsewhere."""

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect
from visiting import Visitor

from orchestrator.testing import ScriptedAgent, Service

pytestmark = pytest.mark.anyio


async def test_the_panels(service: Service, visitor: Visitor) -> None:
    """The tree in start order, the queues by class, the latencies, the plots."""
    page = await visitor.go("/")
    tree = page.get_by_role("region", name="Supervision tree").get_by_role("rowheader")
    assert await tree.all_inner_texts() == [child.name for child in service.orchestrator.status()]
    queues = page.get_by_role("region", name="Queues").get_by_role("rowheader")
    assert await queues.all_inner_texts() == ["urgent", "high", "normal", "low"]
    await expect(page.get_by_role("region", name="Latency").get_by_role("rowheader")).to_have_count(3)
    await expect(page.locator(".plot canvas")).to_have_count(3)
    await expect(page.get_by_role("status")).to_have_text("live")


async def test_it_is_live(service: Service, visitor: Visitor) -> None:
    """An agent that comes, works and goes is seen to do so, without loading anything anew."""
    page = await visitor.go("/")
    await expect(page.get_by_role("status")).to_have_text("live")
    agents = page.get_by_role("region", name="Agents")
    async with ScriptedAgent("worker-1", location="edge-clinic-1") as agent:
        await agent.register(service)
        row = agents.get_by_role("row").filter(has=page.get_by_role("rowheader", name="worker-1"))
        await expect(row).to_contain_text("ready")
        await expect(row).to_contain_text("edge-clinic-1")
        await service.ended((await service.route({})).json["task_id"])
        await expect(row).to_contain_text("100 %")
        await expect(page.locator(".tiles")).to_contain_text("Done 1 h1")
    await service.ask("DELETE", "/agents/worker-1")
    await expect(row).to_have_count(0)
    assert [url for url in visitor.requests if url.endswith("/")] == [f"{visitor.origin}/"]


async def test_the_plots_go_on(service: Service, visitor: Visitor) -> None:
    """A new sample is drawn when it is taken."""
    page = await visitor.go("/")
    await expect(page.get_by_role("status")).to_have_text("live")
    canvas = await page.locator(".plot canvas").first.element_handle()
    telemetry = service.orchestrator.telemetry
    telemetry.history.add(telemetry.now(service.orchestrator.environment.now() + 5))
    assert canvas
    await page.wait_for_function("canvas => !canvas.isConnected", arg=canvas)
    await expect(page.locator(".plot canvas")).to_have_count(3)


async def test_the_hour_outlives_a_restart(chromium: Browser, tmp_path: Path) -> None:
    """The page connects again by itself and is live; what it had seen stays, to the left of what comes."""

    async def drawn(page: Page) -> list[float]:
        return json.loads(await page.locator("#plots").get_attribute("data-plots") or "")["rates"][0]

    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(Service(tmp_path / "ledger.db"))
        visitor = await stack.enter_async_context(Visitor(chromium, first.port))
        # What the browser and the extension for streams say of a connection that is gone.
        visitor.allowed = ("ERR_CONNECTION", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE", "[object Event]")
        telemetry, now = first.orchestrator.telemetry, first.orchestrator.environment.now()
        for ago in (5_000, 3_000, 300, 290):
            telemetry.history.add(telemetry.now(now - ago))
        page = await visitor.go("/")
        await expect(page.get_by_role("status")).to_have_text("live")
        before = await drawn(page)
        await first.stop()
        await expect(page.get_by_role("status")).to_have_text("not connected, trying again")
        again = await stack.enter_async_context(Service(tmp_path / "ledger.db", port=first.port))
        await expect(page.get_by_role("status")).to_have_text("live")
        canvas = await page.locator(".plot canvas").first.element_handle()
        telemetry = again.orchestrator.telemetry
        telemetry.history.add(telemetry.now(again.orchestrator.environment.now() + 5))
        assert canvas
        await page.wait_for_function("canvas => !canvas.isConnected", arg=canvas)
        after = await drawn(page)
        assert len(before) >= 3
        assert after[: len(before)] == before
        assert len(after) > len(before)
        assert after == sorted(set(after))
        await expect(page.locator(".plot canvas")).to_have_count(3)
        await visitor.shoot("overview-after-a-restart")
    assert visitor.wrong == []


async def test_drain_from_the_page(service: Service, visitor: Visitor) -> None:
    """Asked first, in a dialog that Escape leaves without harm; then done, and in the audit with who did it."""
    async with ScriptedAgent("worker-2") as agent:
        await agent.register(service)
        page = await visitor.go("/")
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="worker-2"))
        button = row.get_by_role("link", name="Drain worker-2")
        await button.focus()
        await page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("Drain worker-2?")
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
        await expect(button).to_be_focused()
        assert service.orchestrator.gateway.agents()["worker-2"].health.draining is False
        await page.keyboard.press("Enter")
        await dialog.get_by_role("button", name="Drain").click()
        await expect(row).to_contain_text("draining")
        await expect(button).to_have_count(0)
    entries = await service.audit()
    assert [(e["agent_id"], e["principal"]) for e in entries if e["event"] == "agent_drained"] == [
        ("worker-2", "anonymous")
    ]
    await service.ask("DELETE", "/agents/worker-2")
