"""Traces of agents that ask for work: a span from each lease to what ended it. Time is virtual."""

from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from orchestrator.actors.messages import Granted
from orchestrator.actors.pull_leases import FORGOTTEN_S, PullLeases
from orchestrator.domain.agent import Agent
from orchestrator.domain.identity import ANONYMOUS
from orchestrator.embedding import Orchestrator
from orchestrator.outbound.ports import Declined, Succeeded
from orchestrator.settings import load
from orchestrator.storage.memory import MemoryLedger
from orchestrator.testing import ScriptedAgents, a_request, trail, virtual_environment
from orchestrator.tracing import Tracing

pytestmark = pytest.mark.anyio

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DONE = Succeeded({"said": "private"})


@pytest.fixture
def anyio_backend(virtual_clock):
    return virtual_clock


@pytest.fixture
def ledger():
    return MemoryLedger(exclusive=False)


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def replica(ledger, spans):
    """Makes orchestrators on one ledger and by one clock, whose spans come together."""
    environment = virtual_environment()

    def make() -> Orchestrator:
        return Orchestrator(
            load(environ={"DATABASE_URL": "memory://", "ORCHESTRATOR_RETRY_BASE": "0.01"}),
            environment=environment, client=ScriptedAgents(), ledger=ledger,
            tracing=Tracing(SimpleSpanProcessor(spans), environment.now),
        )  # fmt: skip

    return make


async def leased(system: Orchestrator, **options: Any) -> Granted:
    await system.gateway.register(Agent(agent_id="puller-1", capabilities=("embed",)))
    (granted,) = await system.gateway.lease("puller-1", **options)
    return granted


async def sent(system: Orchestrator) -> str:
    routed = await system.gateway.acting_for(ANONYMOUS, PARENT).route(a_request("embed", case_id="secret-case"))
    return routed.record.task.task_id


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def header(context: SpanContext | None) -> str:
    assert context is not None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def hexed(span: ReadableSpan) -> str:
    return header(span.get_span_context())


def below(span: ReadableSpan) -> str:
    return header(span.parent)


async def test_from_the_lease_to_the_result(replica, spans):
    """One span, below the wait in the queue, which is linked to the acceptance; its id was handed with the lease."""
    async with replica() as system:
        await sent(system)
        await anyio.sleep(30)
        granted = await leased(system)
        for _ in range(5):
            await anyio.sleep(6)
            await system.gateway.extend(granted.call.task_id, granted.hold)
        await system.gateway.give_result(granted.call.task_id, granted.hold, DONE)
    (accept,), (dispatch,), (lease,) = (named(spans, name) for name in ("accept", "dispatch", "lease"))
    assert hexed(lease) == granted.call.traceparent
    assert lease.kind is SpanKind.CLIENT
    assert (below(lease), below(dispatch)) == (hexed(dispatch), hexed(accept))
    assert hexed(accept) == header(dispatch.links[0].context)
    assert below(accept) == PARENT
    assert (seconds(dispatch), seconds(lease)) == (pytest.approx(30, abs=0.1), pytest.approx(30, abs=0.1))
    fields = dict(lease.attributes or {})
    assert fields.pop("orchestrator.task_id") == granted.call.task_id
    assert fields == {
        "orchestrator.attempt": 1, "orchestrator.agent_id": "puller-1", "orchestrator.outcome": "succeeded",
    }  # fmt: skip
    assert lease.status.status_code is StatusCode.UNSET
    told = "".join(span.to_json() for span in spans.get_finished_spans())
    assert "private" not in told
    assert "secret" not in told


async def test_attempts_without_a_result(replica, spans):
    """An agent says no, one is not heard of again, a task is cancelled: each leaves a span that failed."""
    async with replica() as system:
        task_id = await sent(system)
        first = await leased(system)
        await anyio.sleep(1)
        await system.gateway.give_result(task_id, first.hold, Declined(retryable=True))
        second = await leased(system, wait_s=5)
        third = await leased(system, wait_s=50)
        await anyio.sleep(2)
        await system.gateway.cancel(task_id)
    leases = named(spans, "lease")
    assert [hexed(lease) for lease in leases] == [one.call.traceparent for one in (first, second, third)]
    outcomes = [(lease.attributes or {})["orchestrator.outcome"] for lease in leases]
    assert outcomes == ["agent_error", "timeout", "cancelled"]
    assert {lease.status.status_code for lease in leases} == {StatusCode.ERROR}
    assert [seconds(lease) for lease in leases] == [pytest.approx(s, abs=1.1) for s in (1, 12, 2)]


async def test_a_lease_that_nobody_heard_of(replica, ledger, spans):
    """Was no attempt, at whatever moment who asked went away: there is no span of it."""
    told: list[str] = []
    async with replica() as system:
        for steps in range(60):
            await sent(system)
            async with anyio.create_task_group() as group:
                group.start_soon(ask, system, told)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            if len(told) == steps:
                await ask(system, told)
    assert "given_back" in [entry.event for entry in await trail(ledger)]
    assert [hexed(lease) for lease in named(spans, "lease")] == told


async def ask(system: Orchestrator, told: list[str]) -> None:
    """Takes a task and ends it."""
    granted = await leased(system, wait_s=20)
    with anyio.CancelScope(shield=True):
        await system.gateway.give_result(granted.call.task_id, granted.hold, DONE)
        told.append(granted.call.traceparent)


async def test_a_result_that_goes_to_another_replica(replica, spans):
    """Its span begins with the lease all the same, whether that one was there or started meanwhile."""
    async with replica() as one, replica() as other:
        for _ in range(2):
            await sent(one)
        first, second = await leased(one), await leased(one)
        await anyio.sleep(3)
        await other.gateway.give_result(first.call.task_id, first.hold, DONE)
        async with replica() as new:
            await anyio.sleep(3)
            await new.gateway.give_result(second.call.task_id, second.hold, DONE)
    leases = named(spans, "lease")
    assert [hexed(lease) for lease in leases] == [first.call.traceparent, second.call.traceparent]
    assert [seconds(lease) for lease in leases] == [pytest.approx(s, abs=0.3) for s in (3, 6)]


async def test_leases_whose_end_another_replica_saw(replica):
    """Are forgotten in the end, and not kept for as long as the process lives."""
    async with replica() as one, replica() as other:
        leases: PullLeases = one._system.leases
        for _ in range(3):
            await sent(one)
            granted = await leased(one)
            await other.gateway.give_result(granted.call.task_id, granted.hold, DONE)
        assert len(leases) == 3
        await anyio.sleep(FORGOTTEN_S + 20)
        await sent(one)
        await leased(one)
        assert len(leases) == 1
