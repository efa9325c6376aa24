"""Who waits for a task to change. The latest state counts; what is missed is read from the ledger."""

from collections import Counter
from itertools import islice

import anyio
from msgspec import Struct

from orchestrator.domain.discretion import discreet
from orchestrator.domain.lifecycle import State
from orchestrator.storage.commands import TaskRecord

MOST_HEADWAY = 10_000
"""Of how many tasks at most it is kept how far they are."""


class Headway(Struct, frozen=True):
    """How far an attempt is, as its agent tells: `done` from 0 to 1, and a note. Kept in memory only."""

    attempt: int
    done: float | None = None
    note: str | None = None
    agent_id: str = ""

    __repr__ = discreet


class TaskFeed:
    """Told of each change by the composition root; costs nothing for tasks that nobody waits for."""

    def __init__(self) -> None:
        self._events: dict[str, anyio.Event] = {}
        self._waiting: Counter[str] = Counter()
        self._headway: dict[str, Headway] = {}

    def publish(self, record: TaskRecord) -> None:
        """A task changed: wakes all who wait for it."""
        if self._headway and self.headway(record) is None:
            self._headway.pop(record.task.task_id, None)
        self._wake(record.task.task_id)

    def advance(self, task_id: str, headway: Headway) -> None:
        """An attempt got further: wakes all who wait for its task. Of too many, the oldest are forgotten."""
        self._headway.pop(task_id, None)
        self._headway[task_id] = headway
        if len(self._headway) > MOST_HEADWAY:
            del self._headway[next(iter(self._headway))]
        self._wake(task_id)

    def headway(self, record: TaskRecord) -> Headway | None:
        """How far the task's present attempt is, where its agent told this process."""
        known, progress = self._headway.get(record.task.task_id), record.progress
        present = known is not None and progress.state is State.LEASED and progress.attempt == known.attempt
        return known if present else None

    def under_way(self, most: int) -> list[tuple[str, Headway]]:
        """The tasks whose agents told last how far they are, at most so many, the latest at the end."""
        return list(islice(reversed(self._headway.items()), most))[::-1]

    def wake_all(self) -> None:
        """Wakes everybody, whatever they wait for: service ends."""
        for task_id, event in self._events.items():
            event.set()
            self._events[task_id] = anyio.Event()

    def watch(self, task_id: str) -> "Watcher":
        """Changes of `task_id` from now on, inside a `with`."""
        return Watcher(self, task_id)

    def enter(self, task_id: str) -> None:
        self._waiting[task_id] += 1
        self._events.setdefault(task_id, anyio.Event())

    def leave(self, task_id: str) -> None:
        self._waiting[task_id] -= 1
        if not self._waiting[task_id]:
            del self._waiting[task_id]
            del self._events[task_id]

    def event(self, task_id: str) -> anyio.Event:
        return self._events[task_id]

    def _wake(self, task_id: str) -> None:
        event = self._events.get(task_id)
        if event is not None:
            event.set()
            self._events[task_id] = anyio.Event()


class Watcher:
    """Enter it, read the task, then wait for `changed`: nothing in between is missed."""

    def __init__(self, feed: TaskFeed, task_id: str) -> None:
        self._feed, self._task_id = feed, task_id

    def __enter__(self) -> "Watcher":
        self._feed.enter(self._task_id)
        self._event = self._feed.event(self._task_id)
        return self

    def __exit__(self, *_: object) -> None:
        self._feed.leave(self._task_id)

    async def changed(self) -> None:
        """Waits for the next change after the last one seen."""
        await self._event.wait()
        self._event = self._feed.event(self._task_id)
