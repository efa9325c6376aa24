"""Processes that are measured, or measured against: started on their core, waited for, ended."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from orchestrator.bench.cores import LOAD, MEASURED, on
from orchestrator.bench.harness import Missing

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv" / "peers"
"""The environment of what is only compared with, which `make bench` makes; its versions differ from ours."""
PATIENCE_S = 60.0


def free_port() -> int:
    """A loopback port that nobody has now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def peers_python() -> str:
    """Raises Missing where there is none."""
    if not (PEERS / ".installed").exists():
        raise Missing("it is not installed; `make bench` installs it")
    return str(PEERS / "bin" / "python")


@contextmanager
def running(
    command: Sequence[str], environ: Mapping[str, str], place: int = MEASURED, folder: Path | None = None
) -> Generator["subprocess.Popen[bytes]"]:
    """A process in a folder of its own, or in `folder`; killed where it does not end by itself."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    with tempfile.TemporaryDirectory() as scratch, (Path(scratch) / "log").open("w+b") as log, on(place):
        process = subprocess.Popen(
            command,
            env={**inherited, **environ},
            cwd=folder or scratch,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        except BaseException:
            log.seek(0)
            sys.stderr.buffer.write(log.read()[-4000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def serving(
    *arguments: str,
    environ: Mapping[str, str],
    python: str = sys.executable,
    place: int = MEASURED,
    folder: Path | None = None,
) -> Generator[int]:
    """A server that `python arguments` starts on the port in PORT; the port, once it answers."""
    port = free_port()
    environment = {**environ, "PORT": str(port), "ORCHESTRATOR_WEB_PORT": str(port)}
    with running([python, *arguments], environment, place, folder) as process:
        wait(port, process)
        yield port


def wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Returns when somebody listens; raises RuntimeError when nobody will."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise RuntimeError("a server did not start")


def said_by(arguments: Sequence[str], given: bytes = b"", within: float = PATIENCE_S, place: int = LOAD) -> str:
    """What a Python program of ours prints, run on a core. Raises RuntimeError with its last words where it fails."""
    with on(place):
        done = subprocess.run(
            [sys.executable, *arguments], input=given, capture_output=True, timeout=within + PATIENCE_S, check=False
        )
    if done.returncode:
        raise RuntimeError(done.stderr.decode()[-2000:])
    return done.stdout.decode()
