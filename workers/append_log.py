"""A file of JSON lines that only grows and holds what it said it holds."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any


class AppendLog:
    """Opened by one process at a time; entries are on the disk when `append` returns. Not for several threads at once.

    A last line that a crash cut short was never promised to anybody: it is cut off when the file is opened.
    Raises OSError if another process has it open, ValueError if a whole line is not JSON.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - it stays open as long as this lives
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.entries = self._load()
        except BaseException:
            self._file.close()
            raise
        self._sync_folder(path)

    def append(self, entry: dict[str, Any]) -> None:
        """Writes `entry` and flushes it to the disk. Raises OSError; what it wrote of the line is then taken back."""
        end = os.fstat(self._file.fileno()).st_size
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError("the disk took only a part of the line")
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)
            raise

    def close(self) -> None:
        """Closes the file. Twice is safe."""
        self._file.close()

    def _load(self) -> list[dict[str, Any]]:
        self._file.seek(0)
        whole, newline, _cut_short = self._file.read().rpartition(b"\n")
        self._file.truncate(len(whole) + len(newline))
        return [json.loads(line) for line in whole.split(b"\n") if line]

    def _sync_folder(self, path: Path) -> None:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
