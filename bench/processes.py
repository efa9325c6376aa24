"""Processes that are measured, each on a core of its own where there are enough."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager

SERVER_CORE = 0
PATIENCE_S = 30.0


def pin(core: int, process: int = 0) -> None:
    """Keeps a process, this one if none is named, on a core: server and load are not to chase each other."""
    if hasattr(os, "sched_setaffinity") and core in os.sched_getaffinity(process):
        os.sched_setaffinity(process, {core})


@contextmanager
def serving(module: str, *arguments: str, environ: Mapping[str, str]) -> Generator[int, None, None]:
    """A server that `python -m module arguments` starts on the port in PORT; the port, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**inherited, **environ, "PORT": str(port), "ORCHESTRATOR_WEB_PORT": str(port)}
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=environment,
            cwd=folder,
            stderr=subprocess.DEVNULL,
        )
        pin(SERVER_CORE, process.pid)
        try:
            _wait(port, process)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)


def under_load(port: int, path: str, body: bytes, connections: int, seconds: float) -> float:
    """Answers a second, counted by a process of its own."""
    command = [sys.executable, "-m", "orchestrator.bench.load", str(port), path, str(connections), str(seconds)]
    done = subprocess.run(command, input=body, capture_output=True, timeout=seconds + PATIENCE_S, check=False)
    if done.returncode:
        sys.exit(done.stderr.decode()[-2000:])
    return float(done.stdout)


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    sys.exit("a server did not start")
