"""Tasks as they were when this process saw them become ready: who dispatches them soon need not read them again.

A copy is no more than a read that was made a moment ago: a lease of one that is out of date is refused by the ledger.
"""

from msgspec.json import Encoder

from orchestrator.storage.commands import TaskRecord

_encode = Encoder().encode
MOST_BYTES = 16 * 2**20
PER_TASK = 2_048
"""What a task takes in memory beside its payload and meta, about, in bytes."""
OLD_S = 60.0
"""A copy that is older makes room: another replica may have its task."""


class AtHand:
    """Bounded; who comes first stays, since tasks are dispatched in about that order. One for a process."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._held = most_bytes, 0
        self._copies: dict[str, tuple[TaskRecord, int]] = {}

    def keep(self, record: TaskRecord) -> None:
        """A task is ready: kept where there is room."""
        task = record.task
        if task.task_id in self._copies:
            self.drop(task.task_id)
        if not self._makes_room(PER_TASK, record.updated_at):
            # However small it is, so that it need not be measured: so it goes where more is accepted than is done.
            return
        size = PER_TASK + len(_encode((task.payload, task.meta)))
        if self._makes_room(size, record.updated_at):
            self._held += size
            self._copies[task.task_id] = (record, size)

    def _makes_room(self, size: int, now: float) -> bool:
        """Whether there is room for so many bytes, once the copies are gone that are old by `now`."""
        while self._held + size > self._most and self._copies:
            oldest = next(iter(self._copies.values()))[0]
            if oldest.updated_at + OLD_S > now:
                return False
            self.drop(oldest.task.task_id)
        return size <= self._most

    def drop(self, task_id: str) -> None:
        """It is not as it was any more, or may not be."""
        _, size = self._copies.pop(task_id, (None, 0))
        self._held -= size

    def find(self, task_id: str) -> TaskRecord | None:
        """The task, if it is here."""
        copy = self._copies.get(task_id)
        return None if copy is None else copy[0]
