"""What leaves the process as metrics and logs, and what never does."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import get_args

import pytest
import structlog

from orchestrator.actors import events as e
from orchestrator.counting import MOST
from orchestrator.domain.audit import Head
from orchestrator.domain.lifecycle import State
from orchestrator.domain.task import Priority
from orchestrator.kernel import events as k
from orchestrator.telemetry import LOG_FIELDS, Sample, Telemetry, configure_logging, reason_label

TASK = "task-0123456789abcdef0123456789abcdef"
STREAMS = {priority: f"tasks:{priority.value}" for priority in Priority}
EVENTS: list[e.Event] = [
    e.TasksAccepted([e.TaskAccepted(TASK, "embed", Priority.URGENT, True)], 0.01),
    e.TaskRefused("E_CONSENT_REQUIRED"),
    e.ConsentOverridden(TASK),
    e.ConsentWithdrawn(3),
    e.TasksErased(2),
    e.DataRemoved(1, 2, 3, 4),
    e.CheckpointSigned(Head("main", 7, "ab" * 32)),
    e.RemovalRefused("InsufficientPrivilegeError"),
    e.CallbacksUnsigned(),
    e.SyncAttempted("completed"),
    e.AuthenticationFailed(tell=True),
    e.TaskDispatched(TASK, "embed", Priority.LOW, 1, 0.5),
    e.AttemptEnded(TASK, "status_502", 0.2),
    e.TaskEnded(TASK, "embed", State.DEAD, "timeout"),
    e.AgentChanged("agent-1", "ejected"),
    e.BatchCommitted(3, 0.001),
    e.LedgerUnavailable("SQLITE_FULL"),
    e.LedgerBack(),
    e.SpaceLow(),
    e.SpaceBack(),
    e.StreamsAway("ConnectionError"),
    e.StreamsBack(),
    e.StreamsToldAgain(),
    e.StreamsEvict("allkeys-lru"),
    k.ActorStarted("router"),
    k.ActorFailed("router", "ValueError"),
    k.ActorRestarting("router", 0.1),
    k.ActorStopped("router", "clean"),
    k.SupervisorGaveUp("router", "RestartsExhausted"),
]


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Logging belongs to the process; each test gives it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_every_event_of_the_language_is_known() -> None:
    """No event is forgotten in the table of this test, and none makes telemetry fail."""
    telemetry = Telemetry(STREAMS)
    assert {type(event) for event in EVENTS} == set(get_args(e.Event))
    for event in EVENTS:
        telemetry.emit(event)


def test_the_metrics_of_the_contract_exist_and_no_label_holds_an_id() -> None:
    """The names that dashboards rely on; ids of tasks and agents stay out of every label."""
    telemetry = Telemetry(STREAMS)
    telemetry.sample(
        lambda: Sample({"tasks:urgent": 2}, {"tasks:urgent": 3}, {"tasks:urgent": 1.5}, {"router": 0}, {"ready": 1})
    )
    for event in EVENTS:
        telemetry.emit(event)
    text = telemetry.render().decode()
    for line in (
        'orchestrator_tasks_total{priority="urgent",task_type="embed"} 1.0',
        'orchestrator_tasks_queued_total{queue="tasks:urgent"} 1.0',
        'orchestrator_tasks_failed_total{reason="status_5xx"} 1.0',
        'orchestrator_tasks_failed_total{reason="E_CONSENT_REQUIRED"} 1.0',
        'orchestrator_queue_size{queue="tasks:urgent"} 2.0',
        'orchestrator_tasks_ready{queue="tasks:urgent"} 3.0',
        "orchestrator_streams_told_again_total 1.0",
        'orchestrator_queue_oldest_age_seconds{queue="tasks:urgent"} 1.5',
        'orchestrator_sync_attempts_total{outcome="completed"} 1.0',
        'orchestrator_actor_restarts_total{actor="router"} 1.0',
        'orchestrator_mailbox_depth{actor="router"} 0.0',
        'orchestrator_agents{state="ready"} 1.0',
        "orchestrator_agent_ejections_total 1.0",
    ):
        assert line in text
    assert TASK not in text
    assert "agent-1" not in text
    assert "_created" not in text


def test_tasks_that_were_accepted_together() -> None:
    """Each is counted by its own labels, and each took as long as all of them."""
    telemetry = Telemetry(STREAMS)
    low, urgent = e.TaskAccepted(TASK, "embed", Priority.LOW, True), e.TaskAccepted(TASK, "act", Priority.URGENT, False)
    telemetry.emit(e.TasksAccepted([low, urgent, low], 0.02))
    text = telemetry.render().decode()
    for line in (
        'orchestrator_tasks_total{priority="low",task_type="embed"} 2.0',
        'orchestrator_tasks_total{priority="urgent",task_type="act"} 1.0',
        'orchestrator_tasks_queued_total{queue="tasks:low"} 2.0',
        'orchestrator_decision_seconds_bucket{le="0.01"} 0.0',
        'orchestrator_decision_seconds_bucket{le="0.025"} 3.0',
        "orchestrator_decision_seconds_sum 0.06",
    ):
        assert line in text
    assert "tasks:urgent" not in text


@pytest.mark.parametrize(
    ("reason", "label"),
    [("timeout", "timeout"), ("status_418", "status_4xx"), ("transport_ClientOSError", "transport")],
)
def test_reasons_are_labels_of_few_values(reason: str, label: str) -> None:
    """What an agent answers cannot make ever more series."""
    assert reason_label(reason) == label


def test_more_series_than_anybody_wants() -> None:
    """Should a label come from no closed set after all: beyond a bound there is one more series, no more."""
    telemetry = Telemetry(STREAMS)
    for number in range(3 * MOST):
        telemetry.emit(e.AttemptEnded(TASK, f"reason-{number}", 0.2))
    telemetry.emit(e.AttemptEnded(TASK, "reason-7", 0.2))
    lines = [line for line in telemetry.render().decode().splitlines() if line.startswith("orchestrator_tasks_failed")]
    assert len(lines) == MOST + 1
    assert f'orchestrator_tasks_failed_total{{reason="other"}} {2.0 * MOST}' in lines
    assert 'orchestrator_tasks_failed_total{reason="reason-7"} 2.0' in lines


def test_two_orchestrators_in_one_process_count_apart() -> None:
    """Each has a registry of its own."""
    one, other = Telemetry(STREAMS), Telemetry(STREAMS)
    one.emit(EVENTS[0])
    assert "orchestrator_tasks_total{" not in other.render().decode()


def test_log_lines_hold_listed_fields_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Each event is a line of JSON; a field that is not on the list does not come out."""
    configure_logging("DEBUG", "json")
    telemetry = Telemetry(STREAMS)
    for event in EVENTS:
        telemetry.emit(event)
    structlog.get_logger("orchestrator").error("leak", payload="canary", task_id=TASK)
    printed = capsys.readouterr().err
    lines = [json.loads(line) for line in printed.splitlines()]
    assert len(lines) > 10
    assert all(set(line) <= LOG_FIELDS for line in lines)
    assert "canary" not in printed


