"""What the browser is told of every page, whether it is one or a refusal; and what stands in none of its files."""

import re
from importlib import resources

import pytest

from orchestrator.testing import ScriptedAgent, Service
from orchestrator.web.rights import PAGES

pytestmark = pytest.mark.anyio

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
INLINE = re.compile(r"<script(?![^>]*\ssrc=)|<style|\s(?:on[a-z]+|style|srcdoc)\s*=|javascript:|<base|<iframe", re.I)
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function")
DASHBOARD = resources.files("orchestrator.web.dashboard")


def paths(task_id: str) -> list[str]:
    """Of every page that is got, of one that is not there, and of each kind of its files."""
    rules = [call.partition(" ")[2] for call in PAGES if call.startswith("GET ")]
    named = [rule.replace("<task_id>", task_id).replace("<agent_id>", "agent-1") for rule in rules]
    return [*named, "/ui/task/none", "/ui/static/page.js", "/ui/static/page.css", "/ui/static/icon.svg"]


async def test_the_policy_of_every_page(service: Service) -> None:
    """To the letter, on all answers: scripts and styles from here alone, no frame around it, no other base."""
    async with ScriptedAgent("agent-1") as agent:
        await agent.register(service)
        task_id = (await service.route({})).json["task_id"]
        await service.ended(task_id)
        found = 0
        for path in paths(task_id):
            if "<" in path or path.endswith(("/live", "/verification")):
                continue
            reply = await service.ask("GET", path)
            assert reply.headers.get("Content-Security-Policy") == POLICY, path
            assert reply.headers["X-Content-Type-Options"] == "nosniff", path
            if reply.headers["Content-Type"].startswith("text/html"):
                assert INLINE.search(reply.body.decode()) is None, path
                found += reply.status == 200
        assert found > 10


def test_its_own_files() -> None:
    """No script of ours makes markup of text, no template lets text through as markup or holds a script of its own."""
    scripts = [file for file in DASHBOARD.joinpath("static").iterdir() if file.name.endswith(".js")]
    templates = [file for file in DASHBOARD.joinpath("templates").iterdir() if file.name.endswith(".html")]
    assert (len(scripts), len(templates) > 15) == (1, True)
    for file in scripts:
        assert MARKUP.search(file.read_text("utf-8")) is None, file.name
    for file in templates:
        text = file.read_text("utf-8")
        assert re.search(r"\|\s*safe\b|Markup|autoescape", text) is None, file.name
        assert INLINE.search(text) is None, file.name
