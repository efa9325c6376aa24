"""Owns the agents: who they are, how they are, how many calls each has in flight. Publishes it all at each change."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from math import inf
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import replace

from orchestrator.actors.events import AgentChanged, Emit
from orchestrator.actors.messages import (
    AllowAgent,
    Directory,
    DrainAgent,
    Heard,
    Heartbeat,
    LeasesChanged,
    Register,
    RegistryMessage,
    ReleaseAll,
    RemoveAgent,
    Report,
    Reserve,
    Wish,
)
from orchestrator.actors.pull_leases import PULLED, PullLeases
from orchestrator.actors.rosters import Roster
from orchestrator.domain.agent import Agent, AgentView, Sighting
from orchestrator.domain.allowance import Gate
from orchestrator.domain.audit import AuditDraft
from orchestrator.domain.errors import Forbidden, NotFound, OrchestratorError, Overloaded
from orchestrator.domain.health import Health
from orchestrator.domain.identity import Principal
from orchestrator.domain.sharing import merged
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.monotonic import monotonic
from orchestrator.kernel.watch import Watch
from orchestrator.outbound.ports import Busy, Declined, Garbled, Refused, Succeeded, TimedOut
from orchestrator.storage.agent_store import AgentsUnavailable
from orchestrator.storage.ports import LedgerReader

M = TypeVar("M")

SHARE_EVERY_S = 0.4
"""How often replicas look at what the others have heard, so that an agent is used by all within a second."""

MOST_LEASES = 10_000
BATCH = 256
"""Messages after which the agents are published, if so many wait."""


class Registry:
    """Answers from memory; what must survive the process goes through the ledger first."""

    def __init__(
        self,
        environment: Environment,
        roster: Roster,
        reader: LedgerReader,
        directory: Watch[Directory],
        leases: PullLeases,
        emit: Emit,
        max_agents: int,
        gate: Gate,
    ) -> None:
        self._environment, self._roster, self._reader = environment, roster, reader
        self._directory, self._leases, self._emit, self._max_agents = directory, leases, emit, max_agents
        self._gate = gate
        self._views: dict[str, AgentView] = {}
        self._reserved: dict[str, Counter[str]] = {}
        """The slots of each agent, by who has reserved them."""
        self._unpublished = False
        self._joining: set[str] = set()
        self._changing: dict[str, anyio.Lock] = {}
        """By the agents of which what they are is being written now."""
        self._since = 0.0
        self._to_tell: dict[str, Sighting] = {}
        """What other replicas are still to be told."""
        self._touched: set[str] = set()
        """Agents that changed here since the last look at what others say of them began."""

    async def run(self, inbox: Inbox[RegistryMessage]) -> None:
        if not self._leases.loaded:
            # Those beyond a page are not counted: until they end their agents may have a few tasks more than they said.
            self._leases.load(await self._reader.leased(PULLED, MOST_LEASES))
        now = self._since = monotonic()
        agents: Sequence[Agent] = []
        with suppress(AgentsUnavailable):
            agents = await self._agents()
        # A restart proves nothing of anybody: agents that were known before are unknown until they are heard of.
        self._views = {
            agent.agent_id: AgentView(agent, Health(since=now), self._in_flight(agent.agent_id)) for agent in agents
        }
        self._publish()
        async with anyio.create_task_group() as group:
            if self._roster.shared:
                group.start_soon(self._share)
            inbox.ready()
            async for batch in inbox.batches(BATCH):
                for message in batch:
                    self._handle(message, group)
                # Nobody else runs in between: who was answered meanwhile finds what the answer rests on.
                if self._unpublished:
                    self._publish()
            group.cancel_scope.cancel()

    def _handle(self, message: RegistryMessage, group: TaskGroup) -> None:
        match message:
            case Reserve():
                now = monotonic()
                message.reply.send([self._reserve(message.owner, wish, now) for wish in message.wishes])
            case Report():
                for agent_id, calls in Counter([heard.agent_id for heard in message.heard]).items():
                    self._free(message.owner, agent_id, calls)
                now = monotonic()
                for heard in message.heard:
                    self._judge(heard, now)
                message.reply.send(None)
            case ReleaseAll():
                for agent_id, owners in list(self._reserved.items()):
                    self._free(message.owner, agent_id, owners[message.owner])
                message.reply.send(None)
            case LeasesChanged(agent_id):
                self._recount(agent_id)
            case Heartbeat():
                self._heartbeat(message)
            case Register():
                group.start_soon(self._in_turn, message.agent.agent_id, self._register, message)
            case AllowAgent():
                group.start_soon(self._in_turn, message.agent_id, self._allow, message)
            case DrainAgent():
                group.start_soon(self._ask_to_drain, message)
            case RemoveAgent():
                group.start_soon(self._in_turn, message.agent_id, self._remove, message)

    async def _in_turn(self, agent_id: str, change: Callable[[M], Awaitable[None]], message: M) -> None:
        """What becomes of an agent is judged by what it is once the changes before are written: none is lost."""
        lock = self._changing.setdefault(agent_id, anyio.Lock())
        async with lock:
            await change(message)
        if not lock.locked():
            self._changing.pop(agent_id, None)

    def _reserve(self, owner: str, wish: Wish, now: float) -> str | None:
        for agent_id in wish.ranking:
            view = self._views.get(agent_id)
            # The ranking is a moment old: who was ejected, paused or drained since, or is on trial, is passed over.
            if (
                view is None
                or view.agent.quarantined
                or not view.health.availability(now, inf).usable
                or view.free(urgent=wish.urgent) <= 0
            ):
                continue
            if agent_id not in self._reserved:
                self._reserved[agent_id] = Counter()
            self._reserved[agent_id][owner] += 1
            self._put(replace(view, in_flight=self._in_flight(agent_id), health=view.health.called()))
            return agent_id
        return None

    def _in_flight(self, agent_id: str) -> int:
        """The slots that are reserved of the agent, and the tasks that it took itself."""
        reserved = self._reserved.get(agent_id)
        return (reserved.total() if reserved else 0) + self._leases.count(agent_id, self._environment.now)

    def _recount(self, agent_id: str) -> None:
        view = self._views.get(agent_id)
        if view is not None:
            self._update(replace(view, in_flight=self._in_flight(agent_id)))

    def _free(self, owner: str, agent_id: str, count: int) -> None:
        owners = self._reserved.get(agent_id) or Counter[str]()
        held = min(count, owners[owner])
        owners[owner] -= held
        if not owners.total():
            self._reserved.pop(agent_id, None)
        view = self._views.get(agent_id)
        if view is not None and held:
            self._put(replace(view, in_flight=self._in_flight(agent_id), health=view.health.untried()))

    def _judge(self, heard: Heard, now: float) -> None:
        """What the end of a call says of the agent's health. That it declined a task says nothing against it."""
        agent_id = heard.agent_id
        view = self._views.get(agent_id)
        if view is None or heard.ending is None:
            return
        health = view.health
        match heard.ending:
            case Busy(seconds):
                # Without Retry-After it lives, and no more is known: how fast it says no must not make it attractive.
                health = health.paused(now, seconds or 0.0)
            case Succeeded() | Declined():
                health = health.answered(now, heard.latency)
            case Refused() | TimedOut() | Garbled():
                health = health.failed(now, refused=isinstance(heard.ending, Refused))
        if health.ejected_until is not None and health.ejected_until != view.health.ejected_until:
            self._emit(AgentChanged(agent_id, "ejected"))
        elif health.ejected_until is None and view.health.ejected_until is not None:
            self._emit(AgentChanged(agent_id, "back"))
        self._put(replace(view, health=health))

    def _heartbeat(self, message: Heartbeat) -> None:
        view = self._views.get(message.agent_id)
        if view is None:
            message.reply.fail(_unknown())
            return
        if view.health.ejected_until is not None:
            self._emit(AgentChanged(message.agent_id, "back"))
        health = view.health.heard(monotonic(), message.load)
        # An agent that drains goes on beating until it is gone; only a registration says that it is back.
        view = replace(view, health=replace(health, draining=view.health.draining))
        self._update(view)
        self._hear(message.agent_id, message.load)
        message.reply.send(view)

    async def _ask_to_drain(self, message: DrainAgent) -> None:
        by, agent_id = message.principal, message.agent_id
        if agent_id in self._views and by.subject != agent_id:
            # An agent that goes says so each time; that somebody else sends it away is a decision.
            try:
                await self._roster.note(self._draft("agent_drained", agent_id, by))
            except OrchestratorError as error:
                message.reply.fail(error)
                return
        self._drain(message)

    def _drain(self, message: DrainAgent | RemoveAgent) -> None:
        view = self._views.get(message.agent_id)
        if view is None:
            message.reply.fail(_unknown())
            return
        view = replace(view, health=view.health.drained())
        self._update(view)
        self._hear(message.agent_id, draining=True)
        self._emit(AgentChanged(message.agent_id, "draining"))
        message.reply.send(view)

    async def _register(self, message: Register) -> None:
        agent = message.agent
        if not message.principal.owns(agent.agent_id):
            await self._refuse(message)
            return
        known = self._views.get(agent.agent_id)
        agent = self._gate.admitted(known and known.agent, agent, by_operator=message.principal.operates)
        if known is None and len(self._views.keys() | self._joining) >= self._max_agents:
            message.reply.fail(Overloaded("No more agents can be registered.", retry_after=30))
            return
        self._joining.add(agent.agent_id)
        try:
            if known is None or known.agent != agent:
                await self._roster.save(agent, self._draft(_taken_in(agent), agent.agent_id, message.principal))
        except OrchestratorError as error:
            message.reply.fail(error)
            return
        finally:
            self._joining.discard(agent.agent_id)
        # One that was forgotten with calls in flight comes back with them.
        current = self._views.get(agent.agent_id) or AgentView(agent, in_flight=self._in_flight(agent.agent_id))
        view = replace(current, agent=agent, health=current.health.heard(monotonic(), 0.0))
        self._update(view)
        self._hear(agent.agent_id, 0.0, draining=False)
        self._emit(AgentChanged(agent.agent_id, "quarantined" if agent.quarantined else "registered"))
        message.reply.send(view)

    async def _refuse(self, message: Register) -> None:
        """The trail tells who tried to be somebody else."""
        try:
            await self._roster.note(self._draft("agent_refused", message.agent.agent_id, message.principal))
        except OrchestratorError as error:
            message.reply.fail(error)
            return
        message.reply.fail(Forbidden("An agent registers as itself: its id is the name that it shows."))

    async def _allow(self, message: AllowAgent) -> None:
        view = self._views.get(message.agent_id)
        if view is None:
            message.reply.fail(_unknown())
            return
        agent = self._gate.allowed(view.agent, raw_media=message.raw_media)
        if agent is None:
            message.reply.fail(Forbidden("The list of agents in the settings (agents.allowed) says otherwise."))
            return
        try:
            await self._roster.save(agent, self._draft("agent_allowed", message.agent_id, message.principal))
        except OrchestratorError as error:
            message.reply.fail(error)
            return
        current = self._views.get(message.agent_id, view)
        if current.agent == view.agent:
            current = replace(current, agent=agent)
            self._update(current)
            self._emit(AgentChanged(message.agent_id, "allowed"))
        message.reply.send(current)

    async def _remove(self, message: RemoveAgent) -> None:
        view = self._views.get(message.agent_id)
        if view is None:
            message.reply.fail(_unknown())
            return
        if not self._gate.changes and not message.principal.operates:
            # Forgotten, it could come back as something else. It is remembered, and gets nothing.
            self._drain(message)
            return
        try:
            await self._roster.forget(
                message.agent_id, self._draft("agent_removed", message.agent_id, message.principal)
            )
        except OrchestratorError as error:
            message.reply.fail(error)
            return
        self._views.pop(message.agent_id, None)
        self._to_tell.pop(message.agent_id, None)
        self._touched.add(message.agent_id)
        self._publish()
        self._emit(AgentChanged(message.agent_id, "removed"))
        message.reply.send(view)

    async def _agents(self) -> list[Agent]:
        """Those stored, within the list as it is now."""
        stored = await self._roster.agents()
        return [self._gate.bounded(agent) for agent in stored]

    def _hear(self, agent_id: str, load: float | None = None, *, draining: bool | None = None) -> None:
        """This replica knows, and the others are to be told."""
        self._touched.add(agent_id)
        if self._roster.shared:
            sighting = Sighting(agent_id, self._environment.now(), load, draining)
            self._to_tell[agent_id] = sighting.after(self._to_tell.get(agent_id))

    async def _share(self) -> None:
        while True:
            await anyio.sleep(SHARE_EVERY_S)
            # What could not be told, or heard, is so the next time.
            with suppress(OrchestratorError, AgentsUnavailable):
                await self._tell()
                await self._listen()

    async def _tell(self) -> None:
        telling, self._to_tell = self._to_tell, {}
        if not telling:
            return
        try:
            await self._roster.tell(list(telling.values()))
        except BaseException:
            for agent_id, sighting in self._to_tell.items():
                telling[agent_id] = sighting.after(telling.get(agent_id))
            self._to_tell = telling
            raise

    async def _listen(self) -> None:
        self._touched = set(self._to_tell)
        agents = await self._agents()
        sightings = {sighting.agent_id: sighting for sighting in await self._roster.sightings()}
        now = monotonic()
        views = merged(
            self._views,
            agents,
            sightings,
            now=now,
            ahead=self._environment.now() - now,
            since=self._since,
            own=self._touched | self._joining,
        )
        views = {name: replace(view, in_flight=self._in_flight(name)) for name, view in views.items()}
        if views != self._views:
            self._views = views
            self._publish()

    def _draft(self, event: str, agent_id: str, by: Principal) -> AuditDraft:
        return AuditDraft(event=event, created_at=self._environment.now(), agent_id=agent_id, principal=by.subject)

    def _update(self, view: AgentView) -> None:
        self._put(view)
        self._publish()

    def _put(self, view: AgentView) -> None:
        """To be published once the messages at hand are done with."""
        self._views[view.agent.agent_id] = view
        self._unpublished = True

    def _publish(self) -> None:
        self._unpublished = False
        self._directory.publish(dict(self._views))


def _unknown() -> NotFound:
    return NotFound("There is no such agent.")


def _taken_in(agent: Agent) -> str:
    return "agent_quarantined" if agent.quarantined else "agent_registered"
