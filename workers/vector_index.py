"""The nearest neighbours among the vectors seen so far, by brute force: some milliseconds for tens of thousands."""

from pathlib import Path
from threading import Lock

import numpy as np

from orchestrator.workers.append_log import AppendLog
from orchestrator.workers.image_vector import SIZE, Vector, unit
from orchestrator.workers.task import Permanent

MAX_ENTRIES = 50_000
"""About 100 MB of vectors."""


class VectorIndex:
    """Keys and their unit vectors, in memory and, with a path, in a file that only grows. Safe for several threads.

    The last vector of a key counts. A repeat of what is there writes nothing.
    """

    def __init__(self, path: Path | None = None, max_entries: int = MAX_ENTRIES) -> None:
        self._lock = Lock()
        self._max_entries = max_entries
        self._rows: dict[str, int] = {}
        self._matrix: Vector = np.empty((64, SIZE))
        self._log = None if path is None else AppendLog(path)
        for entry in self._log.entries if self._log else []:
            self._put(entry["key"], np.asarray(entry["vector"], dtype=np.float64))

    def __repr__(self) -> str:
        return f"<VectorIndex {len(self._rows)}/{self._max_entries}>"

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, key: str, vector: Vector, count: int = 5) -> list[tuple[str, float]]:
        """Stores `vector` under `key`; returns up to `count` of the others with their cosine, the nearest first.

        Raises Permanent when the index is full, OSError when it could not be written.
        """
        direction = unit(vector)
        with self._lock:
            if key not in self._rows and len(self._rows) >= self._max_entries:
                raise Permanent(f"the index is full ({self._max_entries} entries)")
            neighbours = self._nearest(key, direction, count)
            known = self._rows.get(key)
            if known is None or not np.array_equal(self._matrix[known], direction):
                if self._log:
                    self._log.append({"key": key, "vector": direction.tolist()})
                self._put(key, direction)
        return neighbours

    def close(self) -> None:
        """Closes the file, if there is one. Twice is safe."""
        if self._log:
            self._log.close()

    def _nearest(self, key: str, direction: Vector, count: int) -> list[tuple[str, float]]:
        cosines = self._matrix[: len(self._rows)] @ direction
        ranked = sorted(zip(self._rows, cosines.tolist(), strict=True), key=lambda pair: -pair[1])
        return [(other, cosine) for other, cosine in ranked[: count + 1] if other != key][:count]

    def _put(self, key: str, direction: Vector) -> None:
        row = self._rows.setdefault(key, len(self._rows))
        if row == len(self._matrix):
            self._matrix = np.concatenate([self._matrix, np.empty_like(self._matrix)])
        self._matrix[row] = direction
