"""Exit codes: each is documented, told by the help, and what the program really ends with."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import serving
from orchestrator.cli.exit_codes import EXIT_CODES

DOCS = (Path(__file__).parents[1] / "docs" / "operations.md").read_text("utf-8")


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator", *words]
    own = os.environ | environ
    return subprocess.run(command, env=own, capture_output=True, text=True, timeout=60, check=False)


def test_every_code_is_documented() -> None:
    """The page for operators has a row for each code that there is, and the help a line."""
    table = DOCS.partition("## Exit codes")[2].partition("##")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)] == list(EXIT_CODES)
    shown = run("--help").stdout
    for code, words in EXIT_CODES.items():
        assert re.search(rf"^ +{code} +{re.escape(words)}$", shown, re.MULTILINE), code


def test_the_service_ends_with_no_others() -> None:
    """Whatever ends the process, its code is one of the table."""
    assert set(serving.EXIT_CODES.values()) | {serving.EXIT_GAVE_UP} <= set(EXIT_CODES)


@pytest.mark.parametrize(
    ("words", "environ", "code"),
    [
        (("settings",), {}, 0),
        (("doctor",), {"DATABASE_URL": "mysql://host/db"}, 1),
        (("doctor",), {"DATABASE_URL": "postgresql://u:canary@127.0.0.1:99999/db"}, 1),
        (("doctor",), {"DATABASE_URL": "memory://", "REDIS_URL": "redis://:canary@127.0.0.1:no/0"}, 1),
        (("nonsense",), {}, 2),
        (("task", "task-1", "--nonsense"), {}, 2),
        (("settings",), {"ORCHESTRATOR_WEB_PORT": "many"}, 2),
        (("audit", "verify"), {"DATABASE_URL": "sqlite:////nowhere/at/all.db"}, 69),
        (("queues", "--url", "http://127.0.0.1:1"), {}, 69),
    ],
)
def test_how_commands_end(words: tuple[str, ...], environ: dict[str, str], code: int) -> None:
    """As the table says, without a traceback or a password. Damage, the actors' end and the like are in `faults`."""
    ended = run(*words, **environ)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout
    assert "canary" not in ended.stderr + ended.stdout


def test_an_export_that_cannot_be_written(tmp_path: Path) -> None:
    """Is 69, even where there is nothing to write; where it can be, there is a file."""
    empty = {"DATABASE_URL": f"sqlite:///{tmp_path}/ledger.db"}
    assert run("tables", **empty).returncode == 0
    ended = run("audit", "export", "--output", str(tmp_path / "nowhere" / "file"), **empty)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (69, 1), ended.stderr
    assert run("audit", "export", "--output", str(tmp_path / "file"), **empty).returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Is damage: 65."""
    file = tmp_path / "ledger.db"
    file.write_bytes(b"not a database at all, but long enough to look at" * 100)
    ended = run("audit", "verify", DATABASE_URL=f"sqlite:///{file}")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (65, 1), ended.stderr
