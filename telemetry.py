"""What the system tells of itself: each event once in a table, as metrics and as a line of the log.

Labels come from closed sets and log fields from an allow-list: no case id, no payload, no agent's words can get in.
"""

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import structlog
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from orchestrator.actors import events as e
from orchestrator.counting import Counters, Durations
from orchestrator.domain.lifecycle import State
from orchestrator.domain.task import Priority
from orchestrator.history import History, Point
from orchestrator.kernel import events as k
from orchestrator.kernel.child import ChildStatus

LOG_FIELDS = frozenset(
    [
        *("event", "level", "timestamp", "logger", "task_id", "task_type", "priority", "attempt", "outcome", "reason"),
        *("state", "code", "agent_id", "change", "denied", "actor", "error", "delay", "policy", "payloads"),
        *("results", "tasks", "writer", "seq", "entry_hash"),
    ]
)
FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
SLOW = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Sample(Struct, frozen=True):
    """What is true at the moment of a scrape. Ages are in seconds."""

    queue_size: Mapping[str, int]
    tasks_ready: Mapping[str, int]
    queue_oldest_age: Mapping[str, float]
    mailbox_depth: Mapping[str, int]
    agents: Mapping[str, int]
    room: int | None = None
    actors: Sequence[ChildStatus] = ()


