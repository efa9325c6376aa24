"""The command line as an operator uses it: real processes, a real server on a real port."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from served_at import url_said

NOTE = {"case_id": "case-cli", "task_type": "audit_log", "payload": {"note": "hello"}}
PATIENCE_S = 30


class Box:
    """A server that runs, and the commands that talk to it or to its database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {**os.environ, "DATABASE_URL": f"sqlite:///{folder}/ledger.db"}
        self.server = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "serve", "--port", "0"],
            env=self.environ, cwd=folder, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.environ["ORCHESTRATOR_URL"] = url_said(self.server)

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orchestrator", *words],
            env=self.environ, cwd=self.folder, input=stdin,
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip

    def stop(self) -> int:
        self.server.send_signal(signal.SIGTERM)
        self.server.communicate(timeout=PATIENCE_S)
        return self.server.returncode


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    found = Box(tmp_path_factory.mktemp("box"))
    yield found
    if found.server.poll() is None:
        found.stop()


def submitted(box: Box) -> str:
    answer = box.run("submit", stdin=json.dumps(NOTE))
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)["task_id"]


def test_a_task_is_submitted_and_looked_up(box: Box) -> None:
    """`submit` prints the task's id, `task` its status."""
    task_id = submitted(box)
    assert json.loads(box.run("task", task_id).stdout)["status"] == "queued"


def test_a_task_in_a_file_is_refused_with_its_problem(box: Box, tmp_path: Path) -> None:
    """What the server refuses is shown as it says it, with exit code 1."""
    file = tmp_path / "task.json"
    file.write_text(json.dumps({**NOTE, "task_type": "embed", "payload": {"image_ref": "x"}}))
    answer = box.run("submit", str(file))
    assert (answer.returncode, json.loads(answer.stdout)["code"]) == (1, "E_CONSENT_REQUIRED")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hello", "breaks at character 0"),
        ("[" * 200_000, "deeper than 32 levels"),
        ('{"case_id": "a", "case_id": "b"}', "duplicate key"),
        ('{"a": NaN}', "NaN"),
    ],
)
@pytest.mark.parametrize("command", ["submit", "explain"])
def test_a_task_that_is_not_strict_json(box: Box, command: str, text: str, why: str) -> None:
    """It is not sent on in another reading: exit code 2 and one line that says what is wrong with it."""
    answer = box.run(command, stdin=text)
    assert (answer.returncode, answer.stdout, len(answer.stderr.splitlines())) == (2, "", 1)
    assert why in answer.stderr


@pytest.mark.parametrize("words", [("agents",), ("dlq", "list"), ("explain",)])
def test_an_answer_that_is_no_list(box: Box, words: tuple[str, ...]) -> None:
    """It is not shown as an empty table: exit code 1, and the problem."""
    elsewhere = f"{box.environ['ORCHESTRATOR_URL']}/elsewhere"
    answer = box.run(*words, "--url", elsewhere, stdin=json.dumps(NOTE))
    assert (answer.returncode, json.loads(answer.stdout)["code"]) == (1, "E_NOT_FOUND")


def test_an_id_is_never_a_path(box: Box) -> None:
    """Whatever is given as a task's id, nothing but a task is asked for."""
    for words in (("task", "../health"), ("dlq", "replay", "../../health?")):
        answer = box.run(*words)
        assert (answer.returncode, json.loads(answer.stdout)["code"]) == (1, "E_NOT_FOUND"), words


def test_there_is_no_room_for_what_a_command_says(box: Box, tmp_path: Path) -> None:
    """Exit code 69 and one line, wherever its output goes."""
    submitted(box)
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "orchestrator", "settings"]
        answer = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False
        )
    assert (answer.returncode, len(answer.stderr.splitlines())) == (69, 1), answer.stderr
    answer = box.run("audit", "export", "--output", str(tmp_path / "nowhere" / "file"))
    assert (answer.returncode, len(answer.stderr.splitlines())) == (69, 1), answer.stderr


def test_explaining_stores_nothing(box: Box) -> None:
    """`explain` names the candidates' table, and leaves no audit entry."""
    before = box.run("audit", "export").stdout
    answer = box.run("explain", stdin=json.dumps(NOTE))
    assert answer.returncode == 0
    assert "candidate" in answer.stdout
    assert box.run("audit", "export").stdout == before


def test_lists_of_nothing_are_empty_tables(box: Box) -> None:
    """`agents` and `dlq list` work before there is anything to list; replaying what is not there says so."""
    assert "capabilities" in box.run("agents").stdout
    assert "reason" in box.run("dlq", "list").stdout
    answer = box.run("dlq", "replay", "task-" + "0" * 32)
    assert (answer.returncode, json.loads(answer.stdout)["code"]) == (1, "E_NOT_FOUND")


