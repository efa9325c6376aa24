"""What the README says works as written."""

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.domain.lifecycle import diagram
from orchestrator.workers import Agent
from orchestrator.workers.testing import running, stub_orchestrator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def block(start: str) -> str:
    """The indented block of the README that begins with `start`."""
    found = re.search(rf"^    {re.escape(start)}.*\n(?:(?:    .*)?\n)*", README, re.MULTILINE)
    assert found
    return textwrap.dedent(found[0])


@pytest.mark.anyio
async def test_the_agent_of_the_readme_works() -> None:
    """Its few lines make an agent that registers and answers."""
    names: dict[str, Any] = {"__name__": "greeter"}
    exec(block("from orchestrator.workers import"), names)  # noqa: S102 - our own README
    agent: Agent = names["agent"]
    async with stub_orchestrator() as stub, running(agent, stub) as greeter:
        assert greeter.card["agent_id"] == "greeter-1"
        status, answer = await greeter.call("audit_log", {"note": "hello"})
    assert (status, answer) == (200, {"success": True, "output": {"noted": "hello"}})


@pytest.mark.anyio
async def test_the_embedding_of_the_readme_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its few lines route a task."""
    monkeypatch.setenv("DATABASE_URL", "memory://")
    head, _, body = block("from orchestrator import").partition("\n\n")
    lines = f"{head}\nasync def embed():\n{textwrap.indent(body, '    ')}\n    return outcome\n"
    names: dict[str, Any] = {}
    exec(lines, names)  # noqa: S102 - our own README
    outcome = await names["embed"]()
    assert outcome.record.task.payload == {"note": "hello"}


def test_every_command_of_the_readme_exists() -> None:
    """Each line `orchestrator …` names a command that explains itself."""
    commands = re.findall(r"^    orchestrator ((?:[a-z]+ ?)+)", README, re.MULTILINE)
    assert len(commands) > 8
    for command in commands:
        words = [word for word in command.split() if word in ("list", "replay", "show", "verify", "export")]
        answer = CliRunner().invoke(main, [command.split()[0], *words, "--help"])
        assert answer.exit_code == 0, command


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    """Relative links in the Markdown files name files that exist."""
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} → {target}"


def test_the_architecture_page_draws_the_transitions_that_the_code_has() -> None:
    """The state diagram is the table."""
    assert diagram() in (ROOT / "ARCHITECTURE.md").read_text("utf-8")
