"""Everything as an operator does it: a real process that signs, and the verifiers on what it left behind."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from served_at import url_said
from signed_trail import KEY, ROOT, SCRIPT, SIGNER, VECTORS

from orchestrator.domain.audit import AuditEntry

PATIENCE_S = 60
SCRIPT_FILE = ROOT / "scripts" / "verify_audit.py"


class Box:
    """A database with a signed trail, and the answers that clients kept."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.database = folder, folder / "ledger.db"
        (folder / "audit-key.pem").write_text(KEY)
        (folder / "audit-key.pub").write_text(SIGNER.public_key)
        self.environ = {
            **os.environ,
            "DATABASE_URL": f"sqlite:///{self.database}",
            "ORCHESTRATOR_AUDIT_SIGNING_KEY_FILE": str(folder / "audit-key.pem"),
        }

    def serve(self, tasks: int) -> None:
        """Takes so many tasks, ends in order, and keeps the answers, and what the log tells of checkpoints."""
        server = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "serve", "--port", "0"],
            env=self.environ, cwd=self.folder, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert server.stderr
            url = url_said(server)
            with (self.folder / "answers.ndjson").open("ab") as answers:
                for number in range(tasks):
                    task = {"case_id": f"case-{number}", "task_type": "embed", "payload": {}}
                    request = urllib.request.Request(  # noqa: S310 - our own address
                        f"{url}/route_task", json.dumps(task).encode(), {"Content-Type": "application/json"}
                    )
                    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
                        answers.write(answer.read() + b"\n")
        finally:
            server.send_signal(signal.SIGTERM)
            _, log = server.communicate(timeout=PATIENCE_S)
        assert server.returncode == 0
        with (self.folder / "checkpoints.ndjson").open("a") as kept:
            kept.writelines(line for line in log.splitlines(True) if '"checkpoint_signed"' in line)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            env=self.environ, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip

    def by_command(self, *words: str) -> tuple[int, str]:
        done = self.run("-m", "orchestrator", "audit", "verify", *words)
        return done.returncode, done.stdout + done.stderr

    def by_script(self, *words: str) -> tuple[int, str]:
        """Without anything but the standard library: `-I -S` keeps even installed packages out."""
        exported = self.run("-m", "orchestrator", "audit", "export", "--output", "trail.ndjson")
        assert exported.returncode == 0, exported.stderr
        done = self.run("-I", "-S", str(SCRIPT_FILE), "trail.ndjson", *words)
        return done.returncode, done.stdout + done.stderr

    def rewrite(self, *statements: str, rehash: bool = False) -> None:
        """As somebody does who owns the file: without triggers, and with all hashes and the head made to fit."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {trigger}")
            for statement in statements:
                connection.execute(statement)
            before = SCRIPT.GENESIS
            columns = ", ".join(SCRIPT.FIELDS)
            for row in connection.execute(f"SELECT {columns} FROM audit_entries ORDER BY seq").fetchall():
                entry = dict(zip(SCRIPT.FIELDS, row, strict=True))
                if rehash:
                    entry["prev_hash"] = before
                    entry["entry_hash"] = SCRIPT.entry_hash(entry)
                before = entry["entry_hash"]
                hashes = (entry["prev_hash"], before, entry["seq"])
                connection.execute("UPDATE audit_entries SET prev_hash = ?, entry_hash = ? WHERE seq = ?", hashes)
                connection.execute("UPDATE audit_heads SET seq = ?, entry_hash = ?", (entry["seq"], before))


@pytest.fixture
def box(tmp_path: Path) -> Box:
    made = Box(tmp_path)
    made.serve(5)
    return made


AGAINST = ("--against", "answers.ndjson")
BY_KEY = ("--public-key", "audit-key.pub")


def test_what_is_found(box: Box) -> None:
    """A trail holds; its end cut off is found by receipts alone; history rewritten, by a signature or a receipt."""
    for verifier in (box.by_command, box.by_script):
        code, words = verifier(*AGAINST, *BY_KEY)
        assert code == 0, words
        assert "main: 6 entries, 5 of them signed" in words
    box.rewrite("DELETE FROM audit_entries WHERE seq > 3")
    for verifier in (box.by_command, box.by_script):
        assert verifier(*BY_KEY)[0] == 0
        code, words = verifier(*AGAINST)
        assert code == 1
        assert words.startswith("audit-main-4: the receipt answers.ndjson:4 testifies to this entry")
    # Grown again, so that there are as many entries as before.
    box.serve(2)
    assert box.by_command(*BY_KEY)[0] == 0
    code, words = box.by_command(*AGAINST)
    assert code == 1
    assert "audit-main-4: the receipt answers.ndjson:4 testifies to another entry here: history was rewritten" in words


def test_database_of_yesterday(box: Box) -> None:
    """Put back as it was, it holds, and its own clock says nothing against it.

    What today wrote lies elsewhere, and finds it: any answer, any checkpoint that the log told of, any later export.
    """
    yesterday = {file: file.read_bytes() for file in box.folder.glob("ledger.db*")}
    box.serve(3)
    for kept in ("answers.ndjson", "checkpoints.ndjson"):
        assert box.by_script("--against", kept, *BY_KEY)[0] == 0
    (box.folder / "trail.ndjson").rename(box.folder / "later.ndjson")
    for file in box.folder.glob("ledger.db*"):
        file.unlink()
    for file, content in yesterday.items():
        file.write_bytes(content)
    for verifier in (box.by_command, box.by_script):
        assert verifier(*BY_KEY)[0] == 0
        for kept in ("answers.ndjson", "checkpoints.ndjson", "later.ndjson"):
            code, words = verifier("--against", kept, *BY_KEY)
            assert (code, "the end was cut off" in words) == (1, True), kept


def test_history_rewritten(box: Box) -> None:
    """With every hash made anew the chain holds; the signature, and each receipt from there on, does not."""
    box.rewrite("UPDATE audit_entries SET case_id = 'another' WHERE seq = 2", rehash=True)
    for verifier in (box.by_command, box.by_script):
        code, words = verifier()
        assert code == 1
        assert "audit-main-5: the checkpoint audit-main-6 testifies to another entry here" in words
        code, words = verifier(*AGAINST)
        assert [f"audit-main-{seq}: the receipt" in words for seq in (1, 2, 3, 4, 5)] == [False, True, True, True, True]


@pytest.mark.parametrize("name", ["trail.ndjson", "cut_trail.ndjson"])
def test_vectors(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The script reads the kept trails from their files, with all that testifies to them."""
    evidence = ["--against", str(VECTORS / "receipts.ndjson"), "--public-key", str(VECTORS / "public_key.pem")]
    assert SCRIPT.main([str(VECTORS / name), *evidence]) == 0
    assert ("were removed" in capsys.readouterr().out) == (name == "cut_trail.ndjson")


