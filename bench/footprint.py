"""How small it is: from the start of the process until it is ready, and its memory at rest. Linux only."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.bench.acceptance import ENVIRON, UVICORN
from orchestrator.bench.harness import Benchmark, Figures, Subject, Target, Turn
from orchestrator.bench.processes import PATIENCE_S, ROOT, free_port, peers_python, running

REST_S = 1.0


def orchestrator(_: Turn) -> Figures:
    """With the packaged settings, an empty ledger."""
    return started([sys.executable, "-m", "orchestrator", "serve"], ENVIRON, "/ready")


def fastapi_sqlalchemy(_: Turn) -> Figures:
    """What a user would write, with an empty database."""
    folder = str(ROOT / "bench" / "peers")
    command = [peers_python(), "-c", UVICORN, "--app-dir", folder, "fastapi_sqlalchemy:app"]
    return started(command, {"REDIS_URL": "redis://127.0.0.1:6379/0"}, "/openapi.json")


def started(command: Sequence[str], environ: Mapping[str, str], path: str, folder: Path | None = None) -> Figures:
    """Seconds until `path` is answered with 200, and MiB a second later."""
    port = free_port()
    environment = {**environ, "PORT": str(port), "ORCHESTRATOR_WEB_PORT": str(port)}
    began = time.monotonic()
    with running(command, environment, folder=folder) as process:
        while not _answers(f"http://127.0.0.1:{port}{path}"):
            if process.poll() is not None or time.monotonic() > began + PATIENCE_S:
                raise RuntimeError("it did not become ready")
            time.sleep(0.005)
        ready = time.monotonic() - began
        time.sleep(REST_S)
        return {"ready s": ready, "idle MiB": memory_mib(process)}


def memory_mib(process: "subprocess.Popen[bytes]") -> float:
    """What is resident of it."""
    lines = Path(f"/proc/{process.pid}/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


BENCHMARKS = (
    Benchmark(
        "footprint", "from the start of the process to the first answer; memory a second later",
        (Subject("orchestrator serve", orchestrator), Subject("FastAPI, SQLAlchemy", fastapi_sqlalchemy)),
        (
            Target("ready s", "orchestrator serve", most=0.7),
            Target("idle MiB", "orchestrator serve", most=70.0),
        ),
        baseline="FastAPI, SQLAlchemy",
    ),
)  # fmt: skip
