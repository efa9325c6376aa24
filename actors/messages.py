"""The whole language of the system: every message that one actor may send to another, and what each answers."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Generic, TypeVar

from msgspec import Struct

from orchestrator.actors.pull_leases import Hold
from orchestrator.domain.agent import Agent, AgentView
from orchestrator.domain.audit import Head
from orchestrator.domain.decision import Decision
from orchestrator.domain.discretion import discreet
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.identity import Principal
from orchestrator.domain.task import Priority, TaskRequest
from orchestrator.kernel.reply import Reply, Request
from orchestrator.outbound.ports import Call, Declined, Ending, Succeeded
from orchestrator.storage.commands import Accept, Command, Erased, Outcome, Revoked, TaskRecord

Directory = Mapping[str, AgentView]
"""Every agent by its id, as the registry publishes it: never changed, only replaced."""
R = TypeVar("R")


class Question(Struct, Request[R], Generic[R], frozen=True):
    """A message that is answered with an R."""

    reply: Reply[R]


# To the router.


class Answer(StrEnum):
    """How an accepted task is answered."""

    QUEUED = "queued"
    COMPLETED_SYNC = "completed_sync"
    DUPLICATE = "duplicate"


class Routed(Struct, frozen=True):
    """A task that is on stable storage, how to answer its sender, and the place of its acceptance in the audit."""

    answer: Answer
    record: TaskRecord
    receipt: Head | None


class RouteTask(Question[Routed], frozen=True):
    """Accept a task. Fails with an OrchestratorError; then nothing was stored but, for a refusal, its audit entry."""

    request: TaskRequest
    principal: Principal
    traceparent: str | None = None


class RouteTasks(Question[list[Routed | OrchestratorError]], frozen=True):
    """Accept many tasks with one commit; none of them runs synchronously. Each is answered for itself, in their order.

    Fails as a whole with an OrchestratorError where the commit cannot be confirmed.
    """

    requests: Sequence[TaskRequest]
    principal: Principal
    traceparent: str | None = None


class ExplainTask(Question[Decision], frozen=True):
    """Decide, and store and send nothing."""

    request: TaskRequest
    principal: Principal


class WithdrawConsent(Question[Revoked], frozen=True):
    """A consent holds no more, for ever: deny all unfinished tasks that name it. Twice is safe."""

    consent_id: str
    principal: Principal


class EraseTasks(Question[Erased], frozen=True):
    """Destroy what the task of that id, or every task of that case, holds. Twice is safe. Fails with NotFound."""

    principal: Principal
    task_id: str | None = None
    case_id: str | None = None


class CancelTask(Question[TaskRecord], frozen=True):
    """End a task of the principal's that is not finished. Fails with NotFound or AlreadyFinished."""

    task_id: str
    principal: Principal


class ReplayTask(Question[Routed], frozen=True):
    """Make a new task of a dead one of the principal's, decided anew. Twice gives the same new task.

    Fails with NotFound or NotDead.
    """

    task_id: str
    principal: Principal


RouterMessage = RouteTask | WithdrawConsent | EraseTasks | RouteTasks | ExplainTask | CancelTask | ReplayTask


# To the audit writer.


class Commit(Question[list[Outcome]], frozen=True):
    """Apply commands in one transaction, each with its audit entry; one that is bad fails alone.

    Answered when all is on stable storage, with an outcome for each; fails with AuditUnavailable.
    """

    commands: Sequence[Command]


# To the registry.


class Register(Question[AgentView], frozen=True):
    """Know this agent from now on. Fails with Forbidden for another than the principal, Overloaded for too many."""

    agent: Agent
    principal: Principal


class Heartbeat(Question[AgentView], frozen=True):
    """The agent lives; `load` is between 0 and 1. Fails with NotFound."""

    agent_id: str
    load: float | None = None


class DrainAgent(Question[AgentView], frozen=True):
    """Send the agent no more work until it registers again; heartbeats do not change that. Fails with NotFound.

    With an audit entry, unless the agent asks for itself.
    """

    agent_id: str
    principal: Principal


