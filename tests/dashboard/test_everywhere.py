"""What holds on every page: hostile text stays text, everybody can use it, it fits every screen, day and night."""

import json
from collections.abc import AsyncGenerator

import pytest
from axe_playwright_python.base import AXE_SCRIPT  # pyright: ignore[reportMissingTypeStubs]
from playwright.async_api import Browser, expect
from visiting import Visitor

from orchestrator.testing import ScriptedAgent, Service

pytestmark = pytest.mark.anyio

HOSTILE = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    '"><svg onload=window.pwned=1>',
    "' onmouseover='window.pwned=1",
    "<a href=javascript:window.pwned=1>x</a>",
    "{{ 7*7 }}${7*7}<% 7*7 %>",
    "</td></table></main><h1>taken over</h1>",
    "<div hx-get=/ui/agents/hostile-1/drain hx-trigger=load>",
    "<template><script>window.pwned=1</script></template>",
    "<meta http-equiv=refresh content=0;url=//elsewhere.example>",
    "data: x\u2028event: flow\u2029data: taken over",
    "\u202etxt.exe\u202c<b>",
)
SIZES = {"desk": (1360, 900), "tablet": (820, 1100), "phone": (390, 844)}


@pytest.fixture(scope="module")
async def world(service: Service) -> AsyncGenerator[dict[str, str]]:
    """Agents in several states, tasks in several states, hostile text wherever somebody may put any; pages by name."""
    agent = ScriptedAgent("embedder-1", location="edge-clinic-1", model_version="vit-3.1")
    refuser = ScriptedAgent("refuser-1", 500, location="clinic-server", capabilities=["analyze_refer"])
    async with agent, refuser:
        await agent.register(service)
        await refuser.register(service)
        for number, text in enumerate(HOSTILE):
            body = {"agent_id": f"hostile-{number}", "capabilities": ["audit"], "location": text, "model_version": text}
            assert (await service.ask("POST", "/register_agent", json=body)).status == 200
            task = {"case_id": text.replace("\u2028", " ").replace("\u2029", " "), "task_type": "audit_log"}
            assert (await service.route(task)).status == 202
            leased = (await service.ask("POST", f"/agents/hostile-{number}/lease", json={"wait": 5})).json["tasks"][0]
            said = {"attempt": leased["attempt"], "lease": leased["lease"], "agent_id": f"hostile-{number}"}
            said |= {"progress": 0.3, "note": text}
            reply = await service.ask("POST", f"/task/{leased['task_id']}/extend", json=said)
            assert reply.status == 200, reply
        given = (await service.route({"task_type": "audit_log"})).json["task_id"]
        (held,) = (await service.ask("POST", "/agents/hostile-0/lease", json={"wait": 5})).json["tasks"]
        result = {"attempt": held["attempt"], "lease": held["lease"], "agent_id": "hostile-0", "success": True}
        result |= {"output": {text: [text] for text in HOSTILE}, "model_version": HOSTILE[0]}
        assert (await service.ask("POST", f"/task/{given}/result", json=result)).status == 200
        done = (await service.route({"case_id": "case-7"})).json["task_id"]
        await service.ended(done)
        dead = (await service.route({"task_type": "analyze_refer"})).json["task_id"]
        await service.ended(dead)
        telemetry = service.orchestrator.telemetry
        telemetry.history.add(telemetry.now(service.orchestrator.environment.now() + 1))
        yield {
            "overview": "/", "tasks": "/ui/tasks", "task": f"/ui/task/{done}", "dead": f"/ui/task/{dead}",
            "hostile": f"/ui/task/{leased['task_id']}", "send": "/ui/send", "audit": f"/ui/audit?task_id={dead}",
            "given": f"/ui/task/{given}", "hostile_result": f"/ui/task/{given}/result",
            "verify": "/ui/audit/verify", "confirm": "/ui/agents/embedder-1/drain", "result": f"/ui/task/{done}/result",
        }  # fmt: skip


