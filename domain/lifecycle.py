"""The life of a task: one table of transitions, and what each changes.

A transition that the table does not hold raises IllegalTransition, which names both ends.
"""

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

MAX_LOST_LEASES = 3


class State(StrEnum):
    """The public names of a task's states."""

    QUEUED = "queued"
    LEASED = "leased"
    RETRY_WAIT = "retry_wait"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DENIED = "denied"

    @property
    def final(self) -> bool:
        return self not in UNFINISHED

    @property
    def withdrawn(self) -> bool:
        """Whether it ended by no word of an agent: from then on nobody is to see what it held."""
        return self in WITHDRAWN


UNFINISHED = (State.QUEUED, State.LEASED, State.RETRY_WAIT)
WITHDRAWN = (State.CANCELLED, State.EXPIRED, State.DENIED)


class Step(StrEnum):
    """What can happen to a task; the audit's events bear the same names."""

    LEASE = "leased"
    MOVE = "moved"
    EXTEND = "extended"
    SUCCEED = "succeeded"
    RETRY = "retry_scheduled"
    GIVE_UP = "dead"
    GIVE_BACK = "given_back"
    LOSE = "lease_lost"
    COME_DUE = "due"
    CANCEL = "cancelled"
    EXPIRE = "expired"
    DENY = "denied"


_ENDS = {Step.CANCEL: State.CANCELLED, Step.EXPIRE: State.EXPIRED, Step.DENY: State.DENIED}

TRANSITIONS: dict[State, dict[Step, State]] = {
    State.QUEUED: {Step.LEASE: State.LEASED, Step.COME_DUE: State.QUEUED, **_ENDS},
    State.LEASED: {
        Step.MOVE: State.LEASED,
        Step.EXTEND: State.LEASED,
        Step.SUCCEED: State.SUCCEEDED,
        Step.RETRY: State.RETRY_WAIT,
        Step.GIVE_UP: State.DEAD,
        Step.GIVE_BACK: State.QUEUED,
        Step.LOSE: State.QUEUED,
        **_ENDS,
    },
    State.RETRY_WAIT: {Step.COME_DUE: State.QUEUED, **_ENDS},
    State.SUCCEEDED: {},
    State.DEAD: {},
    State.CANCELLED: {},
    State.EXPIRED: {},
    State.DENIED: {},
}


class IllegalTransition(Exception):
    """There is no such step from this state."""

    def __init__(self, state: State, step: Step) -> None:
        super().__init__(f"no step {step.value!r} from state {state.value!r}")


class Progress(Struct, frozen=True):
    """All of a task that changes. Times are in seconds since the epoch.

    `attempt` counts leases and fences results; `failures` counts the attempts that used up a retry; `lost` the leases
    whose holder vanished. `due_at` is when a waiting task becomes ready; None is now. `tried` are agents that failed.
    `owner` holds the lease, or ended it by a result and no new one has begun: who gives a result twice is known by it.
    """

    state: State = State.QUEUED
    attempt: int = 0
    failures: int = 0
    lost: int = 0
    due_at: float | None = None
    agent_id: str | None = None
    owner: str | None = None
    lease_until: float | None = None
    tried: tuple[str, ...] = ()
    reason: str | None = None

    def _step(self, step: Step) -> "Progress":
        try:
            state = TRANSITIONS[self.state][step]
        except KeyError:
            raise IllegalTransition(self.state, step) from None
        return replace(self, state=state, due_at=None, owner=None, lease_until=None, reason=None)

    def lease(self, agent_id: str, owner: str, until: float, step: Step = Step.LEASE) -> "Progress":
        """A new attempt by `agent_id`, held by `owner` until `until`; with Step.MOVE straight from another agent."""
        leased = self._step(step)
        return replace(leased, attempt=self.attempt + 1, agent_id=agent_id, owner=owner, lease_until=until)

    def extend(self, until: float) -> "Progress":
        """The same lease of the same attempt, until later."""
        return replace(self._step(Step.EXTEND), owner=self.owner, lease_until=until)

    def succeed(self) -> "Progress":
        return replace(self._step(Step.SUCCEED), owner=self.owner)

    def fail(self, reason: str, *, retryable: bool, max_retries: int, due_at: float) -> tuple[Step, "Progress"]:
        """After a failed attempt: waits until `due_at`; dead when `max_retries` are used up or it is no use."""
        again = retryable and self.failures < max_retries
        step = Step.RETRY if again else Step.GIVE_UP
        failed = replace(self._step(step), failures=self.failures + 1, tried=self._with_tried())
        failed = replace(failed, owner=self.owner, reason=reason)
        return step, replace(failed, due_at=due_at) if again else failed

    def give_back(self, reason: str) -> "Progress":
        """The attempt did not take place, or was broken off by us: nothing is counted."""
        return replace(self._step(Step.GIVE_BACK), reason=reason)

    def lose(self) -> tuple[Step, "Progress"]:
        """The holder of the lease vanished: queued again, dead after three times."""
        lost = self.lost + 1
        step = Step.LOSE if lost < MAX_LOST_LEASES else Step.GIVE_UP
        return step, replace(self._step(step), lost=lost, reason="lease_lost")

    def come_due(self) -> "Progress":
        return self._step(Step.COME_DUE)

    def end(self, step: Step, reason: str | None = None) -> "Progress":
        """Cancelled, expired or denied."""
        return replace(self._step(step), reason=reason)

    def _with_tried(self) -> tuple[str, ...]:
        return self.tried if self.agent_id is None or self.agent_id in self.tried else (*self.tried, self.agent_id)


NEW = Progress()
"""A task that is ready from the start."""


def diagram() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> queued: accepted"]
    for state, steps in TRANSITIONS.items():
        lines += [f"    {state.value} --> {target.value}: {step.value}" for step, target in steps.items()]
        if not steps:
            lines.append(f"    {state.value} --> [*]")
    return "\n".join(lines)
