"""Every command that the pages in docs/ show is typed here as it stands, or named below with the reason why not.

So is the walk through the README that a newcomer takes.
"""

import json
import re
import shutil
import signal
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from desk import PATIENCE_S, Desk, demonstration, is_ready

ROOT = Path(__file__).parents[1]
WORKER = "python -m orchestrator.workers."
BEGINS = ("orchestrator ", "curl ", "openssl ", "make ", "python", "uvicorn ", "key=", "printf ", "ORCHESTRATOR_")
"""What a line of a command begins with; all that is indented beside it is a file, a body or a program."""

NOT_TYPED = {
    f"{WORKER}embedder_worker --redis redis://127.0.0.1:6379/0 --image-root examples":
        "needs Redis at that very port; tests/workers/test_stream_workers.py starts both workers on one of its own",
    f"{WORKER}modelreasoner_worker --redis redis://127.0.0.1:6379/0": "the same",
    "make bench": "takes 25 minutes; tests/test_bench.py runs what it runs, at a small size",
    'make bench ARGS="http endtoend --rounds 3"': "the same",
    'make bench ARGS="--report var/bench.json"': "the same",
    "make soak SECONDS=600": "takes 10 minutes; tests/faults/test_three_replicas.py is it, for one turn of faults",
}  # fmt: skip


def commands(page: str) -> list[str]:
    """The commands of a page, without what is said beside them."""
    lines = (ROOT / "docs" / page).read_text("utf-8").splitlines()
    found: list[str] = []
    for number, line in enumerate(lines):
        if not line.startswith("    ") or not line[4:].startswith(BEGINS):
            continue
        whole, after = line[4:], number + 1
        while whole.endswith("\\") or whole.count("'") % 2:
            whole, after = f"{whole}\n{lines[after][4:]}", after + 1
        found.append(re.sub(r"\s{2,}# .*$", "", whole))
    return found


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Beside the demonstration, which serves: as somebody who tries the pages out has it."""
    with tried(tmp_path_factory.mktemp("demo")) as desk:
        yield desk


@contextmanager
def tried(folder: Path) -> Iterator[Desk]:
    """With a few tasks to send, and one that was done."""
    with demonstration(folder) as desk:
        task = {"case_id": "case-42", "task_type": "audit_log", "payload": {"note": "hello"}}
        (folder / "task.json").write_text(json.dumps(task))
        (folder / "tasks.ndjson").write_text(f"{json.dumps(task)}\n" * 3)
        done = json.loads(desk.types("orchestrator submit task.json --wait"))
        desk.names |= {"TASK_ID": done["task_id"], "task-…": done["task_id"], "CASE_ID": "case-42"}
        yield desk


TYPED = ["audit.md", "auditor.md", "operations.md", "operator.md", "security.md", "sending.md"]
"""The pages with a test of their own below, in which each command must be named."""


def test_no_command_is_left_out() -> None:
    """Each page whose commands are not typed says why; no reason stands for what is not there."""
    pages = sorted(page.name for page in (ROOT / "docs").glob("*.md"))
    untyped = [command for page in pages if page not in TYPED for command in commands(page)]
    assert sorted(untyped) == sorted(NOT_TYPED)
    assert sum(len(commands(page)) for page in TYPED) > 30


def test_an_agent_of_ones_own(tmp_path: Path) -> None:
    """That of the README, run as it says, gets what it may do: called, and asking where nobody else can."""
    readme = (ROOT / "README.md").read_text("utf-8")
    (program,) = re.findall(r"^    from orchestrator\.workers.*\n(?:(?:    .*)?\n)*", readme, re.MULTILINE)
    (tmp_path / "greeter.py").write_text(textwrap.dedent(program))
    with tried(tmp_path) as desk:
        for command in re.findall(r"^    (python greeter\.py(?: --pull)?)", readme, re.MULTILINE):
            with desk.started(f"exec {command}") as agent:
                assert agent.stderr is not None
                while "registered greeter-1" not in agent.stderr.readline():
                    assert agent.poll() is None
                if "--pull" in command:
                    desk.types("curl -sf -X POST $URL/agents/modelreasoner-1/drain")
                assert "greeter-1" in desk.types("orchestrator explain task.json")
                done = json.loads(desk.types("orchestrator submit task.json --wait"))
                assert (done["agent_id"], done["result"]) == ("greeter-1", {"noted": "hello"})
                agent.send_signal(signal.SIGTERM)
                agent.communicate(timeout=PATIENCE_S)
                assert agent.returncode == 0
        assert desk.types("orchestrator audit export --case case-42").count('"agent_id":"greeter-1"') == 2


def test_sending(desk: Desk) -> None:
    """A task, three at once, the events of one to its end, the client's program, and why it went there."""
    one, many, events, why = commands("sending.md")
    sent = json.loads(desk.types(one))
    assert sent["status"] in ("queued", "duplicate")
    assert [outcome["status"] for outcome in json.loads(desk.types(many))["outcomes"]] == [202] * 3
    desk.environ["TASK_ID"] = sent["task_id"]
    assert "event: end" in desk.types(events)
    page = (ROOT / "docs/sending.md").read_text("utf-8")
    (program,) = re.findall(r"^    from orchestrator\.client.*\n(?:(?:    .*)?\n)*", page, re.MULTILINE)
    head, _, body = textwrap.dedent(program).partition("\n\n")
    lines = f"{head}\nimport asyncio\nasync def main():\n{textwrap.indent(body, '    ')}\nasyncio.run(main())\n"
    (desk.folder / "program.py").write_text(lines.replace("http://127.0.0.1:8080", desk.environ["URL"]))
    assert "end {" in desk.types("python program.py")
    assert "chosen" in desk.types(why)


