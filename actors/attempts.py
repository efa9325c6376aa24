"""One attempt after another at a leased task: the call, what it says of the agent, and what it makes of the task.

Used by the actors that dispatch, the synchronous and the queued ones: both follow the same rules.
"""

import contextlib
from collections.abc import Callable, Collection, Sequence
from functools import partial
from math import inf

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import replace

from orchestrator.actors.committing import Committer
from orchestrator.actors.endings import Endings, Unwritten
from orchestrator.actors.events import AttemptEnded, Emit, TaskDispatched
from orchestrator.actors.messages import Directory, Heard, RegistryMessage, ReleaseAll, Report, Reserve, Wish
from orchestrator.actors.pull_leases import CALLED
from orchestrator.actors.reading import read
from orchestrator.actors.verdicts import Verdicts, draft, lost, reason_of
from orchestrator.domain.decision import Decision
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.lifecycle import Progress, State, Step
from orchestrator.domain.minimisation import handed_to
from orchestrator.domain.policy import Policy, decide, permitted
from orchestrator.domain.task import Demand, Priority, Task, demand_of
from orchestrator.domain.trace import trace_of
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.errors import ActorCrashed, AskTimeout, KernelError
from orchestrator.kernel.monotonic import monotonic
from orchestrator.kernel.ref import Ref
from orchestrator.kernel.reply import Reply
from orchestrator.kernel.watch import Watch
from orchestrator.outbound.ports import AgentClient, Call, Ending, Garbled, Refused, TimedOut
from orchestrator.storage.commands import ExpireKeys, Moved, TaskRecord, Transition
from orchestrator.storage.ports import LedgerReader

LEASE_MARGIN_S = 15.0
ASK_S = 5.0
CLEAN_UP_S = 1.0
MOST_LEASES = 2_000
"""More than an owner has slots."""


