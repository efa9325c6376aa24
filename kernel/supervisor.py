"""Keeps a list of children running, each started after, and stopped before, those that it depends on."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import anyio
from anyio.abc import TaskGroup, TaskStatus

from orchestrator.kernel.child import Child, ChildStatus, Restart, State
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.errors import Fatal, KernelError, RestartsExhausted, Returned
from orchestrator.kernel.events import (
    ActorFailed,
    ActorRestarting,
    ActorStarted,
    ActorStopped,
    KernelEvent,
    SupervisorGaveUp,
)
from orchestrator.kernel.inbox import Stop
from orchestrator.kernel.incarnation import Incarnation
from orchestrator.kernel.monotonic import monotonic
from orchestrator.kernel.restart import Backoff, Intensity, delay_before_restart

__all__ = ["Child", "ChildStatus", "Restart", "State", "Strategy", "Supervisor"]


_UP = (State.RUNNING, State.FINISHED)


class Strategy(Enum):
    """Who is restarted when a child fails: it alone, or it and those after it in the list, which depend on it."""

    ONE_FOR_ONE = "one for one"
    REST_FOR_ONE = "rest for one"


@dataclass(slots=True)
class _Slot:
    child: Child[object]
    state: State = State.WAITING
    life: Incarnation[object] | None = None
    lives: int = 0
    last_error: str | None = None


class Supervisor:
    """Runs once. One task, in `run`, takes all decisions, one after the other; the children only wake it.

    So while one child is being restarted, the failure of another waits for its turn. The mailboxes are the
    supervisor's from the start of `run`. `observe` gets the events, synchronously, and must not raise.
    """

    def __init__(
        self,
        children: Sequence[Child[object]],
        *,
        strategy: Strategy,
        intensity: Intensity,
        backoff: Backoff,
        environment: Environment,
        observe: Callable[[KernelEvent], None],
        restart_grace: float = 1.0,
    ) -> None:
        self._slots = [_Slot(child) for child in children]
        self._patience = min((min(c.stall_after, c.start_within) for c in children), default=1.0)
        self._strategy = strategy
        self._intensity = intensity
        self._backoff = backoff
        self._environment = environment
        self._observe = observe
        self._restart_grace = restart_grace
        self._failures: list[float] = []
        self._fault: KernelError | None = None
        self._stop = anyio.Event()
        self._changed = anyio.Event()
        self._looked_at = -math.inf

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Start the children in order, keep them running until `stop`, stop them in reverse, return.

        Each is started when the one before it is ready; `task_status.started()` is called when all are, and not at all
        if the stop comes first. Raises `RestartsExhausted` or an actor's `Fatal`, after having stopped what runs.
        Cancelling it cancels the children, in reverse. Whichever way it ends, no child runs any more and the mailboxes
        are closed.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch)
                for slot in self._slots:
                    tasks.start_soon(slot.child.mailbox.deadlines.keep)
                try:
                    await self._supervise(tasks, task_status)
                    await self._stop_all(gracefully=True)
                finally:
                    # Finds somebody only if the above was cancelled. Each join in it has a deadline.
                    with anyio.CancelScope(shield=True):
                        await self._stop_all(gracefully=False)
                    tasks.cancel_scope.cancel()
        finally:
            if self._fault is not None:
                raise self._fault

    def stop(self) -> None:
        """Have `run` stop the children and return. Does not wait. Safe at any time, even before `run`, and twice."""
        self._stop.set()
        self._changed.set()

    def status(self) -> list[ChildStatus]:
        """The children, in start order."""
        return [
            ChildStatus(
                name=slot.child.name,
                state=slot.state,
                restarts=max(0, slot.lives - 1),
                depth=slot.child.mailbox.depth,
                capacity=slot.child.mailbox.capacity,
                peak=slot.child.mailbox.peak,
                last_error=slot.last_error,
            )
            for slot in self._slots
        ]

    def well(self) -> bool:
        """Whether every child is up and was not late at the last look at them, which was not long ago.

        While it stops it is well: that has deadlines of its own.
        """
        if self._stop.is_set():
            return True
        up = all(slot.state in _UP and not (slot.life and slot.life.overdue) for slot in self._slots)
        return up and monotonic() - self._looked_at < self._patience

    async def _supervise(self, tasks: TaskGroup, task_status: TaskStatus[None]) -> None:
        all_up = False
        while not self._stop.is_set():
            # Made before looking, so that a change while we look is not missed.
            self._changed = anyio.Event()
            if failing := self._advance(tasks):
                await self._recover(failing)
                continue
            if not all_up and all(slot.state in _UP for slot in self._slots):
                all_up = True
                task_status.started()
            await self._changed.wait()

    def _advance(self, tasks: TaskGroup) -> _Slot | None:
        """Start the next child if it is due; the first one that is failing or has finished, if one is."""
        for slot in self._slots:
            if slot.state is State.FINISHED:
                continue
            if slot.life is None:
                slot.life = Incarnation(slot.child, self._wake)
                slot.lives += 1
                slot.state = State.STARTING
                tasks.start_soon(slot.life.run, name=slot.child.name)
            if slot.life.ended or slot.life.overdue:
                return slot
            if not slot.life.inbox.is_ready:
                return None
            if slot.state is State.STARTING:
                slot.state = State.RUNNING
                self._observe(ActorStarted(slot.child.name))
        return None

    async def _recover(self, slot: _Slot) -> None:
        await self._end(slot, Stop.RESTART, within=0)
        if slot.state is State.FINISHED or (delay := self._restart_delay(slot)) is None:
            return
        if self._strategy is Strategy.REST_FOR_ONE:
            for dependant in reversed(self._slots[self._slots.index(slot) + 1 :]):
                await self._end(dependant, Stop.RESTART, self._restart_grace)
        if self._stop.is_set():
            return
        self._observe(ActorRestarting(slot.child.name, delay))
        with anyio.move_on_after(delay):
            await self._stop.wait()

    def _restart_delay(self, slot: _Slot) -> float | None:
        if self._fault is not None:
            return None
        self._failures = self._intensity.recent([*self._failures, monotonic()])
        delay = delay_before_restart(self._failures, self._intensity, self._backoff, self._environment.random)
        if delay is None:
            self._give_up(slot, RestartsExhausted(slot.child.name, len(self._failures) - 1))
        return delay

    async def _end(self, slot: _Slot, stop: Stop, within: float) -> None:
        """Bring the child's life to its end, if it has one, and settle how it ended. Cancelled, it keeps the life."""
        if (life := slot.life) is None:
            return
        unasked = life.ended
        slot.state = State.STOPPING
        outcome = await life.end(stop, within)
        slot.life = None
        error = life.error
        if error is None and unasked and slot.child.restart is Restart.PERMANENT:
            error = Returned(slot.child.name)
        if error is not None:
            self._failed(slot, error)
            return
        slot.state = State.FINISHED if unasked else State.STOPPED
        if unasked:
            slot.child.mailbox.close()
        self._observe(ActorStopped(slot.child.name, outcome))

    async def _stop_all(self, *, gracefully: bool) -> None:
        for slot in self._slots:
            if slot.life is None or slot.life.ended:
                # Nobody will handle these any more: their askers should not wait for that.
                slot.child.mailbox.close()
        for slot in reversed(self._slots):
            await self._end(slot, Stop.FINAL, slot.child.stop_within if gracefully else 0)
            slot.child.mailbox.close()

    def _failed(self, slot: _Slot, error: Exception) -> None:
        slot.state = State.FAILED
        slot.last_error = type(error).__name__
        self._observe(ActorFailed(slot.child.name, slot.last_error))
        if isinstance(error, Fatal):
            self._give_up(slot, error)

    def _give_up(self, slot: _Slot, fault: KernelError) -> None:
        if not isinstance(self._fault, Fatal):
            self._fault = fault
        self._observe(SupervisorGaveUp(slot.child.name, type(fault).__name__))
        self.stop()

    def _wake(self) -> None:
        self._changed.set()

    async def _watch(self) -> None:
        while True:
            self._looked_at = monotonic()
            for slot in self._slots:
                if slot.life is not None:
                    slot.life.check(self._looked_at)
            await anyio.sleep(self._patience / 4)
