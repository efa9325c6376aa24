"""What an agent counts of its own work, for Prometheus. Labels come from what the agent declares, never from a task."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One for each running agent."""

    def __init__(self) -> None:
        disable_created_metrics()
        self._registry = CollectorRegistry(auto_describe=False)
        labels = ("task_type", "outcome")
        self._tasks = Counter("agent_tasks_total", "Attempts, by how they ended", labels, registry=self._registry)
        self._seconds = Histogram("agent_task_seconds", "Duration of attempts", registry=self._registry)

    def watch(self, in_flight: Callable[[], float]) -> None:
        """Have `in_flight` asked at each scrape."""
        Gauge("agent_tasks_in_flight", "Attempts running", registry=self._registry).set_function(in_flight)

    def ended(self, task_type: str, outcome: str, seconds: float) -> None:
        """An attempt ended: `succeeded`, `failed` for good, or is worth another one (`retryable`)."""
        self._tasks.labels(task_type, outcome).inc()
        self._seconds.observe(seconds)

    def render(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