def test_the_audit_is_shown_exported_and_verified_while_the_server_runs(box: Box) -> None:
    """The audit commands read the database itself, beside its owner."""
    task_id = submitted(box)
    assert task_id in box.run("audit", "show", "--task", task_id).stdout
    assert task_id in box.run("audit", "show", "--event", "accepted").stdout
    assert task_id not in box.run("audit", "show", "--event", "refused").stdout
    exported = [json.loads(line) for line in box.run("audit", "export").stdout.splitlines()]
    assert [entry["seq"] for entry in exported] == list(range(1, len(exported) + 1))
    verdict = box.run("audit", "verify")
    assert (verdict.returncode, verdict.stdout.splitlines()[-1]) == (0, "the chain holds")


def test_tables_as_json(box: Box) -> None:
    """`orchestrator --json` makes of each table an array, with an object a row, for programs to read."""
    task_id = submitted(box)
    rows = json.loads(box.run("--json", "audit", "show", "--task", task_id).stdout)
    assert [(row["event"], row["task"]) for row in rows] == [("accepted", task_id)]
    assert json.loads(box.run("--json", "agents").stdout) == []
    named = {row["setting"]: row["value"] for row in json.loads(box.run("--json", "settings").stdout)}
    assert named["web.port"] == "8080"


def test_where_the_data_of_a_case_went(box: Box) -> None:
    """`audit export --case` answers in each format, though nobody got it yet; a format without a case is refused."""
    submitted(box)
    found = {
        form: box.run("audit", "export", "--case", "case-cli", "--format", form) for form in ("ndjson", "csv", "fhir")
    }
    assert {answer.returncode for answer in found.values()} == {0}
    assert found["ndjson"].stdout == ""
    assert found["csv"].stdout.splitlines()[0].startswith("case_id,task_id,attempt,agent_id,location")
    assert json.loads(found["fhir"].stdout)["resourceType"] == "Bundle"
    refused = box.run("audit", "export", "--format", "fhir")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)


def test_a_second_server_on_the_same_database_is_refused(box: Box) -> None:
    """One file has one owner: exit code 75, one line."""
    answer = box.run("serve", "--port", "0")
    assert answer.returncode == 75
    assert len(answer.stderr.splitlines()) == 1


def test_the_port_is_taken(box: Box) -> None:
    """Exit code 69 and one line that names the address."""
    port = box.environ["ORCHESTRATOR_URL"].rsplit(":", 1)[1]
    answer = box.run("serve", "--port", port)
    assert answer.returncode == 69
    assert port in answer.stderr


def test_nobody_serves_there(box: Box) -> None:
    """Exit code 69 and one line, no traceback."""
    answer = box.run("task", "task-1", "--url", "http://127.0.0.1:1")
    assert answer.returncode == 69
    assert len(answer.stderr.splitlines()) == 1


def test_settings_are_printed_with_their_source_and_without_secrets(box: Box) -> None:
    """Every setting, where it came from, and no password."""
    box.environ["REDIS_URL"] = "redis://user:hunter2@localhost"
    answer = box.run("settings")
    del box.environ["REDIS_URL"]
    assert "hunter2" not in answer.stdout
    assert any("storage.redis_url" in line and "REDIS_URL" in line for line in answer.stdout.splitlines())


@pytest.mark.parametrize("url", ["mysql://localhost/db", "sqlite://", "nonsense"])
def test_a_database_that_is_not_supported(box: Box, url: str) -> None:
    """Exit code 2, as for any other setting."""
    own = box.environ["DATABASE_URL"]
    box.environ["DATABASE_URL"] = url
    answer = box.run("serve", "--port", "0")
    box.environ["DATABASE_URL"] = own
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1


def test_tables_are_made_by_the_command_and_by_the_script(tmp_path: Path) -> None:
    """Both create the database; twice is safe."""
    root = Path(__file__).parents[1]
    environ = {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/new.db"}
    for words in (["-m", "orchestrator", "tables"], [str(root / "scripts" / "create_tables.py")]):
        subprocess.run([sys.executable, *words], env=environ, check=True, timeout=PATIENCE_S, capture_output=True)
    with sqlite3.connect(tmp_path / "new.db") as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    connection.close()
    assert {"tasks", "results", "idempotency_keys", "audit_entries", "agents", "outbox", "schema_version"} <= names


def test_a_flaw_in_the_audit_is_named(tmp_path: Path) -> None:
    """An entry that was changed in the file makes `audit verify` say which, with exit code 1."""
    box = Box(tmp_path)
    submitted(box)
    submitted(box)
    assert box.stop() == 0
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("DROP TRIGGER audit_entries_are_final")
        connection.execute("UPDATE audit_entries SET case_id = 'case-other' WHERE seq = 2")
    connection.close()
    verdict = box.run("audit", "verify")
    assert verdict.returncode == 1
    assert verdict.stdout.startswith("audit-main-2: ")


def test_the_command_without_words_explains_itself(box: Box) -> None:
    """`--help` lists every command."""
    listed = box.run("--help").stdout
    commands = ("serve", "demo", "submit", "task", "agents", "explain", "dlq", "audit", "tables", "settings")
    assert all(command in listed for command in commands)
