"""Traces: whole from the sender to the agent, empty of anything private, and made only when they are wanted."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from orchestrator.domain.identity import ANONYMOUS
from orchestrator.domain.trace import checked, trace_of
from orchestrator.embedding import Orchestrator
from orchestrator.kernel.environment import Environment
from orchestrator.outbound.ports import Declined, Succeeded
from orchestrator.settings import load
from orchestrator.storage.memory import MemoryLedger
from orchestrator.testing import ScriptedAgent, ScriptedAgents, Service, a_request, an_agent
from orchestrator.tracing import Tracing

pytestmark = pytest.mark.anyio

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(spans: InMemorySpanExporter):
    """An orchestrator without network and disk whose spans are kept."""

    def make(client: ScriptedAgents) -> Orchestrator:
        environment = Environment.real()
        return Orchestrator(
            load(environ={"DATABASE_URL": "memory://", "ORCHESTRATOR_RETRY_BASE": "0.001"}),
            environment=environment, client=client, ledger=MemoryLedger(),
            tracing=Tracing(SimpleSpanProcessor(spans), environment.now),
        )  # fmt: skip

    return make


def ids(span: ReadableSpan) -> tuple[str, str]:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def parent(span: ReadableSpan) -> str:
    assert span.parent is not None
    return f"{span.parent.span_id:016x}"


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


async def done(running: Orchestrator, traceparent: str | None = None, **fields: Any) -> None:
    gateway = running.gateway.acting_for(ANONYMOUS, traceparent)
    await gateway.register(an_agent("agent-1", "embed"))
    routed = await gateway.route(a_request("embed", **fields))
    assert (await gateway.task(routed.record.task.task_id, wait_s=20)).progress.state.final


async def test_one_trace_from_the_sender_to_the_agent(traced, spans):
    """Acceptance is below the sender's span, the wait below it and linked, the call below that; the agent is told."""
    client = ScriptedAgents()
    async with traced(client) as running:
        await done(running, PARENT)
    (accept,), (dispatch,), (call,) = (named(spans, name) for name in ("accept", "dispatch", "call"))
    assert {ids(span)[0] for span in (accept, dispatch, call)} == {PARENT[3:35]}
    assert [span.kind for span in (accept, dispatch, call)] == [SpanKind.SERVER, SpanKind.CONSUMER, SpanKind.CLIENT]
    assert parent(accept) == PARENT[36:52]
    assert parent(dispatch) == ids(accept)[1] == f"{dispatch.links[0].context.span_id:016x}"
    assert parent(call) == ids(dispatch)[1]
    assert client.calls[0].traceparent == f"00-{ids(call)[0]}-{ids(call)[1]}-01"
    assert all(begin <= end for begin, end in map(times, (accept, dispatch, call)))
    assert times(dispatch)[1] == times(call)[0]


async def test_a_task_that_is_tried_again(traced, spans):
    """Each call is a span of its own, in the same trace; the one that failed says so."""
    client = ScriptedAgents(**{"agent-1": [Declined(retryable=True), Succeeded({})]})
    async with traced(client) as running:
        await done(running)
    first, second = named(spans, "call")
    assert ids(first)[0] == ids(second)[0] == ids(named(spans, "accept")[0])[0]
    assert ids(first)[1] != ids(second)[1]
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert named(spans, "accept")[0].parent is None
    assert [(span.attributes or {})["orchestrator.attempt"] for span in (first, second)] == [1, 2]


async def test_nothing_private_is_in_a_span(traced, spans):
    """Neither of the payload nor of the case, nor what the agent said."""
    async with traced(ScriptedAgents(**{"agent-1": [Succeeded({"said": "private"})]})) as running:
        await done(running, case_id="private-case", meta={"note": "private"})
    assert len(spans.get_finished_spans()) == 3
    assert "private" not in "".join(span.to_json() for span in spans.get_finished_spans())


@pytest.mark.parametrize(
    "header",
    ["", "x", PARENT.upper(), PARENT + "-more", PARENT[:-1], "01" + PARENT[2:], f"00-{'0' * 32}-{'1' * 16}-01",
     f"00-{'1' * 32}-{'0' * 16}-01", PARENT + "\n"],
)  # fmt: skip
def test_a_header_that_is_none(header: str):
    """It is as if there were none: the trace is the task's own."""
    task_id = "task-" + "ab" * 16
    assert checked(header) is None
    assert trace_of(task_id, header).trace_id == "ab" * 16
    assert trace_of(task_id, header).parent_id is None


class Collector:
    """An OTLP endpoint of ours."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()

    async def __aenter__(self) -> "Collector":
        app = web.Application()
        app.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.paths.add(request.path)
        body = await request.read()
        self.bodies.append(body)
        return web.Response(content_type="application/x-protobuf")

    def spans(self) -> Iterator[Any]:
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    yield from scope.spans


async def test_over_http_to_a_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """When the orchestrator has stopped, its spans are at the collector, in the trace that the client named."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    async with Collector() as collector, ScriptedAgent("agent-1") as agent:
        environ = {"ORCHESTRATOR_TRACING_OTLP_ENDPOINT": collector.url}
        async with Service(tmp_path / "ledger.db", environ) as service:
            await service.ask("POST", "/register_agent", json=agent.registration)
            task = {"case_id": "private-case", "task_type": "embed", "payload": {"note": "private"}}
            routed = await service.ask("POST", "/route_task", json=task, headers={"traceparent": PARENT})
            await service.ask("GET", f"/task/{routed.json['task_id']}?wait=20")
        assert collector.paths == {"/v1/traces"}
        found = {span.name: span for span in collector.spans()}
        assert set(found) == {"accept", "dispatch", "call"}
        assert {span.trace_id.hex() for span in found.values()} == {PARENT[3:35]}
        assert found["accept"].parent_span_id.hex() == PARENT[36:52]
        assert agent.calls[0].headers["traceparent"] == f"00-{PARENT[3:35]}-{found['call'].span_id.hex()}-01"
        assert b"private" not in b"".join(collector.bodies)


async def test_the_trace_outlives_the_process(tmp_path: Path):
    """A task that waited across a restart is still called in its sender's trace."""
    async with Service(tmp_path / "ledger.db") as service:
        task = {"case_id": "c", "task_type": "embed", "payload": {}}
        routed = await service.ask("POST", "/route_task", json=task, headers={"traceparent": PARENT})
        assert routed.status == 202
    async with Service(tmp_path / "ledger.db") as service, ScriptedAgent("agent-1") as agent:
        await service.ask("POST", "/register_agent", json=agent.registration)
        await service.ask("GET", f"/task/{routed.json['task_id']}?wait=20")
        assert re.fullmatch(f"00-{PARENT[3:35]}-[0-9a-f]{{16}}-01", agent.calls[0].headers["traceparent"])


async def test_a_collector_that_is_away(tmp_path: Path):
    """Work goes on, and the end does not wait for it."""
    environ = {"ORCHESTRATOR_TRACING_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    async with Service(tmp_path / "ledger.db", environ) as service, ScriptedAgent("agent-1") as agent:
        await service.ask("POST", "/register_agent", json=agent.registration)
        task = {"case_id": "c", "task_type": "embed", "payload": {}}
        routed = await service.ask("POST", "/route_task", json=task)
        answer = await service.ask("GET", f"/task/{routed.json['task_id']}?wait=20")
        assert answer.json["status"] == "succeeded"
        began = anyio.current_time()
        await service.stop()
        assert anyio.current_time() - began < 20
