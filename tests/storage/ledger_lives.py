"""Random lives of a ledger: batches drawn by hypothesis, made into commands on what a ledger has answered so far."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from ledger_builders import NOW, a_key, accept, draft, move, recount, task_id, trail
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.domain.agent import Agent
from orchestrator.domain.lifecycle import TRANSITIONS, Progress, State
from orchestrator.domain.task import Priority
from orchestrator.storage.commands import (
    Accepted,
    Command,
    Duplicate,
    ExpireKeys,
    Failed,
    ForgetAgent,
    Moved,
    Note,
    Outcome,
    SaveAgent,
    TaskRecord,
)
from orchestrator.storage.ports import AuditQuery, Ledger, LedgerReader

TASKS, LANES, AGENTS = 8, ("embed|--|", "embed|c-|", "audit_log|--|clinic-ü"), ("agent-1", "agent-2")


class AcceptOp(Struct, frozen=True):
    number: int
    priority: Priority
    lane: str
    due_in: float | None
    key: str | None
    fingerprint: str
    scope: str
    expires_in: float | None
    limit: int


class StepOp(Struct, frozen=True):
    """A step of any record ever seen, so of many that are stale by now."""

    record: int
    step: int


class AgentOp(Struct, frozen=True):
    agent_id: str
    save: bool


class NoteOp(Struct, frozen=True):
    text: str


class BadOp(Struct, frozen=True):
    """A command that cannot be stored."""

    payload: bool


class ExpireOp(Struct, frozen=True):
    pass


Op = AcceptOp | StepOp | AgentOp | NoteOp | BadOp | ExpireOp

seconds = st.sampled_from([None, 5.0, 20.0, 60.0])
accepts = st.builds(
    AcceptOp,
    number=st.integers(1, TASKS),
    priority=st.sampled_from(Priority),
    lane=st.sampled_from(LANES),
    due_in=seconds,
    key=st.sampled_from([None, None, "key-1", "key-2"]),
    fingerprint=st.sampled_from(["body-1", "body-2"]),
    scope=st.sampled_from(["", "clinic"]),
    expires_in=seconds,
    limit=st.sampled_from([0, 0, 1, 2]),
)
steps = st.builds(StepOp, record=st.integers(0, 40), step=st.integers(0, 7))
others = st.one_of(
    st.builds(AgentOp, agent_id=st.sampled_from(AGENTS), save=st.booleans()),
    st.builds(NoteOp, text=st.text(max_size=5)),
    st.builds(BadOp, payload=st.booleans()),
    st.builds(ExpireOp),
)
operations = st.one_of(accepts, accepts, steps, steps, steps, others)
lives = st.lists(st.tuples(st.sampled_from([0.0, 3.0, 30.0]), st.lists(operations, max_size=6)), max_size=8)
"""Batches, each some seconds after the one before it."""


class Life:
    """What has been seen so far, and the clock."""

    def __init__(self) -> None:
        self.now = NOW
        self.seen: list[TaskRecord] = []

    def commands(self, operations: Sequence[Op]) -> list[Command]:
        """The operations as commands; a step of nothing is left out."""
        return [command for op in operations if (command := self._command(op)) is not None]

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Remembers the records in the outcomes."""
        for outcome in outcomes:
            match outcome:
                case Accepted(record) | Moved(record) | Duplicate(record):
                    self.seen.append(record)
                case _:
                    pass

    def _command(self, op: Op) -> Command | None:
        match op:
            case AcceptOp():
                return self._accept(op)
            case StepOp():
                return self._step(op)
            case AgentOp(agent_id, save):
                agent = Agent(agent_id=agent_id, endpoint="http://a", capabilities=("embed",), cost=self.now)
                audit = draft("agent", at=self.now)
                return SaveAgent(agent, audit) if save else ForgetAgent(agent_id, audit)
            case NoteOp(text):
                return Note(replace(draft("refused", at=self.now), reason=text))
            case BadOp(payload):
                bad: dict[str, Any] = {"payload": {"x": object()}} if payload else {"progress": Progress(attempt=2**64)}
                return accept(TASKS + 1, at=self.now, **bad)
            case ExpireOp():
                return ExpireKeys(self.now)

    def _accept(self, op: AcceptOp) -> Command:
        expires_at = None if op.expires_in is None else self.now + op.expires_in
        key = None if op.key is None else a_key(op.key, op.fingerprint, op.scope, expires_at)
        progress = Progress(due_at=None if op.due_in is None else self.now + op.due_in)
        fields: dict[str, Any] = {"priority": op.priority, "deadline_at": self.now + 40.0}
        return accept(op.number, key=key, limit=op.limit, lane=op.lane, progress=progress, at=self.now, **fields)

    def _step(self, op: StepOp) -> Command | None:
        open_ones = [record for record in self.seen if not record.progress.state.final]
        if not open_ones:
            return None
        record = open_ones[-1 - op.record % len(open_ones)]
        possible = list(TRANSITIONS[record.progress.state])
        return move(record, possible[op.step % len(possible)], at=self.now, output={"at": self.now})


def plain(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes, without the words for what failed: each database has its own."""
    return [Failed("") if isinstance(outcome, Failed) else outcome for outcome in outcomes]


async def view(reader: LedgerReader, now: float) -> dict[str, Any]:
    """Everything that a ledger can be asked, as one value to compare."""
    seen: dict[str, Any] = {f"task {n}": await reader.task(task_id(n)) for n in range(1, TASKS + 2)}
    for state in State:
        seen[f"in {state}"] = await reader.tasks(state)
        seen[f"in {state}, second"] = await reader.tasks(state, after=1, limit=1)
    for priority, lane in await reader.lanes():
        seen[f"ready {priority} {lane}"] = await reader.ready(priority, lane, after=0, limit=9)
        seen[f"ready {priority} {lane}, later"] = await reader.ready(priority, lane, after=2, limit=1)
    for ahead in (0.0, 10.0, 100.0):
        seen[f"due {ahead}"] = await reader.due(now + ahead, 3)
        seen[f"lapsed {ahead}"] = await reader.lapsed(now + ahead, 3)
        seen[f"overdue {ahead}"] = await reader.overdue(now + ahead, 3)
    for priority in (*Priority, None):
        # Positions are each ledger's own; their order is not.
        seen[f"outbox {priority}"] = [(e.task_id, e.reason) for e in await reader.outbox(priority, 9)]
    seen["tickets"] = {t.task_id: t for t in await reader.tickets([task_id(n) for n in range(1, TASKS + 2)])}
    seen["lanes"], seen["next due"] = await reader.lanes(), await reader.next_due()
    seen["leased"], seen["agents"] = await reader.leased("boot", 9), await reader.agents()
    seen["audit"] = await reader.audit(AuditQuery(task_id=task_id(1), limit=2))
    seen["trail"] = await trail(reader)
    return seen


async def live(ledgers: Sequence[Ledger], batches: Sequence[tuple[float, Sequence[Op]]]) -> None:
    """Puts each batch to every ledger; asserts that all answer, and then are, as the first one, and count rightly."""
    life = Life()
    first, *rest = ledgers
    for seconds, operations in batches:
        life.now += seconds
        commands = life.commands(operations)
        outcomes = await first.commit(commands)
        expected = await view(first, life.now)
        for other in rest:
            assert plain(await other.commit(commands)) == plain(outcomes)
            assert await view(other, life.now) == expected
        life.learn(outcomes)
        for ledger in ledgers:
            assert ledger.depths() == await recount(ledger)