class Telemetry:
    """Takes events, keeps metrics, writes logs. One for each orchestrator, so that several can live in a process."""

    def __init__(self, queue_names: Mapping[Priority, str]) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry(auto_describe=False)
        self._queues = queue_names
        self._take: Callable[[], Sample] | None = None
        self.history = History()
        self._trace: e.Emit | None = None
        self._define()

    @cached_property
    def _log(self) -> Any:
        return logger().bind()

    def _define(self) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"orchestrator_{name}", text, registry=self.registry)

        def counters(name: str, text: str, *labels: str) -> Counters:
            return Counters(f"orchestrator_{name}", text, labels, self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"orchestrator_{name}", text, registry=self.registry)

        def durations(name: str, text: str, bounds: tuple[float, ...]) -> Durations:
            return Durations(f"orchestrator_{name}", text, bounds, self.registry)

        self._tasks = counters("tasks_total", "Tasks accepted", "task_type", "priority")
        self._queued = counters("tasks_queued_total", "Tasks queued at acceptance", "queue")
        self._failed = counters("tasks_failed_total", "Attempts that failed, and requests refused", "reason")
        self._overrides = counter("consent_overrides_total", "Tasks accepted by breaking the glass")
        self._withdrawals = counter("consents_revoked_total", "Consents revoked")
        self._erasures = counter("tasks_erased_total", "Tasks whose data was destroyed")
        self._strangers = counter("authentication_failures_total", "Requests without valid credentials")
        self._retries = counter("task_retries_total", "Attempts after the first of their task")
        self._ended = counters("tasks_ended_total", "Tasks that reached a final state", "task_type", "state")
        self._sync = counters("sync_attempts_total", "Synchronous attempts", "outcome")
        self._restarts = counters("actor_restarts_total", "Restarts of actors", "actor")
        self._removed = counters("removed_total", "What retention has removed", "what")
        self._ejections = counter("agent_ejections_total", "Agents ejected")
        self._decision = durations("decision_seconds", "From a request to its durable acceptance", FAST)
        self._dispatch = durations("dispatch_seconds", "From acceptance to the first or a later call", SLOW)
        self._attempt = durations("attempt_seconds", "Duration of calls to agents", SLOW)
        self._commit = durations("audit_commit_seconds", "Duration of a ledger batch", FAST)
        self._lag = gauge("audit_lag_seconds", "Duration of the last ledger batch")
        self._writable = gauge("ledger_writable", "1 while the ledger can be written")
        self._loop = gauge("event_loop_lag_seconds", "How late the last tick came")
        self._writable.set(1)
        self._streams = gauge("streams_reachable", "1 while the streams can be reached, where work is carried by them")
        self._told_again = counter("streams_told_again_total", "Times that all that was ready was relayed again")

    def trace(self, emit: e.Emit | None) -> None:
        """Have `emit` make spans of the events; None: nobody does."""
        self._trace = emit

    def sample(self, take: Callable[[], Sample]) -> None:
        """Have `take` called at each scrape."""
        self._take = take
        self.registry.register(_Gauges(take))

    def remember(self, at: float) -> None:
        """Keeps what is true now, `at` seconds since the epoch, if it is time for that again."""
        if self.history.due(at):
            self.history.add(self.now(at))

    def now(self, at: float) -> Point:
        """What is true now, `at` seconds since the epoch, and what was counted so far."""
        sample, ended, failed = self.sampled(), _by_label(self._ended, "state"), _by_label(self._failed, "reason")
        refused = sum(count for reason, count in failed.items() if reason.startswith("E_"))
        return Point(
            at=at,
            ready={p.value: sample.tasks_ready.get(name, 0) for p, name in self._queues.items()},
            oldest={p.value: sample.queue_oldest_age.get(name, 0.0) for p, name in self._queues.items()},
            accepted=sum(_by_label(self._tasks, "priority").values()),
            succeeded=ended.get(State.SUCCEEDED, 0),
            dead=ended.get(State.DEAD, 0),
            failures=sum(failed.values()) - refused,
            retries=sum(_by_label(self._retries, "").values()),
            refused=refused,
            acceptance=self._decision.buckets,
            waiting=self._dispatch.buckets,
            calls=self._attempt.buckets,
        )

    def sampled(self) -> Sample:
        """What is true at this moment."""
        return _NOTHING if self._take is None else self._take()

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop served a timer."""
        self._loop.set(seconds)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def emit(self, event: e.Event) -> None:
        """Counts and logs `event`. Never raises for any event of the language."""
        if self._trace is not None:
            self._trace(event)
        match event:
            # In the order of how many there are: each case is asked in its turn.
            case e.TasksAccepted(tasks, seconds):
                self._accepted(tasks)
                self._decision.observe(seconds, len(tasks))
            case e.TaskDispatched():
                self._dispatch.observe(event.waited)
                if event.attempt > 1:
                    self._retries.inc()
                self._log.debug("task_dispatched", task_id=event.task_id, attempt=event.attempt)
            case e.AttemptEnded():
                self._attempt.observe(event.seconds)
                self.history.worked(event.agent_id)
                if event.outcome == "succeeded" and event.pulled:
                    self.history.pulled(event.agent_id, event.seconds)
                elif event.outcome != "succeeded":
                    self._failed.add(reason_label(event.outcome))
                    self._log.info("attempt_failed", task_id=event.task_id, reason=event.outcome)
            case e.TaskEnded():
                self._ended.add(event.task_type, event.state.value)
                self._log.info("task_ended", task_id=event.task_id, state=event.state.value, reason=event.reason)
            case e.SyncAttempted():
                self._sync.add(event.outcome)
            case e.TaskRefused():
                self._failed.add(event.code)
                self._log.info("task_refused", code=event.code)
            case e.ConsentOverridden():
                self._overrides.inc()
                self._log.warning("consent_overridden", task_id=event.task_id)
            case e.ConsentWithdrawn():
                self._withdrawals.inc()
                self._log.info("consent_revoked", denied=event.denied)
            case e.TasksErased():
                self._erasures.inc(event.tasks)
                self._log.info("tasks_erased", tasks=event.tasks)
            case e.AuthenticationFailed():
                self._strangers.inc()
                if event.tell:
                    self._log.warning("authentication_failed")
            case _:
                self._emit_system(event)

    def _accepted(self, tasks: Sequence[e.TaskAccepted]) -> None:
        # Alike for the most part, they are told to the metrics by kind.
        kinds: dict[tuple[str, Priority, bool], int] = {}
        for task in tasks:
            kind = task.task_type, task.priority, task.queued
            kinds[kind] = kinds.get(kind, 0) + 1
            self._log.debug("task_accepted", task_id=task.task_id, task_type=task.task_type)
        for (task_type, priority, queued), count in kinds.items():
            self._tasks.add(task_type, priority, count=count)
            if queued:
                self._queued.add(self._queues[priority], count=count)

    def _emit_system(self, event: e.Event) -> None:
        match event:
            case e.AgentChanged():
                if event.change == "ejected":
                    self._ejections.inc()
                self._log.info("agent_changed", agent_id=event.agent_id, change=event.change)
            case e.BatchCommitted():
                self._commit.observe(event.seconds)
                self._lag.set(event.seconds)
            case e.LedgerUnavailable():
                self._writable.set(0)
                self._log.error("ledger_unavailable", error=event.error)
            case e.LedgerBack():
                self._writable.set(1)
                self._log.info("ledger_back")
            case e.SpaceLow():
                self._log.error("space_low")
            case e.SpaceBack():
                self._log.info("space_back")
            case e.DataRemoved(payloads, results, tasks, entries):
                counts = {"payload": payloads, "result": results, "task": tasks, "audit_entry": entries}
                for what, number in counts.items():
                    self._removed.add(what, count=number)
                self._log.info("data_removed", payloads=payloads, results=results, tasks=tasks, entries=entries)
            case e.CheckpointSigned(place):
                self._log.info("checkpoint_signed", writer=place.writer, seq=place.seq, entry_hash=place.entry_hash)
            case e.RemovalRefused():
                self._log.error("removal_refused", error=event.error)
            case e.StreamsAway():
                self._streams.set(0)
                self._log.error("streams_away", error=event.error)
            case e.StreamsBack():
                self._streams.set(1)
                self._log.info("streams_back")
            case e.StreamsToldAgain():
                self._told_again.inc()
                self._log.warning("streams_told_again")
            case e.StreamsEvict():
                self._log.error("streams_may_be_evicted", policy=event.policy)
            case e.CallbacksUnsigned():
                self._log.error("callbacks_unsigned", setting="webhooks.secret")
            case k.ActorRestarting():
                self._restarts.add(event.actor)
                self._log.warning("actor_restarting", actor=event.actor, delay=round(event.delay, 3))
            case k.ActorFailed():
                self._log.error("actor_failed", actor=event.actor, error=event.error)
            case k.SupervisorGaveUp():
                self._log.critical("supervisor_gave_up", actor=event.actor, error=event.error)
            case k.ActorStarted():
                self._log.debug("actor_started", actor=event.actor)
            case k.ActorStopped():
                self._log.debug("actor_stopped", actor=event.actor, outcome=event.outcome)
            case _:
                pass


_NOTHING = Sample({}, {}, {}, {}, {})


def _by_label(counter: "Counter | Counters", label: str) -> Mapping[str, float]:
    """What a counter counted for each value of one of its labels."""
    found: dict[str, float] = {}
    for family in counter.collect():
        for sample in family.samples:
            value = sample.labels.get(label, "")
            found[value] = found.get(value, 0.0) + sample.value
    return found


def reason_label(reason: str) -> str:
    """A reason as a label of few values: statuses by their class, failures of the transport as one."""
    if reason.startswith("status_"):
        return f"{reason[:8]}xx"
    return "transport" if reason.startswith("transport_") else reason


class _Gauges(Collector):
    def __init__(self, take: Callable[[], Sample]) -> None:
        self._take = take

    def collect(self) -> Iterable[GaugeMetricFamily]:
        sample = self._take()
        yield from _family("queue_size", "Entries in the stream, or tasks ready to run", "queue", sample.queue_size)
        yield from _family("tasks_ready", "Tasks of the ledger that are ready to run", "queue", sample.tasks_ready)
        yield from _family("queue_oldest_age_seconds", "Age of the oldest task ready", "queue", sample.queue_oldest_age)
        yield from _family("mailbox_depth", "Messages waiting", "actor", sample.mailbox_depth)
        if sample.room is not None:
            yield GaugeMetricFamily("orchestrator_ledger_room_bytes", "Room for the ledger to grow", sample.room)
        yield from _family("agents", "Agents by availability", "state", sample.agents)


def _family(name: str, text: str, label: str, values: Mapping[str, float]) -> Iterator[GaugeMetricFamily]:
    family = GaugeMetricFamily(f"orchestrator_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    yield family


def logger() -> Any:
    """Where we log. A program around us that has configured no logs hears of warnings alone, on standard error."""
    if structlog.is_configured():
        return structlog.get_logger("orchestrator")
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    return structlog.wrap_logger(structlog.PrintLogger(sys.stderr), _processors("json"), quiet)


def _processors(form: str) -> list[Any]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _allow_listed,
        structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False),
    ]


def configure_logging(level: str, form: str) -> None:
    """Sends all logs of the process to standard error: ours through the allow-list, those of libraries as templates."""
    structlog.configure(
        processors=_processors(form),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Foreign()]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))


def tell_faults() -> None:
    """Has Python tell what nobody caught as a line of the log, by its class: its words and its traceback hold values.

    For a process of our own alone; asyncio and libraries come by the handler of their logs.
    """
    sys.excepthook = lambda kind, _error, _traceback: _tell(kind)
    sys.unraisablehook = lambda fault: _tell(fault.exc_type)
    threading.excepthook = lambda fault: _tell(fault.exc_type)


def _tell(kind: type[BaseException]) -> None:
    logger().error("fault", error=kind.__name__)


def _allow_listed(_logger: Any, _method: str, fields: Any) -> Any:
    return {name: value for name, value in fields.items() if name in LOG_FIELDS}


class _Foreign(logging.Handler):
    """Logs of libraries: their template without what they would put into it, an exception by the name of its class."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        # Only with arguments apart is the text known to be a template, and not a sentence with values in it already.
        text = record.msg if isinstance(record.msg, str) and record.args else "library_message"
        logger().warning(text, logger=record.name, **({"error": error} if error else {}))
