"""Where pull agents ask for work. It takes from the queue what those who ask may do, and leases it to them.

Who asks waits here, not in the queue: one taker serves them all, so that the decision is between all of them.
"""

from collections.abc import Callable
from functools import partial

import anyio
from anyio.abc import TaskGroup

from orchestrator.actors.asking import Asking
from orchestrator.actors.attempts import Attempts
from orchestrator.actors.drain import Drain
from orchestrator.actors.granting import Granting
from orchestrator.actors.handing_in import HandingIn
from orchestrator.actors.leasing import Job, Leasing
from orchestrator.actors.messages import Directory, Granted, LeaseDeskMessage, LeaseTasks, Withdraw
from orchestrator.domain.errors import OrchestratorError, Overloaded
from orchestrator.domain.policy import Policy, decide
from orchestrator.domain.task import Priority, demand_of_lane
from orchestrator.kernel.errors import KernelError
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.monotonic import monotonic
from orchestrator.kernel.reply import Reply
from orchestrator.kernel.watch import Watch
from orchestrator.storage.ports import LedgerReader, Queue, Ticket

AT_ONCE = 4096
LOOK_S = 0.2
"""How long somebody who does not want to wait is kept all the same, while it is looked whether there is work."""


class LeaseDesk:
    """What it leases is held by the agent, not by us: it is not taken back when we end, it lapses by its time."""

    def __init__(
        self,
        attempts: Attempts,
        leasing: Leasing,
        granting: Granting,
        handing_in: HandingIn,
        policy: Policy,
        directory: Watch[Directory],
        reader: LedgerReader,
        queue: Queue,
        drain: Drain,
    ) -> None:
        self._attempts, self._leasing, self._granting, self._handing_in = attempts, leasing, granting, handing_in
        self._policy, self._directory, self._reader = policy, directory, reader
        self._queue, self._drain = queue, drain
        self._asking: dict[Reply[list[Granted]], Asking] = {}
        self._somebody_asks = anyio.Event()
        self._passed: set[str] = set()
        """Tasks that are for an agent that is called: left to it until an agent changes."""

    async def run(self, inbox: Inbox[LeaseDeskMessage]) -> None:
        await self._attempts.recover(self._reader)
        async with anyio.create_task_group() as serving:
            with self._directory.heard_by(self._agents_changed):
                async with anyio.create_task_group() as beside:
                    beside.start_soon(self._take_work, inbox, serving)
                    beside.start_soon(self._wait_for_drain)
                    inbox.ready()
                    async for message in inbox:
                        self._handle(message, serving)
                    beside.cancel_scope.cancel()
            self._settle(lambda _: True)

    def _handle(self, message: LeaseDeskMessage, serving: TaskGroup) -> None:
        match message:
            case LeaseTasks():
                if len(self._asking) >= AT_ONCE:
                    message.reply.fail(Overloaded("Too many agents are asking at once.", retry_after=5))
                    return
                # Known from now on, so that a withdrawal that follows at once finds it.
                asking = self._asking[message.reply] = Asking(message)
                serving.start_soon(self._serve, asking)
            case Withdraw(reply):
                serving.start_soon(self._withdraw, reply)
            case _:
                serving.start_soon(self._handing_in.serve, message)

    # Those who ask.

    async def _serve(self, asking: Asking) -> None:
        message = asking.message
        try:
            await self._wait_for_work(asking)
            if asking.withdrawn:
                await self._granting.take_back(asking.granted)
            else:
                message.reply.send(asking.granted)
        except OrchestratorError as error:
            message.reply.fail(error)
        finally:
            del self._asking[message.reply]

    async def _wait_for_work(self, asking: Asking) -> None:
        message = asking.message
        if self._drain.begun or self._is_leaving(message.agent_id):
            return
        if message.task_id is not None:
            await self._lease_that(asking, message.task_id)
            return
        asking.open = True
        self._somebody_asks.set()
        self._passed.clear()
        self._queue.wake()
        with anyio.move_on_after(max(message.wait_s, LOOK_S)):
            await asking.settled.wait()
        asking.open = False
        await asking.idle.wait()

    async def _lease_that(self, asking: Asking, task_id: str) -> None:
        job = await self._leasing.place_known(task_id, {asking.message.agent_id})
        if job is not None:
            asking.expect()
            await self._grant(asking, job, None)

    async def _withdraw(self, reply: Reply[list[Granted]]) -> None:
        asking = self._asking.get(reply)
        if asking is None:
            # It was answered already: then this does not wait. An error gave nothing, or what lapses by itself.
            try:
                granted = await reply.wait()
            except (OrchestratorError, KernelError):
                return
            await self._granting.take_back(granted)
            return
        asking.withdrawn = True
        asking.settle()

    def _is_leaving(self, agent_id: str) -> bool:
        view = self._directory.value.get(agent_id)
        return view is None or view.health.draining

    def _settle(self, which: Callable[[Asking], bool]) -> None:
        for asking in self._asking.values():
            if which(asking):
                asking.settle()

    async def _wait_for_drain(self) -> None:
        await self._drain.wait()
        self._settle(lambda _: True)

    def _agents_changed(self) -> None:
        self._passed.clear()
        if self._asking:
            self._settle(lambda asking: self._is_leaving(asking.message.agent_id))
            self._queue.wake()

    # The work.

    async def _take_work(self, inbox: Inbox[LeaseDeskMessage], serving: TaskGroup) -> None:
        while True:
            inbox.at_work(False)
            await self._asked()
            ticket = await self._queue.take(self._routable, self._wanted)
            inbox.at_work(True)
            try:
                job = await self._leasing.prepare(ticket, self._wanting())
            except BaseException:
                self._queue.give_back(ticket)
                raise
            match job:
                case Job():
                    await self._hand_over(ticket, job, serving)
                case Ticket():
                    if job.lane == ticket.lane:
                        self._passed.add(job.task_id)
                    self._queue.give_back(job)
                case None:
                    self._queue.done(ticket)

    async def _asked(self) -> None:
        """Waits until somebody wants work: whoever waits at the queue is woken for each task that comes."""
        while not self._wanting():
            self._somebody_asks = anyio.Event()
            await self._somebody_asks.wait()

    async def _hand_over(self, ticket: Ticket, job: Job, serving: TaskGroup) -> None:
        """The job goes to the agent's longest waiting request; back if there is none any more."""
        for asking in self._asking.values():
            if asking.message.agent_id == job.agent_id and asking.wants:
                asking.expect()
                serving.start_soon(partial(self._grant, asking, job, ticket))
                return
        self._queue.give_back(ticket)
        await self._attempts.release(job.agent_id)

    async def _grant(self, asking: Asking, job: Job, ticket: Ticket | None) -> None:
        granted: Granted | None = None
        try:
            granted = await self._granting.grant(job, ticket)
        finally:
            asking.receive(granted)

    def _wanting(self) -> frozenset[str]:
        return frozenset(asking.message.agent_id for asking in self._asking.values() if asking.wants)

    def _wanted(self, _priority: Priority) -> int:
        return sum(asking.wants for asking in self._asking.values())

    def _routable(self, ticket: Ticket) -> bool:
        """Whether one of those who ask comes first for the tasks of the ticket's lane."""
        wanting = self._wanting()
        if not wanting or ticket.task_id in self._passed:
            return False
        demand = demand_of_lane(ticket.lane, urgent=ticket.priority is Priority.URGENT)
        if demand.task_type not in self._policy.task_types or demand.refused:
            return False
        views, now = self._directory.value, monotonic()
        if not decide(demand, (views[a] for a in wanting if a in views), now, self._policy, wanting).ranking:
            return False
        return decide(demand, views.values(), now, self._policy, wanting).agent_id in wanting