class AllowAgent(Question[AgentView], frozen=True):
    """What the agent is now is what it may be, with a right to raw media or none. Fails with NotFound or Forbidden."""

    agent_id: str
    principal: Principal
    raw_media: bool = False


class RemoveAgent(Question[AgentView], frozen=True):
    """Forget the agent; its calls in flight go on. Fails with NotFound."""

    agent_id: str
    principal: Principal


class Wish(Struct, frozen=True):
    """A slot of the first agent of `ranking` that has one free."""

    ranking: tuple[str, ...]
    urgent: bool


class Reserve(Question[list[str | None]], frozen=True):
    """Take a slot for each wish, in their order; None where none is free. `Report` gives a slot back."""

    owner: str
    wishes: Sequence[Wish]


class Heard(Struct, frozen=True):
    """A call ended so (None: it was not made, or says nothing of the agent), `latency` seconds after it began."""

    agent_id: str
    ending: Ending | None
    latency: float = 0.0


class Report(Question[None], frozen=True):
    """The slots of these calls are free again."""

    owner: str
    heard: Sequence[Heard]


class LeasesChanged(Struct, frozen=True):
    """The pull agent has one task more or less than before."""

    agent_id: str


class ReleaseAll(Question[None], frozen=True):
    """Free the slots that a former incarnation of `owner` left behind."""

    owner: str


RegistryMessage = (
    Register | AllowAgent | Heartbeat | DrainAgent | RemoveAgent | Reserve | Report | ReleaseAll | LeasesChanged
)


# To the sync dispatcher.


class Ended(Struct, frozen=True):
    """The attempt ended in time; `record` is the task after it, `receipt` that of its acceptance."""

    record: TaskRecord
    receipt: Head


class Running(Struct, frozen=True):
    """The time is over; the same attempt goes on."""

    record: TaskRecord
    receipt: Head


class NotRun(Struct, frozen=True):
    """No agent had a free slot: nothing was stored."""


class RunSync(Question[Ended | Running | NotRun | Outcome], frozen=True):
    """Store the task of `accept` with its first lease, to the first of the ranking with a free slot, and call."""

    accept: Accept
    decision: Decision


# To the relay.


class TellStream(Struct, frozen=True):
    """The outbox holds something for the stream of this class, or for that of the dead letters (None)."""

    stream: Priority | None


class TasksWithdrawn(Struct, frozen=True):
    """The outbox says of some tasks that no stream may hold them any more."""


RelayMessage = TellStream | TasksWithdrawn


# To the lease desk.


class Granted(Struct, frozen=True):
    """A task that a pull agent has from now on: what it is given, its lease, until when that holds, and the task."""

    call: Call
    hold: Hold
    until: float
    deadline: float


class LeaseTasks(Question[list[Granted]], frozen=True):
    """Give the agent up to `most` tasks as soon as there is one, or that task alone; none after `wait_s` seconds."""

    agent_id: str
    most: int = 1
    wait_s: float = 0.0
    task_id: str | None = None


class Withdraw(Struct, frozen=True):
    """Nobody waits for the answer in `reply` any more: what it gave, or would give, goes back to the queue."""

    reply: Reply[list[Granted]]


class GiveResult(Question[TaskRecord], frozen=True):
    """The attempt ended so. Twice gives the same answer. Fails with NotFound or StaleLease."""

    task_id: str
    hold: Hold
    ending: Succeeded | Declined


class Extended(Struct, frozen=True):
    """Until when the agent may work on the task."""

    record: TaskRecord
    until: float


class ExtendLease(Question[Extended], frozen=True):
    """The agent is still at it, and this far. Without a nonce, from an agent that is called, it only tells that.

    Fails with NotFound or StaleLease.
    """

    task_id: str
    hold: Hold
    done: float | None = None
    note: str | None = None

    __repr__ = discreet


LeaseDeskMessage = LeaseTasks | Withdraw | GiveResult | ExtendLease


# To the janitor.


class WakeAt(Struct, frozen=True):
    """Something comes due at `at`, seconds since the epoch."""

    at: float
