import errno
import json
import os
from pathlib import Path

import pytest

from orchestrator.workers.append_log import AppendLog
from orchestrator.workers.journal import Journal


def test_a_line_cut_short_by_a_crash(tmp_path: Path) -> None:
    """At the next opening it is cut off, the whole ones stay, and the next line starts cleanly."""
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2}\n{"n": ')
    log = AppendLog(path)
    assert log.entries == [{"n": 1}, {"n": 2}]
    log.append({"n": 3})
    log.close()
    log.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_two_processes_on_one_file(tmp_path: Path) -> None:
    """The second opening is refused, and the first one goes on."""
    log = AppendLog(tmp_path / "log.jsonl")
    with pytest.raises(OSError, match="unavailable"):
        AppendLog(tmp_path / "log.jsonl")
    log.append({"n": 1})
    log.close()
    log = AppendLog(tmp_path / "log.jsonl")
    assert log.entries == [{"n": 1}]
    log.close()


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    """A whole line that is not JSON stops the opening; nothing is overwritten."""
    path = tmp_path / "log.jsonl"
    path.write_text("precious\n")
    with pytest.raises(ValueError, match="Expecting"):
        AppendLog(path)
    assert path.read_text() == "precious\n"


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that could not be flushed is taken back, and the same task writes it later with the same number."""
    journal = Journal(tmp_path / "journal.jsonl")

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            journal.write("task-1", "case-1", "a note")
    assert (tmp_path / "journal.jsonl").read_bytes() == b""
    assert journal.write("task-1", "case-1", "a note") == (1, True)
    journal.close()


def test_the_journal(tmp_path: Path) -> None:
    """Lines are numbered from 1 on, over restarts; a repeated task gets its first number and writes nothing."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    assert journal.write("task-1", "case-1", "first\n  note " + "x" * 200) == (1, True)
    assert journal.write("task-2", "case-1", "second") == (2, True)
    assert journal.write("task-1", "case-1", "first again") == (1, False)
    journal.close()
    journal = Journal(path)
    assert journal.write("task-2", "case-1", "second") == (2, False)
    assert journal.write("task-3", "case-2", "third") == (3, True)
    journal.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["seq"], line["task_id"], line["case_id"]) for line in lines] == [
        (1, "task-1", "case-1"),
        (2, "task-2", "case-1"),
        (3, "task-3", "case-2"),
    ]
    assert lines[0]["summary"].startswith("first note xxx")
    assert len(lines[0]["summary"]) == 120
