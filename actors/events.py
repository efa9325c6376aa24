"""What the actors tell of themselves. `telemetry.py` turns these facts into metrics and logs; none holds a payload."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from orchestrator.domain.audit import Head
from orchestrator.domain.lifecycle import State
from orchestrator.domain.task import Priority
from orchestrator.kernel.events import KernelEvent


class TaskAccepted(Struct, frozen=True):
    """A task is on stable storage."""

    task_id: str
    task_type: str
    priority: Priority
    queued: bool
    traceparent: str | None = None


class TasksAccepted(Struct, frozen=True):
    """Tasks that were decided together are on stable storage, so many seconds after the first of them was looked at."""

    tasks: Sequence[TaskAccepted]
    seconds: float


class TaskRefused(Struct, frozen=True):
    """A task was not accepted, for the reason of that error code."""

    code: str


class ConsentOverridden(Struct, frozen=True):
    """Somebody broke the glass for this task."""

    task_id: str


class ConsentWithdrawn(Struct, frozen=True):
    """A consent was revoked, and so many tasks were denied for it."""

    denied: int


class TasksErased(Struct, frozen=True):
    """So many tasks were erased."""

    tasks: int


class AuthenticationFailed(Struct, frozen=True):
    """A request showed no valid token, key or certificate. `tell`: it is time for a line in the log again."""

    tell: bool


class SyncAttempted(Struct, frozen=True):
    """A synchronous attempt was `completed`, `failed`, went on after its `timeout`, or was `not_run`."""

    outcome: str


class TaskDispatched(Struct, frozen=True):
    """A task was leased and its call begins, `waited` seconds after it became ready."""

    task_id: str
    task_type: str
    priority: Priority
    attempt: int
    waited: float


class AttemptEnded(Struct, frozen=True):
    """An attempt ended: `succeeded`, or the reason why not; it began `waited` seconds after the task was accepted.

    `pulled`: its agent had asked for the task, and its seconds are those of the lease.
    """

    task_id: str
    outcome: str
    seconds: float
    agent_id: str = ""
    attempt: int = 0
    waited: float = 0.0
    traceparent: str | None = None
    pulled: bool = False


class TaskEnded(Struct, frozen=True):
    """A task reached a final state."""

    task_id: str
    task_type: str
    state: State
    reason: str | None


class AgentChanged(Struct, frozen=True):
    """An agent was registered, removed, drained, ejected, or came back."""

    agent_id: str
    change: str


class BatchCommitted(Struct, frozen=True):
    """The ledger committed a batch of so many commands."""

    commands: int
    seconds: float


class LedgerUnavailable(Struct, frozen=True):
    """The ledger could not be written; `error` is its name for why."""

    error: str


class LedgerBack(Struct, frozen=True):
    """The ledger can be written again."""


class SpaceLow(Struct, frozen=True):
    """The ledger's room is nearly used up: no new work is accepted."""


class SpaceBack(Struct, frozen=True):
    """There is room for new work again."""


class DataRemoved(Struct, frozen=True):
    """Payloads, results, whole tasks or audit entries were removed: they were kept for as long as they should be."""

    payloads: int = 0
    results: int = 0
    tasks: int = 0
    entries: int = 0


class CheckpointSigned(Struct, frozen=True):
    """A signed checkpoint stands at that place of the audit, which holds nothing of a task."""

    place: Head


class RemovalRefused(Struct, frozen=True):
    """The ledger does not let audit entries go that are due; `error` is its name for why."""

    error: str


class StreamsAway(Struct, frozen=True):
    """The streams cannot be reached; work goes on from the ledger. `error` is its name for why."""

    error: str


class StreamsBack(Struct, frozen=True):
    """The streams can be reached again."""


class StreamsToldAgain(Struct, frozen=True):
    """The streams were new or had lost what they held: all that is ready is told to them again."""


class StreamsEvict(Struct, frozen=True):
    """The streams may be thrown away when memory is short, by that policy of their server."""

    policy: str


class CallbacksUnsigned(Struct, frozen=True):
    """Callbacks are due, and nothing is there to sign them with."""


Event = (
    TasksAccepted
    | TaskRefused
    | ConsentOverridden
    | ConsentWithdrawn
    | TasksErased
    | AuthenticationFailed
    | SyncAttempted
    | TaskDispatched
    | AttemptEnded
    | TaskEnded
    | AgentChanged
    | BatchCommitted
    | LedgerUnavailable
    | LedgerBack
    | SpaceLow
    | SpaceBack
    | DataRemoved
    | CheckpointSigned
    | RemovalRefused
    | StreamsAway
    | StreamsBack
    | StreamsToldAgain
    | StreamsEvict
    | CallbacksUnsigned
    | KernelEvent
)
Emit = Callable[[Event], None]
