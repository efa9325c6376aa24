"""Takes work from the queue in its order, and has it done by the agents that are free."""

from collections.abc import Iterator, Sequence
from functools import partial

import anyio
from anyio.abc import TaskGroup

from orchestrator.actors.attempts import Attempts
from orchestrator.actors.crew import Crew
from orchestrator.actors.decisions import Decisions
from orchestrator.actors.drain import Drain
from orchestrator.actors.leasing import Job, Leasing
from orchestrator.actors.messages import Directory
from orchestrator.actors.room import Room
from orchestrator.domain.agent import AgentView
from orchestrator.domain.lifecycle import Progress
from orchestrator.domain.policy import Policy
from orchestrator.domain.task import Priority, demand_of_lane
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.monotonic import monotonic
from orchestrator.kernel.watch import Watch
from orchestrator.storage.commands import TaskRecord
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
        self._drain, self._decisions = drain, Decisions(policy, directory)
        self._slots, self._busy = slots, 0

    async def run(self, inbox: Inbox[object]) -> None:
        await self._attempts.recover(self._reader)
        await self._drain.bounded(partial(self._dispatch, inbox))
        await inbox.wait_stopping()

    async def _dispatch(self, inbox: Inbox[object]) -> None:
        async with anyio.create_task_group() as calls:
            self._leasers, self._callers = Crew(calls, self._lease), Crew(calls, self._perform)
            self._endings = self._attempts.endings(calls, self._free)
            inbox.ready()
            await self._take_until_stopped(inbox)
            await inbox.wait_stopping()
            self._drain.hurry(calls.cancel_scope)
            for crew in (self._leasers, self._callers, self._endings):
                crew.dismiss()

    async def _take_until_stopped(self, inbox: Inbox[object]) -> None:
        with self._directory.heard_by(self._agents_changed):
            async with anyio.create_task_group() as taking:
                taking.start_soon(self._take_work, inbox)
                taking.start_soon(self._stop_taking, taking)
                await inbox.wait_stopping()
                taking.cancel_scope.cancel()

    async def _stop_taking(self, taking: TaskGroup) -> None:
        await self._drain.wait()
        taking.cancel_scope.cancel()

    def _agents_changed(self) -> None:
        if self._busy < self._slots:
            self._queue.wake()

    async def _take_work(self, inbox: Inbox[object]) -> None:
        while True:
            inbox.at_work(False)
            first = await self._queue.take(self._routable, self._slots_for)
            inbox.at_work(True)
            self._busy += 1
            tickets = [first, *self._take_more(first)]
            try:
                jobs = await self._leasing.prepare_all(tickets)
            except BaseException:
                for ticket in tickets:
                    self._queue.give_back(ticket)
                self._free(len(tickets))
                raise
            self._begin(tickets, jobs)

    def _take_more(self, first: Ticket) -> Iterator[Ticket]:
        """What else is in hand, and has a slot here and most likely one at an agent: many cost little more than one."""
        room, ticket = Room(self._able), first
        while True:
            room.take(ticket)
            more = self._queue.take_now(room.has, self._slots_for)
            if more is None:
                return
            self._busy += 1
            yield more
            ticket = more

    def _begin(self, tickets: Sequence[Ticket], jobs: Sequence[Job | Ticket | None]) -> None:
        placed: list[tuple[Ticket, Job]] = []
        for ticket, job in zip(tickets, jobs, strict=True):
            match job:
                case Job():
                    placed.append((ticket, job))
                case Ticket():
                    self._queue.give_back(job)
                case None:
                    self._queue.done(ticket)
        if placed:
            self._leasers.give(placed)
        self._free(len(tickets) - len(placed))

    def _free(self, slots: int) -> None:
        if slots:
            self._busy -= slots
            self._queue.wake()

    def _slots_for(self, priority: Priority) -> int:
        return max(0, self._slots - self._busy - (priority is not Priority.URGENT))

    def _routable(self, ticket: Ticket) -> bool:
        return Room(self._able).has(ticket)

    def _able(self, ticket: Ticket) -> Sequence[AgentView] | None:
        """Who could take the tasks of the ticket's lane now; None where consent ends them without an agent."""
        demand = demand_of_lane(ticket.lane, urgent=ticket.priority is Priority.URGENT)
        if demand.task_type not in self._policy.task_types:
            return ()
        if demand.raw_media and not demand.consented:
            return None
        decided = self._decisions.about("", ticket.lane, monotonic(), urgent=demand.urgent)
        views = self._directory.value
        return [views[agent_id] for agent_id in decided.decision.ranking]

    async def _lease(self, placed: Sequence[tuple[Ticket, Job]]) -> None:
        """What is leased goes on by itself, each task for its own time."""
        waiting = len(placed)
        try:
            leases = [(job, self._leased(job), ticket) for ticket, job in placed]
            records = await self._leasing.lease_all(leases)
            for record in records:
                if record is not None:
                    self._callers.give(record)
                    waiting -= 1
            for (job, _, _), record in zip(leases, records, strict=True):
                if record is None:
                    await self._attempts.release(job.agent_id)
        finally:
            self._free(waiting)

    def _leased(self, job: Job) -> Progress:
        return self._attempts.leased(job.record.task, job.record.progress, job.agent_id)

    async def _perform(self, leased: TaskRecord) -> None:
        ended = None
        try:
            _, ended = await self._attempts.call_through(leased)
        finally:
            if ended is None:
                self._free(1)
            else:
                self._endings.add(ended)
