"""What follows from a commit: whoever should know is told. All of it are hints; the ledger is the truth."""

import contextlib

from orchestrator.actors.at_hand import AtHand
from orchestrator.actors.events import AttemptEnded, Emit, TaskEnded
from orchestrator.actors.feed import TaskFeed
from orchestrator.actors.messages import (
    LeasesChanged,
    RegistryMessage,
    RelayMessage,
    TasksWithdrawn,
    TellStream,
    WakeAt,
)
from orchestrator.actors.pull_leases import Change, PullLeases
from orchestrator.domain.lifecycle import NEW, State
from orchestrator.domain.task import lane_of
from orchestrator.kernel.errors import NotDelivered
from orchestrator.kernel.ref import Ref
from orchestrator.storage.commands import ERASED, TaskRecord
from orchestrator.storage.ports import Queue, Ticket


class Observer:
    """Called by the audit writer after each commit, once for every task that it changed."""

    def __init__(
        self,
        queue: Queue,
        at_hand: AtHand,
        feed: TaskFeed,
        leases: PullLeases,
        registry: Ref[RegistryMessage],
        janitor: Ref[WakeAt],
        emit: Emit,
        relay: Ref[RelayMessage] | None = None,
    ) -> None:
        self._queue, self._at_hand, self._feed = queue, at_hand, feed
        self._leases, self._registry, self._janitor = leases, registry, janitor
        self._emit, self._relay = emit, relay

    def committed(self, record: TaskRecord, lane: str | None = None) -> None:
        """A task is in this state now, and in that lane if it is known."""
        task, progress = record.task, record.progress
        if lane is not None and progress is NEW:
            # Just accepted: its sender does not know its id yet, so nobody waits for it, and no agent had it.
            self._at_hand.keep(record)
            self._line_up(record, lane)
            return
        self._feed.publish(record)
        if progress.state is State.QUEUED and progress.due_at is None:
            self._at_hand.keep(record)
        else:
            self._at_hand.drop(task.task_id)
        if progress.state is not State.QUEUED:
            # Who leased it may not have taken it from the queue, and who cancelled it did not.
            self._queue.forget(task.task_id)
        change = self._leases.committed(record)
        if change is not None:
            self._tell_of_lease(record, change)
        if record.erased or progress.state.withdrawn:
            self._tell_relay(TasksWithdrawn())
        if record.erased and progress.reason != ERASED:
            # It had ended before, and everybody was told.
            return
        if progress.state.final:
            self._emit(TaskEnded(task.task_id, task.task_type, progress.state, progress.reason))
            if progress.state is State.DEAD:
                self._tell_relay(TellStream(None))
        elif progress.due_at is not None:
            # A janitor with a full mailbox is about to look anyway.
            with contextlib.suppress(NotDelivered):
                self._janitor.tell(WakeAt(progress.due_at))
        elif progress.state is State.QUEUED:
            self._line_up(record, lane or lane_of(task, record.updated_at))

    def _line_up(self, record: TaskRecord, lane: str) -> None:
        task = record.task
        self._queue.announce(Ticket(task.task_id, task.priority, lane, record.seq, record.updated_at))
        if self._relay is not None:
            self._tell_relay(TellStream(task.priority))

    def _tell_of_lease(self, record: TaskRecord, change: Change) -> None:
        # A registry with a full mailbox counts anew at the next change.
        with contextlib.suppress(NotDelivered):
            self._registry.tell(LeasesChanged(change.agent_id))
        task, progress = record.task, record.progress
        # What was given back reached nobody; of an attempt before the last one the end was seen elsewhere.
        if change.lasted is not None and progress.attempt == change.attempt and progress.state is not State.QUEUED:
            waited = max(0.0, record.updated_at - change.lasted - task.created_at)
            outcome = progress.reason or progress.state.value
            self._emit(
                AttemptEnded(
                    task.task_id, outcome, change.lasted, change.agent_id, change.attempt, waited, task.traceparent,
                    pulled=True,
                )
            )  # fmt: skip

    def _tell_relay(self, message: RelayMessage) -> None:
        if self._relay is not None:
            # A relay with a full mailbox has enough to look for.
            with contextlib.suppress(NotDelivered):
                self._relay.tell(message)