class Attempts:
    """The shared half of the dispatching actors. `owner` names the slots that it holds, and after CALLED the leases."""

    def __init__(
        self,
        owner: str,
        environment: Environment,
        policy: Policy,
        verdicts: Verdicts,
        directory: Watch[Directory],
        registry: Ref[RegistryMessage],
        committer: Committer,
        client: AgentClient,
        emit: Emit,
    ) -> None:
        self.owner = owner
        self._environment, self._policy, self._verdicts = environment, policy, verdicts
        self._directory, self._registry, self._committer = directory, registry, committer
        self._client, self._emit = client, emit

    def endings(self, group: TaskGroup, written: Callable[[int], None]) -> Endings:
        """Where the ends of this owner's attempts are written together, by tasks of `group`."""
        return Endings(group, self.owner, self._committer, self._registry, written)

    async def recover(self, reader: LedgerReader) -> None:
        """Takes back what a former incarnation of the owner held: its slots, and its leases as lost ones.

        Where the ledger is away now, the leases lapse by themselves.
        """
        await self._registry.ask(partial(ReleaseAll, owner=self.owner), within=ASK_S)
        try:
            # It changes nothing, and is answered after all that the former incarnation had posted, leases among it.
            await self._committer.commit(ExpireKeys(0.0))
            leased = await read(reader.leased(CALLED + self.owner, MOST_LEASES))
        except OrchestratorError:
            return
        async with anyio.create_task_group() as group:
            for record in leased:
                group.start_soon(self._take_back, record)

    async def _take_back(self, record: TaskRecord) -> None:
        with contextlib.suppress(OrchestratorError):
            await self._committer.commit(lost(record, self._environment.now()))

    def decide(self, record: TaskRecord, asking: Collection[str] = ()) -> Decision:
        """The decision for the task's next attempt, as things are now, with those pull agents asking."""
        demand = demand_of(record.task, self._environment.now(), frozenset(record.progress.tried))
        return decide(demand, self._directory.value.values(), monotonic(), self._policy, asking)

    def decide_each(self, records: Sequence[TaskRecord]) -> list[Decision]:
        """The decisions for tasks that are dispatched together: each takes the slots into account that those before it
        will have, where there is a choice that may depend on that."""
        views, decisions = dict(self._directory.value), list[Decision]()
        without_choice: dict[Demand, Decision] = {}
        now, at = self._environment.now(), monotonic()
        for record in records:
            demand = demand_of(record.task, now, frozenset(record.progress.tried))
            asked = replace(demand, key="")
            decision = without_choice.get(asked)
            if decision is None:
                decision = decide(demand, views.values(), at, self._policy)
                if len(decision.ranking) < 2:
                    without_choice[asked] = decision
            decisions.append(decision)
            if decision.ranking:
                view = views[decision.ranking[0]]
                views[decision.ranking[0]] = replace(view, in_flight=view.in_flight + 1)
        return decisions

    async def reserve(self, task: Task, ranking: tuple[str, ...]) -> str | None:
        """Takes a slot of the first agent of `ranking` that still has one."""
        (agent_id,) = await self.reserve_each([(task, ranking)])
        return agent_id

    async def reserve_each(self, wanted: Sequence[tuple[Task, tuple[str, ...]]]) -> list[str | None]:
        """Takes a slot for each task, of the first agent of its ranking that still has one."""
        if not any(ranking for _, ranking in wanted):
            return [None] * len(wanted)
        wishes = [Wish(ranking, task.priority is Priority.URGENT) for task, ranking in wanted]
        return await self._registry.ask(partial(Reserve, owner=self.owner, wishes=wishes), within=ASK_S)

    async def release(self, agent_id: str) -> None:
        """Gives a slot back without a call."""
        await self._report(agent_id, None, 0.0)

    def leased(self, task: Task, progress: Progress, agent_id: str, step: Step = Step.LEASE) -> Progress:
        """`progress` with a lease for one attempt by `agent_id`."""
        until = self._environment.now() + self._policy.task_types[task.task_type].timeout_s + LEASE_MARGIN_S
        return progress.lease(agent_id, CALLED + self.owner, until, step)

    async def see_through(self, record: TaskRecord) -> tuple[TaskRecord | None, Heard | None]:
        """Makes the attempt for which `record` is leased, and those that it moves on to; returns the task after them,
        and what is to be told of the last agent where it was reached: its slot is free once the caller did `tell`.

        No task when somebody else ended it meanwhile, or the ledger did not take its end; while the ledger cannot be
        written, the end is kept. If it is cancelled during a call, the task is given back without counting the attempt,
        and the slot is freed; if it is cancelled after the call, what was not written yet is found as a lost lease.
        """
        current, ended = await self.call_through(record)
        if ended is None:
            return current, None
        return await self._write(ended.transition), ended.heard

    def tell(self, heard: Heard) -> None:
        """What became of a call, and that its slot is free. Never waits."""
        self._registry.tell(Report(Reply(), self.owner, [heard]))

    async def call_through(self, record: TaskRecord) -> tuple[TaskRecord | None, Unwritten | None]:
        """The same, but the end of the attempt that reached its agent is the caller's to write.

        Calls one agent after another until one is reached, or the task is not leased any more: then it is as returned.
        """
        current: TaskRecord | None = record
        while current is not None and current.progress.state is State.LEASED:
            ending, latency = await self._attempt(current)
            if ending is not None and not isinstance(ending, Refused):
                tells = None if self._cut_short(current, ending) else ending
                heard = Heard(current.progress.agent_id or "", tells, latency)
                return current, Unwritten(self._verdicts.ended(current, ending), heard)
            current = await self._move_on(current, ending, latency)
        return current, None

    async def _attempt(self, record: TaskRecord) -> tuple[Ending | None, float]:
        """How the call ended, and how many seconds it took."""
        agent_id = record.progress.agent_id or ""
        began, now = monotonic(), self._environment.now()
        try:
            ending = await self._call(record, agent_id, now)
        except BaseException:
            await self._break_off(record, agent_id)
            raise
        latency = monotonic() - began
        self._emit(
            AttemptEnded(
                record.task.task_id, reason_of(ending), latency, agent_id, record.progress.attempt,
                _waited(record.task, now), record.task.traceparent,
            )
        )  # fmt: skip
        return ending, latency

    async def _call(self, record: TaskRecord, agent_id: str, now: float) -> Ending | None:
        """How the call ended; None when there was none, since the agent may not have the task any more."""
        call = self.outgoing(record, agent_id, now)
        if call is None or not call.endpoint:
            return None
        try:
            return await self._client.call(call, call.deadline_at - now)
        except Exception:  # noqa: BLE001 - an adapter's own failure is this attempt's alone, not that of all calls beside it
            return Garbled("client_error")

    def outgoing(self, record: TaskRecord, agent_id: str, now: float) -> Call | None:
        """What leaves, `now`, for the agent that has the lease; None when it may not have the task any more."""
        task = record.task
        if now >= (record.progress.lease_until or inf):
            # This process has stood still since: another may have the task, or it may be withdrawn.
            return None
        view = self._directory.value.get(agent_id)
        # What holds when the task leaves counts: since it was chosen the agent may be gone, have declared raw media, or
        # have changed into something that waits for an operator's word.
        if view is None or view.agent.quarantined:
            return None
        if not permitted(view.agent, self._policy, consented=task.consent.holds(now), raw_media=task.raw_media):
            return None
        attempt = record.progress.attempt
        self._emit(TaskDispatched(task.task_id, task.task_type, task.priority, attempt, _waited(task, now)))
        within = min(self._policy.task_types[task.task_type].timeout_s, task.deadline_at - now)
        payload, meta = handed_to(view.agent, task, now, self._policy)
        return Call(
            endpoint=view.agent.endpoint or "",
            task_id=task.task_id,
            case_id=task.case_id,
            task_type=task.task_type,
            payload=payload,
            meta=meta,
            attempt=attempt,
            deadline_at=now + within,
            traceparent=trace_of(task.task_id, task.traceparent).call(attempt),
        )

    def _cut_short(self, record: TaskRecord, ending: Ending | None) -> bool:
        """Whether the task's own deadline ended the call before the agent's time was over: nobody is to blame."""
        return isinstance(ending, TimedOut) and self._environment.now() >= record.task.deadline_at

    async def _move_on(self, record: TaskRecord, ending: Refused | None, latency: float) -> TaskRecord | None:
        """The task after a call that did not reach its agent: it has another one now, or waits, or is over."""
        # Told first, so that an agent that is not there is out of the question for this task and all others.
        await self._report(record.progress.agent_id or "", ending, latency)
        step, progress, decision, follower = await self._elsewhere(record, reason_of(ending))
        audit = draft(step.value, record, progress, self._environment.now(), decision)
        moved = await self._write(Transition(record, progress, audit))
        if follower is not None and (moved is None or moved.progress.state is not State.LEASED):
            await self.release(follower)
        return moved

    async def _write(self, transition: Transition, until: float = inf) -> TaskRecord | None:
        """The task after it; None where somebody was faster, or the ledger did not take it."""
        outcomes = await self._committer.persist([transition], until)
        return next((outcome.record for outcome in outcomes if isinstance(outcome, Moved)), None)

    async def _elsewhere(self, record: TaskRecord, reason: str) -> tuple[Step, Progress, Decision | None, str | None]:
        """The agent was not there: on to the next one at once, as a new attempt; or back into the queue, uncounted."""
        task, progress = record.task, record.progress
        if self._environment.now() >= task.deadline_at:
            return Step.EXPIRE, progress.end(Step.EXPIRE, "deadline"), None, None
        tried = frozenset((*progress.tried, progress.agent_id or ""))
        demand = demand_of(task, self._environment.now(), tried)
        decision = decide(demand, self._directory.value.values(), monotonic(), self._policy)
        if decision.refused:
            return Step.DENY, progress.end(Step.DENY, "consent"), decision, None
        follower = await self.reserve(task, decision.ranking)
        if follower is None:
            return Step.GIVE_BACK, progress.give_back(reason), None, None
        return Step.MOVE, self.leased(task, progress, follower, Step.MOVE), decision, follower

    async def _report(self, agent_id: str, ending: Ending | None, latency: float) -> None:
        make = partial(Report, owner=self.owner, heard=[Heard(agent_id, ending, latency)])
        # Late, it is handled all the same; with a registry that crashed, we are about to be started again as well.
        with contextlib.suppress(AskTimeout, ActorCrashed):
            await self._registry.ask(make, within=ASK_S)

    async def _break_off(self, record: TaskRecord, agent_id: str) -> None:
        """We are being stopped, or failed ourselves. What is posted here is done even if nobody waits for it."""
        with anyio.move_on_after(CLEAN_UP_S, shield=True):
            progress = record.progress.give_back("interrupted")
            audit = draft(Step.GIVE_BACK.value, record, progress, self._environment.now())
            async with anyio.create_task_group() as group:
                group.start_soon(self._write, Transition(record, progress, audit), monotonic())
                group.start_soon(self._release_quietly, agent_id)

    async def _release_quietly(self, agent_id: str) -> None:
        try:
            await self.release(agent_id)
        except KernelError:
            # The slots of this owner are freed as a whole when it starts again.
            return


def _waited(task: Task, now: float) -> float:
    return max(0.0, now - task.created_at)
