"""Traces for OpenTelemetry, an extra: the acceptance of a task, its wait in the queue, and each attempt of an agent.

Spans are made when they are over, out of the events that metrics are made of as well: where there are no traces,
nothing is done for them. What is in a span is in the event: ids and words of ours, nothing of a payload.
"""

from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from orchestrator import __version__
from orchestrator.actors.events import AttemptEnded, Event, TaskAccepted, TasksAccepted
from orchestrator.domain.trace import Trace, trace_of

FLUSH_MS = 3_000
"""What the last spans are given when the process ends."""


class Tracing:
    """Makes spans of events; `now` is the wall clock in seconds. One for each orchestrator."""

    def __init__(self, processor: SpanProcessor, now: Callable[[], float]) -> None:
        self._now = now
        self._ids = _Ids()
        resource = Resource.create({"service.name": "orchestrator", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("orchestrator", __version__)

    def emit(self, event: Event) -> None:
        """Makes the spans that are over with `event`."""
        match event:
            case TasksAccepted(tasks, seconds):
                for task in tasks:
                    self._accepted(task, seconds)
            case AttemptEnded():
                self._attempted(event)
            case _:
                pass

    def close(self) -> None:
        """Hands over what is waiting, for a few seconds at most. Blocks."""
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()

    def _accepted(self, event: TaskAccepted, seconds: float) -> None:
        trace, end = trace_of(event.task_id, event.traceparent), self._now()
        self._ids.next(trace.trace_id, trace.acceptance_id)
        fields = {"orchestrator.task_id": event.task_id, "orchestrator.task_type": event.task_type}
        fields |= {"orchestrator.priority": event.priority.value, "orchestrator.queued": event.queued}
        self._span("accept", SpanKind.SERVER, trace, trace.parent_id, end - seconds, end, fields)

    def _attempted(self, event: AttemptEnded) -> None:
        trace, end = trace_of(event.task_id, event.traceparent), self._now()
        begin = end - event.seconds
        fields = {"orchestrator.task_id": event.task_id, "orchestrator.attempt": event.attempt}
        link = Link(_context(trace, trace.acceptance_id))
        accepted, ready = trace.acceptance_id, begin - event.waited
        dispatch = self._span("dispatch", SpanKind.CONSUMER, trace, accepted, ready, begin, fields, link)
        self._ids.next(trace.trace_id, trace.call_id(event.attempt))
        fields |= {"orchestrator.agent_id": event.agent_id, "orchestrator.outcome": event.outcome}
        attempt = self._start("lease" if event.pulled else "call", SpanKind.CLIENT, trace, dispatch, begin, fields)
        if event.outcome != "succeeded":
            attempt.set_status(Status(StatusCode.ERROR))
        attempt.end(_ns(end))

    def _span(
        self, name: str, kind: SpanKind, trace: Trace, parent: str | None, begin: float, end: float,
        fields: dict[str, Any], *links: Link,
    ) -> str:  # fmt: skip
        """Makes a whole span and returns its id."""
        span = self._start(name, kind, trace, parent, begin, fields, *links)
        span.end(_ns(end))
        return f"{span.get_span_context().span_id:016x}"

    def _start(
        self, name: str, kind: SpanKind, trace: Trace, parent: str | None, begin: float, fields: dict[str, Any],
        *links: Link,
    ) -> Span:  # fmt: skip
        context = set_span_in_context(NonRecordingSpan(_context(trace, parent))) if parent else Context()
        return self._tracer.start_span(name, context, kind, fields, links, _ns(begin))


class _Ids(RandomIdGenerator):
    """Gives the ids that it was told, once, and random ones otherwise."""

    def __init__(self) -> None:
        self._trace = self._span = 0

    def next(self, trace_id: str, span_id: str) -> None:
        self._trace, self._span = int(trace_id, 16), int(span_id, 16)

    def generate_trace_id(self) -> int:
        told, self._trace = self._trace, 0
        return told or super().generate_trace_id()

    def generate_span_id(self) -> int:
        told, self._span = self._span, 0
        return told or super().generate_span_id()


def _context(trace: Trace, span_id: str) -> SpanContext:
    flags = TraceFlags(int(trace.flags, 16))
    return SpanContext(int(trace.trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=flags)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def tracing_to(endpoint: str, now: Callable[[], float]) -> Tracing:
    """Sends spans to the OTLP endpoint (HTTP), in a thread of its own and within bounds: what is too much is lost."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    return Tracing(BatchSpanProcessor(exporter, max_queue_size=2_048, schedule_delay_millis=1_000), now)
