"""The leases of pull agents: whose they are by their owner's name, and how many each agent holds.

An owner is `call/<boot>/<actor>` for a call of ours, which ends with us, or `pull/<agent>/<nonce>` for an agent that
took the task, which goes on working whatever becomes of us.
"""

from collections.abc import Callable, Iterable
from hmac import compare_digest
from math import inf

from msgspec import Struct

from orchestrator.domain.lifecycle import Progress, State
from orchestrator.storage.commands import TaskRecord

CALLED = "call/"
PULLED = "pull/"
MARGIN_S = 2.0
"""How much longer a lease stands in the ledger than its agent is told, so that a last extension comes in time."""
FORGOTTEN_S = 600.0
"""How long after its time a lease is remembered whose end nobody here has seen: its end may be written late."""


class Hold(Struct, frozen=True):
    """What an agent shows for a task: the attempt, and the lease's nonce, which only who took the task knows."""

    agent_id: str
    attempt: int
    nonce: str

    @property
    def owner(self) -> str:
        """The owner's name in the ledger."""
        return f"{PULLED}{self.agent_id}/{self.nonce}"

    def fits(self, progress: Progress) -> bool:
        """Whether the task's last attempt is the one of this hold, leased still or ended by its result."""
        owner = (progress.owner or "").encode()
        return progress.attempt == self.attempt and compare_digest(owner, self.owner.encode())


def is_pulled(progress: Progress) -> bool:
    """Whether a pull agent has the task now."""
    return progress.state is State.LEASED and (progress.owner or "").startswith(PULLED)


class Change(Struct, frozen=True):
    """An agent has a task more or less, or has it for longer; `lasted`: the attempt is over, after so many seconds."""

    agent_id: str
    attempt: int
    lasted: float | None = None


class _Held(Struct, frozen=True):
    agent_id: str
    attempt: int
    until: float
    since: float


class PullLeases:
    """Which tasks pull agents have: read once, then kept by what is committed. One for a process, on its event loop.

    What other replicas commit is not seen here: of their leases, and of ours that they end, only the time is known.
    """

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._until: dict[str, dict[str, float]] = {}
        """Of each agent that has any: its tasks, and until when."""
        self.loaded = False

    def __len__(self) -> int:
        return len(self._held)

    def load(self, records: Iterable[TaskRecord]) -> None:
        """What the ledger held at the start."""
        for record in records:
            self.committed(record)
        self.loaded = True

    def committed(self, record: TaskRecord) -> Change | None:
        """A task changed, or was read; what that means for the agent that has it or had it. Twice is safe."""
        task_id, progress, now = record.task.task_id, record.progress, record.updated_at
        before = self._take(task_id)
        if not is_pulled(progress):
            return None if before is None else Change(before.agent_id, before.attempt, max(0.0, now - before.since))
        same = before is not None and before.attempt == progress.attempt
        since = before.since if before is not None and same else now
        agent_id, until = progress.agent_id or "", progress.lease_until
        self._forget(now)
        held = self._held[task_id] = _Held(agent_id, progress.attempt, inf if until is None else until, since)
        self._until.setdefault(agent_id, {})[task_id] = held.until
        return Change(agent_id, progress.attempt)

    def count(self, agent_id: str, now: Callable[[], float]) -> int:
        """How many tasks the agent has at `now`, in seconds since the epoch."""
        tasks = self._until.get(agent_id)
        # The time is asked for only where there are some: an agent that is called has none, at each of its calls.
        if not tasks:
            return 0
        at = now()
        return sum(at < until for until in tasks.values())

    def _take(self, task_id: str) -> _Held | None:
        held = self._held.pop(task_id, None)
        if held is not None:
            tasks = self._until[held.agent_id]
            del tasks[task_id]
            if not tasks:
                del self._until[held.agent_id]
        return held

    def _forget(self, now: float) -> None:
        """Those that were written first and are long over: another replica saw their end."""
        while self._held and next(iter(self._held.values())).until + FORGOTTEN_S < now:
            self._take(next(iter(self._held)))
