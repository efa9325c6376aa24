"""The answers given lately, so that a repeated call is answered without running its handler again."""

from collections import OrderedDict

Key = tuple[str, int]
"""A task's id and its attempt."""


class RecentAnswers:
    """The last answers, least recently used out first; bounded in number and in bytes.

    An answer larger than all the room is not kept: its repeat runs again, which the contract allows (at least once).
    """

    def __init__(self, max_entries: int = 256, max_bytes: int = 4 << 20) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._answers: OrderedDict[Key, bytes] = OrderedDict()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<RecentAnswers {len(self._answers)}/{self._max_entries}, {self._bytes}/{self._max_bytes} bytes>"

    def get(self, key: Key) -> bytes | None:
        """The answer to `key`, or None; being asked for keeps it longer."""
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: Key, answer: bytes) -> None:
        """Keeps `answer`, at the cost of the oldest."""
        if len(answer) > self._max_bytes:
            return
        self._bytes += len(answer) - len(self._answers.pop(key, b""))
        self._answers[key] = answer
        while len(self._answers) > self._max_entries or self._bytes > self._max_bytes:
            _, oldest = self._answers.popitem(last=False)
            self._bytes -= len(oldest)
