"""API keys as an operator handles them: real processes, before anything serves and while it does."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from served_at import url_said

PATIENCE_S = 30
CASE, CANARY = "case-cli", "hello-canary"
NOTE = {"case_id": CASE, "task_type": "audit_log", "payload": {"note": CANARY}}


class Box:
    """A machine with a database, on which commands are given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        own = {"DATABASE_URL": f"sqlite:///{folder}/ledger.db", "ORCHESTRATOR_AUTH_API_KEYS": "true"}
        self.environ = {**os.environ, **own}
        self.server: subprocess.Popen[str] | None = None

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orchestrator", *words],
            env=self.environ | environ, cwd=self.folder, input=json.dumps(NOTE),
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip

    def serve(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "serve", "--port", "0"],
            env=self.environ, cwd=self.folder, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        url = url_said(self.server)
        self.environ["ORCHESTRATOR_WEB_PORT"] = url.rsplit(":", 1)[1]
        self.url = {"ORCHESTRATOR_URL": url}

    def stop(self) -> str:
        """What the server wrote until its end."""
        assert self.server
        self.server.send_signal(signal.SIGTERM)
        return self.server.communicate(timeout=PATIENCE_S)[1]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    if box.server and box.server.poll() is None:
        box.stop()


def made(box: Box, *words: str, **environ: str) -> str:
    answer = box.run("keys", "create", *words, **environ)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("rok_")
    return answer.stdout.strip()


def test_from_the_first_key_to_a_revoked_one(box: Box) -> None:
    """The first key is made in the database; then it makes, lists and revokes others through who serves from it."""
    root = {"ORCHESTRATOR_API_KEY": made(box, "root", "--scope", "all")}
    box.serve()
    file = box.folder / "clinic.key"
    file.write_text(made(box, "clinic-a", "--scope", "tasks:submit", "--scope", "tasks:read", **root) + "\n")
    clinic = {"ORCHESTRATOR_API_KEY_FILE": str(file)}

    assert json.loads(box.run("submit", **box.url).stdout)["code"] == "E_UNAUTHENTICATED"
    accepted = box.run("submit", **box.url, **clinic)
    assert accepted.returncode == 0, accepted.stdout
    task_id = json.loads(accepted.stdout)["task_id"]
    assert json.loads(box.run("task", task_id, **box.url, **clinic).stdout)["status"] == "queued"
    refused = box.run("keys", "list", **clinic)
    assert (refused.returncode, json.loads(refused.stdout)["code"]) == (1, "E_FORBIDDEN")

    listed = box.run("keys", "list", **root).stdout
    assert "clinic-a" in listed
    assert file.read_text().strip().rsplit("_", 1)[1] not in listed
    key_id = file.read_text().split("_")[1]
    assert box.run("keys", "revoke", key_id, **root).returncode == 0
    assert json.loads(box.run("submit", **box.url, **clinic).stdout)["code"] == "E_UNAUTHENTICATED"
    assert "rok_" not in box.stop()

    assert "root" in box.run("keys", "list").stdout
    assert box.run("keys", "revoke", root["ORCHESTRATOR_API_KEY"].split("_")[1]).returncode == 0
    assert box.run("audit", "verify").returncode == 0


def test_with_an_encrypted_database(box: Box) -> None:
    """All that opens it does so with its key: tables, keys, a backup that is put back."""
    (box.folder / "encryption-key").write_text("ab" * 32)
    box.environ["ORCHESTRATOR_STORAGE_ENCRYPTION_KEY_FILE"] = str(box.folder / "encryption-key")
    root = {"ORCHESTRATOR_API_KEY": made(box, "root", "--scope", "all")}
    box.serve()
    assert box.run("submit", **box.url, **root).returncode == 0
    box.stop()
    commands = (
        ("tables",),
        ("keys", "list"),
        ("backup", "copy.db"),
        ("restore", "copy.db"),
        ("keys", "create", "x", "--scope", "all"),
    )
    for command in commands:
        done = box.run(*command)
        assert done.returncode == 0, done.stderr
    key = box.environ.pop("ORCHESTRATOR_STORAGE_ENCRYPTION_KEY_FILE")
    for command in (("tables",), ("keys", "list")):
        done = box.run(*command)
        assert (done.returncode, len(done.stderr.splitlines())) == (69, 1), done.stderr
        assert key not in done.stderr


def test_what_goes_wrong_is_one_line(box: Box) -> None:
    """An unknown key, a file that is not there, a database that forgets: an exit code and a line, no traceback."""
    gone = box.run("keys", "revoke", "0" * 16)
    assert (gone.returncode, gone.stderr) == (1, "orchestrator: There is no such key.\n")
    url = {"ORCHESTRATOR_URL": "http://127.0.0.1:1"}
    missing = box.run("keys", "list", ORCHESTRATOR_TOKEN_FILE=str(box.folder / "none"), **url)
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)
    memory = box.run("keys", "list", DATABASE_URL="memory://")
    assert (memory.returncode, len(memory.stderr.splitlines())) == (2, 1)
    assert box.run("keys", "create", "x", "--scope", "everything").returncode == 2


def test_erasing(box: Box) -> None:
    """Needs the scope operate; says how many tasks; the file holds nothing of them afterwards. One must be named."""
    operator, client = made(box, "root", "--scope", "all"), made(box, "clinic-a", "--scope", "tasks:submit")
    box.serve()
    answer = box.run("submit", **box.url, ORCHESTRATOR_API_KEY=client)
    task_id = json.loads(answer.stdout)["task_id"]
    assert box.run("erase", "--task", task_id, **box.url, ORCHESTRATOR_API_KEY=client).returncode == 1
    for erased in (1, 0):
        answer = box.run("erase", "--case", CASE, **box.url, ORCHESTRATOR_API_KEY=operator)
        assert (answer.returncode, json.loads(answer.stdout)["erased"]) == (0, erased), answer.stderr
    status = json.loads(box.run("task", task_id, **box.url, ORCHESTRATOR_API_KEY=operator).stdout)
    assert (status["status"], status["erased"]) == ("cancelled", True)
    held = b"".join(file.read_bytes() for file in box.folder.glob("ledger.db*"))
    assert CANARY.encode() not in held
    assert box.run("erase", **box.url).returncode == 2
    assert box.run("audit", "verify").returncode == 0


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"ORCHESTRATOR_WEB_HOST": "::1", "ORCHESTRATOR_WEB_PORT": "1"}, "http://[::1]:1"),
        ({"ORCHESTRATOR_WEB_TLS_CERTIFICATE_FILE": "c.pem", "ORCHESTRATOR_WEB_PORT": "1"}, "https://127.0.0.1:1"),
    ],
)
def test_whoever_serves_from_the_database_is_asked_there(box: Box, environ: dict[str, str], url: str) -> None:
    """By the scheme that the settings say, and at any address."""
    box.serve()
    answer = box.run("keys", "list", **environ)
    assert (answer.returncode, answer.stderr.split(" (")[0]) == (69, f"orchestrator: no orchestrator answers at {url}")