def test_the_operators_commands(desk: Desk) -> None:
    """Each ends well; those that watch end with Ctrl-C, as the page says."""
    for command in commands("operator.md"):
        if command in ("orchestrator queues --watch", "orchestrator agents --watch"):
            with desk.started(f"exec {command} --json") as watching:
                assert watching.stdout is not None
                assert json.loads(watching.stdout.readline())
                watching.send_signal(signal.SIGINT)
                watching.communicate(timeout=PATIENCE_S)
                assert watching.returncode == 130
        elif command == "orchestrator dlq replay TASK_ID":
            (letter, *_) = json.loads(desk.types("orchestrator dlq list --json"))
            desk.types(command.replace("TASK_ID", letter["task"]))
        else:
            desk.types(command)


def test_the_auditors_commands(desk: Desk) -> None:
    """Each says something of the case; so do the files."""
    for command in commands("auditor.md"):
        said = desk.types(command)
        assert said or "--output" in command, command
    assert "modelreasoner-1" in (desk.folder / "case-42.csv").read_text()
    assert json.loads((desk.folder / "case-42.json").read_text())["resourceType"] == "Bundle"


def test_a_signed_trail(tmp_path: Path) -> None:
    """Keys, a service that signs, and two verifiers of what it wrote; the answers it gave are receipts."""
    desk = Desk(tmp_path, DATABASE_URL="sqlite:///./audit.db")
    private, public, serve, verify, elsewhere = commands("audit.md")
    desk.types(private)
    desk.types(public)
    with desk.serving(serve):
        (tmp_path / "task.json").write_text('{"case_id": "c", "task_type": "embed", "payload": {}}')
        answer = json.loads(desk.types("orchestrator submit task.json"))
        (tmp_path / "answers.ndjson").write_text(json.dumps(answer))
    desk.types(verify)
    desk.types("orchestrator audit export --output trail.ndjson")
    shutil.copy(ROOT / "scripts/verify_audit.py", tmp_path)
    desk.types(elsewhere)
    (tmp_path / "trail.ndjson").write_text("")
    desk.types(elsewhere, 1)


def test_operations(tmp_path: Path) -> None:
    """Another server, a key to encrypt with, and what is erased."""
    desk = Desk(tmp_path, DATABASE_URL="sqlite:///./operations.db")
    uvicorn, key, serve, task, case = commands("operations.md")
    with desk.serving(uvicorn) as url:
        assert is_ready(url)
    desk.types(key)
    (tmp_path / "task.json").write_text('{"case_id": "case-7", "task_type": "embed", "payload": {}}')
    with desk.serving(serve):
        for command in (task, case):
            desk.names |= {"CASE_ID": "case-7"}
            desk.names["TASK_ID"] = json.loads(desk.types("orchestrator submit task.json"))["task_id"]
            assert json.loads(desk.types(command))["erased"] == 1


def test_keys(tmp_path: Path) -> None:
    """The first one before the first start, others with it, and an agent that is let out of its quarantine."""
    environ = {"DATABASE_URL": "sqlite:///./keys.db", "ORCHESTRATOR_AUTH_API_KEYS": "true"}
    desk = Desk(tmp_path, **environ)
    root, serve, another, listed, revoke, text, line, allow = commands("security.md")
    (tmp_path / "card.json").write_text('{"agent_id": "root", "capabilities": ["embed"]}')
    desk.environ["ORCHESTRATOR_API_KEY"] = desk.types(root).strip()
    with desk.serving(serve):
        desk.names |= {"KEY_ID": desk.types(another).split("_")[1], "AGENT_ID": "root", "[--raw-media]": "--raw-media"}
        assert "clinic-a" in desk.types(listed)
        desk.types(revoke)
        desk.types(
            'curl -sf $ORCHESTRATOR_URL/register_agent -H "Authorization: Bearer $ORCHESTRATOR_API_KEY"'
            " -H 'Content-Type: application/json' -d @card.json"
        )
        desk.types(allow)
    # Both lines in one shell: the second needs what the first one made.
    assert re.fullmatch(r"[0-9a-f]{64} root operate tasks:read\n", desk.types(f"{text}\n{line}"))