async def test_hostile_text(world: dict[str, str], visitor: Visitor) -> None:
    """Is shown as what it is: nothing of it becomes markup, at first and when it comes live."""
    for path in world.values():
        page = await visitor.go(path)
        if path in ("/", world["tasks"], world["hostile"]):
            await expect(page.get_by_role("status")).to_have_text("live")
        assert await page.evaluate("window.pwned") is None
        assert "taken over" not in await page.locator("h1").all_inner_texts()
        assert await page.locator("main").count() == 1
    page = await visitor.go(world["hostile_result"])
    shown = await page.get_by_label("The result as JSON").inner_text()
    assert json.loads(shown) == {text: [text] for text in HOSTILE}
    page = await visitor.go("/")
    await expect(page.get_by_text(HOSTILE[0]).first).to_be_visible()
    for text in HOSTILE[:9]:
        assert text in await page.get_by_role("region", name="Agents").inner_text()


async def test_everybody_can_use_it(world: dict[str, str], visitor: Visitor) -> None:
    """axe finds nothing on any page, on a desk or a phone: names, roles, order, and contrast by day and by night."""
    found: dict[str, object] = {}
    for name, path in world.items():
        page = await visitor.go(path)
        await page.evaluate(AXE_SCRIPT)
        violations = (await page.evaluate("axe.run({resultTypes: ['violations']})"))["violations"]
        await page.emulate_media(color_scheme="dark")
        violations += (await page.evaluate("axe.run({runOnly: ['color-contrast'], resultTypes: ['violations']})"))[
            "violations"
        ]
        await page.emulate_media(color_scheme="light")
        await page.set_viewport_size({"width": 390, "height": 844})
        violations += (await page.evaluate("axe.run({resultTypes: ['violations']})"))["violations"]
        await page.set_viewport_size({"width": 1280, "height": 720})
        if violations:
            found[name] = [(v["id"], [node["html"] for node in v["nodes"][:3]]) for v in violations]
    assert found == {}


async def test_with_the_keyboard_alone(world: dict[str, str], visitor: Visitor) -> None:
    """Tab comes to all that can be used, in the order of the page, the way past the header first, and is seen there."""
    page = await visitor.go("/ui/send")
    usable = "a[href], button, input:not([type=hidden]), select, textarea"
    wanted = await page.locator(usable).evaluate_all("all => all.map(one => one.outerHTML)")
    walked: list[str] = []
    for _ in wanted:
        await page.keyboard.press("Tab")
        html, outlined = await page.evaluate(
            "[document.activeElement.outerHTML, getComputedStyle(document.activeElement).outlineStyle]"
        )
        walked.append(html)
        assert outlined != "none", html
    assert walked == wanted
    assert "Skip to the content" in walked[0]


async def test_on_every_screen(world: dict[str, str], visitor: Visitor) -> None:
    """Nothing is wider than the screen. The pictures are kept, to be looked at."""
    for name in ("overview", "tasks", "task", "dead", "send", "audit", "confirm"):
        page = await visitor.go(world[name])
        for size, (width, height) in SIZES.items():
            await page.set_viewport_size({"width": width, "height": height})
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, size)
            for scheme in ("light", "dark"):
                await page.emulate_media(color_scheme=scheme)
                if name == "overview":
                    await expect(page.locator(".plot canvas")).to_have_count(3)
                await visitor.shoot(f"{name}-{size}-{scheme}")


async def test_without_scripts(world: dict[str, str], chromium: Browser, service: Service) -> None:
    """Every page says the same, only not live, and what is done is asked first all the same."""
    async with Visitor(chromium, service.port, java_script_enabled=False) as visitor:
        page = await visitor.go("/")
        await page.get_by_role("link", name="Drain refuser-1").click()
        await page.get_by_role("button", name="Drain").click()
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="refuser-1"))
        await expect(row).to_contain_text("draining")


async def test_an_insecure_mode(chromium: Browser, tmp_path) -> None:
    """Is said on every page."""
    environ = {"ORCHESTRATOR_AGENTS_ALLOW_PLAINTEXT": "true", "ORCHESTRATOR_AGENTS_ALLOWED_NETWORKS": "10.0.0.0/8"}
    async with (
        Service(tmp_path / "ledger.db", {**environ, "ORCHESTRATOR_WEB_INSECURE": "true"}) as service,
        Visitor(chromium, service.port) as visitor,
    ):
        for path in ("/", "/ui/tasks", "/ui/send", "/ui/audit"):
            page = await visitor.go(path)
            await expect(page.get_by_role("alert")).to_contain_text("plaintext agents beyond this machine")