def test_form_in_the_documentation() -> None:
    """Who writes a verifier by docs/audit.md hashes all the fields there are, in their order."""
    page = (ROOT / "docs" / "audit.md").read_text("utf-8")
    found = re.search(r"one JSON object with the fields `([^`]*)`", page)
    assert found is not None
    assert re.split(r",\s+", found[1]) == SCRIPT.FIELDS == list(AuditEntry.__struct_fields__)


@pytest.mark.parametrize("option", ["--against", "--public-key"])
@pytest.mark.parametrize("text", ["not what it should be\n", "", "\n"], ids=["other", "empty", "blank"])
def test_file_that_is_no_evidence(tmp_path: Path, option: str, text: str) -> None:
    """One line and exit code 2, from both: nobody should believe that something was checked."""
    (tmp_path / "trail.ndjson").write_bytes((VECTORS / "trail.ndjson").read_bytes())
    (tmp_path / "bad").write_text(text)
    for words in (
        ["-m", "orchestrator", "audit", "verify", option, "bad"],
        ["-I", "-S", str(SCRIPT_FILE), "trail.ndjson", option, "bad"],
    ):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 2, done
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_any_garbage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is in the files, the script comes to a verdict; only what was written is a trail that holds."""
    whole = (VECTORS / "trail.ndjson").read_bytes()
    chance, file = Random(7), tmp_path / "trail"
    verdicts = {0: 0, 1: 0, 2: 0}
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 30))):
            place = chance.randrange(len(damaged))
            match chance.randrange(4):
                case 0:
                    damaged[place] ^= 1 << chance.randrange(8)
                case 1:
                    del damaged[place : place + chance.randrange(1, 400)]
                case 2:
                    damaged[place:place] = chance.randbytes(3)
                case _:
                    damaged[place:place] = damaged[: chance.randrange(600)]
        file.write_bytes(damaged)
        code = SCRIPT.main([str(file), "--against", str(VECTORS / "receipts.ndjson")])
        verdicts[code] += 1
        written = [json.loads(line) for line in whole.splitlines()]
        if code == 0:
            assert [json.loads(line) for line in bytes(damaged).splitlines() if line.strip()] == written
    capsys.readouterr()
    assert min(verdicts[1], verdicts[2]) > 20
