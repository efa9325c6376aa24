"""Task queues that others wrote, each with a task that makes the same call to the same agent and stores its result.

In their favour the queue is full before the worker starts: what putting it there costs is not counted.
"""

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from orchestrator.bench.agent import agent, calls, count
from orchestrator.bench.cores import LOAD, MEASURED, on
from orchestrator.bench.harness import Figures, Subject, Turn
from orchestrator.bench.processes import PEERS, ROOT, peers_python, running
from orchestrator.bench.services import postgres, valkey

FOLDER = ROOT / "bench" / "peers"
FILL = "import importlib, sys; importlib.import_module(sys.argv[1]).fill(int(sys.argv[2]))"
WARM_UP_S = 0.5
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Rival:
    """`worker` is the command of its one worker process; `most` are more jobs a second than it can do."""

    name: str
    module: str
    worker: Sequence[str]
    most: int
    broker: Callable[[], AbstractContextManager[str]] = valkey


RIVALS = (
    Rival("SAQ", "tasks_saq", ("saq", "tasks_saq.settings", "--quiet"), 4_000),
    Rival("arq", "tasks_arq", ("arq", "tasks_arq.WorkerSettings"), 2_500),
    Rival(
        "taskiq", "tasks_taskiq",
        ("taskiq", "worker", "tasks_taskiq:broker", "--workers", "1", "--max-async-tasks", "64", "--log-level", "ERROR"),  # noqa: E501
        4_000,
    ),
    Rival(
        "Celery", "tasks_celery",
        ("celery", "-A", "tasks_celery", "worker", "-P", "threads", "-c", "64", "-l", "ERROR", "--without-mingle"), 2_500,  # noqa: E501
    ),
    Rival("dramatiq", "tasks_dramatiq", ("dramatiq", "tasks_dramatiq", "-p", "1"), 4_000),
    Rival(
        "procrastinate", "tasks_procrastinate",
        ("procrastinate", "--app", "tasks_procrastinate.app", "worker", "--concurrency", "64"), 1_500, postgres,
    ),
    Rival("huey", "tasks_huey", ("huey_consumer", "tasks_huey.huey", "-k", "greenlet", "-w", "64", "-q"), 5_000),
)  # fmt: skip


def subjects() -> Sequence[Subject]:
    """One for each."""
    return [Subject(rival.name, partial(work_off, rival)) for rival in RIVALS]


def work_off(rival: Rival, turn: Turn) -> Figures:
    """How many a second its worker does, told by the agent that it calls."""
    python = peers_python()
    with agent() as endpoint, rival.broker() as url:
        environ = {"AGENT": endpoint, "BROKER": url, "PYTHONPATH": str(FOLDER)}
        count = int(rival.most * (turn.seconds + WARM_UP_S))
        _fill([python, "-c", FILL, rival.module, str(count)], environ)
        program, *arguments = rival.worker
        with running([str(PEERS / "bin" / program), *arguments], environ, MEASURED):
            return {"tasks/s": _rate(endpoint, turn.seconds)}


def _fill(command: Sequence[str], environ: dict[str, str]) -> None:
    with on(LOAD):
        subprocess.run(command, env=environ, check=True, timeout=PATIENCE_S, stdout=subprocess.DEVNULL)


def _rate(endpoint: str, seconds: float) -> float:
    """Calls a second, once the worker is warm, while it has work."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not count(endpoint):
        if time.monotonic() > give_up_at:
            raise TimeoutError("the worker did not begin")
        time.sleep(0.05)
    time.sleep(WARM_UP_S + seconds)
    times = sorted(calls(endpoint).values())
    began = times[0] + WARM_UP_S
    within = [at for at in times if began <= at <= began + seconds]
    return (len(within) - 1) / (within[-1] - within[0])
