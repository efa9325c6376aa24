"""Takes work from the queue in its order, and has it done by the agents that are free."""

from functools import partial

import anyio
from anyio.abc import TaskGroup

from orchestrator.actors.attempts import Attempts
from orchestrator.actors.drain import Drain
from orchestrator.actors.leasing import Job, Leasing
from orchestrator.actors.messages import Directory
from orchestrator.domain.policy import Policy, decide
from orchestrator.domain.task import Priority, demand_of_lane
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.watch import Watch
from orchestrator.storage.ports import LedgerReader, Queue, Ticket


class StreamConsumer:
    """Holds nothing that is not in the ledger: a ticket is a hint, the lease is the right to call."""

    def __init__(
        self,
        attempts: Attempts,
        leasing: Leasing,
        policy: Policy,
        directory: Watch[Directory],
        reader: LedgerReader,
        queue: Queue,
        drain: Drain,
        *,
        slots: int,
    ) -> None:
        """`slots` bounds the calls at once; the last one of them is kept for urgent work."""
        self._attempts, self._leasing, self._policy = attempts, leasing, policy
        self._directory, self._reader, self._queue = directory, reader, queue
        self._drain = drain
        self._slots, self._busy = slots, 0

    async def run(self, inbox: Inbox[object]) -> None:
        await self._attempts.recover(self._reader)
        async with anyio.create_task_group() as calls:
            inbox.ready()
            await self._take_until_stopped(inbox, calls)
            await inbox.wait_stopping()
            self._drain.hurry(calls.cancel_scope)

    async def _take_until_stopped(self, inbox: Inbox[object], calls: TaskGroup) -> None:
        async with anyio.create_task_group() as taking:
            taking.start_soon(self._follow_directory)
            taking.start_soon(self._take_work, inbox, calls)
            taking.start_soon(self._stop_taking, taking)
            await inbox.wait_stopping()
            taking.cancel_scope.cancel()

    async def _stop_taking(self, taking: TaskGroup) -> None:
        await self._drain.wait()
        taking.cancel_scope.cancel()

    async def _follow_directory(self) -> None:
        while True:
            await self._directory.changed()
            self._queue.wake()

    async def _take_work(self, inbox: Inbox[object], calls: TaskGroup) -> None:
        while True:
            inbox.at_work(False)
            ticket = await self._queue.take(self._routable, self._slots_for)
            inbox.at_work(True)
            self._busy += 1
            try:
                job = await self._leasing.prepare(ticket)
            except BaseException:
                self._queue.give_back(ticket)
                self._free()
                raise
            match job:
                case Job():
                    calls.start_soon(self._drain.bounded, partial(self._perform, ticket, job))
                case Ticket():
                    self._queue.give_back(job)
                    self._free()
                case None:
                    self._queue.done(ticket)
                    self._free()

    def _free(self) -> None:
        self._busy -= 1
        self._queue.wake()

    def _slots_for(self, priority: Priority) -> int:
        return max(0, self._slots - self._busy - (priority is not Priority.URGENT))

    def _routable(self, ticket: Ticket) -> bool:
        """Whether some agent could take the tasks of the ticket's lane now."""
        urgent = ticket.priority is Priority.URGENT
        demand = demand_of_lane(ticket.lane, urgent=urgent)
        if demand.task_type not in self._policy.task_types:
            return False
        if demand.raw_media and not demand.consented:
            return True
        return bool(decide(demand, self._directory.value.values(), anyio.current_time(), self._policy).ranking)

    async def _perform(self, ticket: Ticket, job: Job) -> None:
        try:
            progress = self._attempts.leased(job.record.task, job.record.progress, job.agent_id)
            leased = await self._leasing.lease(job, progress, ticket)
            if leased is None:
                await self._attempts.release(job.agent_id)
                return
            await self._attempts.see_through(leased)
        finally:
            self._free()
