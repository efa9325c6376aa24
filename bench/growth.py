"""What it costs that the ledger has grown."""

import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from orchestrator.bench.acceptance import ENVIRON, by_hypercorn, in_batches, route
from orchestrator.bench.alone import alone
from orchestrator.bench.footprint import started
from orchestrator.bench.harness import Benchmark, Figures, Subject, Target, Turn
from orchestrator.bench.ledgers import NAME, grown

FINISHED, QUEUED, WAITING = 1_000_000, 100_000, 1_000_000
_COMMAND = [sys.executable, "-m", "orchestrator", "serve"]


def large(turn: Turn) -> Figures:
    """A million tasks that are done and a hundred thousand that wait."""
    return _accepting(turn, grown(int(FINISHED * turn.scale), int(QUEUED * turn.scale)))


def empty(turn: Turn) -> Figures:
    """Nothing."""
    with tempfile.TemporaryDirectory() as folder:
        return _accepting(turn, Path(folder))


def start(turn: Turn) -> Figures:
    """With a million tasks that wait, and right after that with none."""
    folder = grown(0, int(WAITING * turn.scale))
    full = started(_COMMAND, ENVIRON, "/ready", folder)
    none = started(_COMMAND, ENVIRON, "/ready")
    return {**full, "more MiB": full["idle MiB"] - none["idle MiB"]}


def _accepting(turn: Turn, folder: Path) -> Figures:
    url = f"sqlite:///{folder}/{NAME}"
    # What was accepted in turns before waits there, too.
    environ: Mapping[str, str] = {**ENVIRON, "DATABASE_URL": url, "ORCHESTRATOR_QUEUE_MAX_OPEN": str(10 * WAITING)}
    return {
        "http tasks/s": by_hypercorn(turn, environ)["tasks/s"],
        "batches tasks/s": in_batches(turn, environ)["tasks/s"],
        "in process tasks/s": alone(partial(route, turn.seconds, environ)),
    }


_LARGE, _EMPTY = "large ledger", "empty ledger"

BENCHMARKS = (
    Benchmark(
        "growth", "acceptance with 1,000,000 finished and 100,000 queued tasks in the ledger",
        (Subject(_LARGE, large), Subject(_EMPTY, empty)),
        tuple(
            Target(figure, _LARGE, least=0.9, over=(_EMPTY,))
            for figure in ("http tasks/s", "batches tasks/s", "in process tasks/s")
        ),
        baseline=_EMPTY,
    ),
    Benchmark(
        "start", "a start with 1,000,000 queued tasks; and how much more memory it takes than one with none",
        (Subject("a million queued", start),),
        (Target("ready s", "a million queued", most=5.0), Target("more MiB", "a million queued", most=50.0)),
    ),
)  # fmt: skip
