"""A journal of notes: numbered lines in a file, one for a task however often it comes."""

from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from orchestrator.workers.append_log import AppendLog

SUMMARY = 120
"""Characters of a note that are kept."""


class Journal:
    """Opened by one process at a time. Safe for several threads."""

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        self._log = AppendLog(path)
        self._numbers: dict[str, int] = {entry["task_id"]: entry["seq"] for entry in self._log.entries}

    def write(self, task_id: str, case_id: str, note: str) -> tuple[int, bool]:
        """The sequence number (from 1) of the task's line, and whether it was written now. On the disk when it returns.

        Raises OSError; then nothing was written.
        """
        with self._lock:
            known = self._numbers.get(task_id)
            if known is not None:
                return known, False
            seq = len(self._numbers) + 1
            summary = " ".join(note.split())[:SUMMARY]
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._log.append({"seq": seq, "at": at, "task_id": task_id, "case_id": case_id, "summary": summary})
            self._numbers[task_id] = seq
            return seq, True

    def close(self) -> None:
        """Closes the file. Twice is safe."""
        self._log.close()