def test_lines_of_libraries_come_without_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    """A library's message is its template; an exception is the name of its class, without traceback or text."""
    configure_logging("INFO", "json")
    log = logging.getLogger("some.library")
    log.warning("could not serve %s", "canary-argument")
    log.warning("could not serve canary-interpolated")
    try:
        raise ValueError("canary-exception")
    except ValueError:
        log.exception("failed for %s", "canary-argument")
    printed = capsys.readouterr().err
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [line["event"] for line in lines] == ["could not serve %s", "library_message", "failed for %s"]
    assert lines[2]["error"] == "ValueError"
    assert "canary" not in printed


FAULTS = """
import asyncio, gc, sys, threading
from orchestrator.telemetry import configure_logging, tell_faults

class Canary(Exception): ...
def fault(): raise Canary("canary-words")
class Unraisable:
    def __del__(self): fault()
async def main():
    await asyncio.wait([asyncio.create_task(asyncio.to_thread(fault), name="canary-name")])
    asyncio.get_running_loop().call_soon(fault)
    await asyncio.sleep(0)

configure_logging("INFO", "json")
tell_faults()
match sys.argv[1]:
    case "task": asyncio.run(main()); gc.collect()
    case "unraisable": Unraisable()
    case "thread":
        thread = threading.Thread(target=fault)
        thread.start(); thread.join()
    case "uncaught": fault()
"""


@pytest.mark.parametrize(("kind", "lines"), [("task", 2), ("unraisable", 1), ("thread", 1), ("uncaught", 1)])
def test_faults_that_nobody_caught(kind: str, lines: int) -> None:
    """Each is a line of the log by its class, whoever finds it: asyncio, the interpreter or the end of a thread."""
    done = subprocess.run([sys.executable, "-c", FAULTS, kind], capture_output=True, text=True, timeout=60, check=False)
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["error"] for line in said] == ["Canary"] * lines
    assert "canary" not in done.stderr + done.stdout
    assert done.returncode == (1 if kind == "uncaught" else 0)


def test_the_level_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    """Below the level nothing is printed."""
    configure_logging("ERROR", "json")
    for event in EVENTS:
        Telemetry(STREAMS).emit(event)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["level"] for line in lines} == {"error", "critical"}
