"""What the README says works as written."""

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from click.testing import CliRunner
from desk import Desk, demonstration

from orchestrator.cli import main
from orchestrator.domain.lifecycle import diagram
from orchestrator.workers import Agent
from orchestrator.workers.testing import running, stub_orchestrator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


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


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """`orchestrator demo`, which serves."""
    with demonstration(tmp_path_factory.mktemp("demo")) as desk:
        yield desk


def ask(url: str, path: str) -> Any:
    with urlopen(f"{url}{path}", timeout=20) as answer:  # noqa: S310 - our own, on the loopback
        return json.load(answer)


def test_what_the_readme_sends_while_the_demo_serves(served: Desk) -> None:
    """Each request is answered as the text beside it says, typed as it stands."""

    def typed(text: str) -> Any:
        return json.loads(served.types(text.replace("http://127.0.0.1:8080", served.environ["URL"])))

    (task, refused) = re.findall(
        r"^    (curl -s http://[^']*/route_task [^']*'[^']*' -d '[^']*')", README, re.MULTILINE
    )
    first = typed(task)
    assert first["result"]["advice"] == "none"
    again = typed(task)
    assert (again["status"], again["result"]) == ("duplicate", first["result"])
    assert typed(refused)["code"] == "E_CONSENT_REQUIRED"
    status, audit = re.findall(r"^    (curl -s 'http.*)$", README, re.MULTILINE)
    assert typed(status.replace("TASK_ID", first["task_id"]))["status"] == "succeeded"
    assert {entry["event"] for entry in typed(audit)["entries"]} >= {"succeeded", "refused"}


def test_what_the_readme_types_while_the_demo_serves(served: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command goes well, typed as it stands."""
    url = served.environ["URL"]
    monkeypatch.chdir(served.folder)
    monkeypatch.setenv("ORCHESTRATOR_URL", url)
    body = re.search(r"/route_task .* -d '([^']*)'", README)
    assert body
    Path("task.json").write_text(body[1])
    dead = ask(url, "/dlq")["entries"][0]["task_id"]
    commands = [line.split("#")[0].split() for line in re.findall(r"^    orchestrator (.*)$", README, re.MULTILINE)]
    assert len(commands) > 12
    for words in commands:
        if words[0] == "serve":
            continue  # The demo serves already.
        # Tables are made where there are none yet: in the database that is the default.
        database = {} if words[0] == "tables" else {"DATABASE_URL": "sqlite:///./var/demo.db"}
        answer = CliRunner().invoke(main, [{"TASK_ID": dead}.get(word, word) for word in words], env=database)
        expected = 1 if words[0] == "task" else 0
        assert answer.exit_code == expected, f"{words}: {answer.output}"
    assert Path("audit.ndjson").read_text().count('"event":"succeeded"') > 5


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
