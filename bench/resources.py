"""What a small box needs: time to the first answer, memory at rest and with a long queue, room on the disk.

    .venv/bin/python bench/resources.py [--tasks 100000]

Starts `orchestrator serve` as a process of its own on a free port, with its database in a temporary folder, and
measures it from outside. Takes a minute or two. Linux only: memory is read from /proc.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

BATCH = 500
REST_S = 5.0
PAYLOAD = {"note": "x" * 400, "measurements": [{"kind": "height", "value": 87.1}] * 4}


class Box:
    """The process and its database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        self.environ = {
            **inherited,
            "DATABASE_URL": f"sqlite:///{folder}/ledger.db",
            "ORCHESTRATOR_WEB_PORT": str(self.port),
            "ORCHESTRATOR_LIMITS_REQUESTS_PER_S": "0",
            "LOG_LEVEL": "ERROR",
        }

    def start(self) -> float:
        """Seconds from the start of the process to its first answer that it is ready."""
        began = time.monotonic()
        command = [sys.executable, "-m", "orchestrator", "serve"]
        self.process = subprocess.Popen(command, env=self.environ, cwd=self.folder, stderr=subprocess.DEVNULL)
        while not self._ready():
            if self.process.poll() is not None:
                sys.exit(f"it ended with {self.process.returncode}")
            time.sleep(0.01)
        return time.monotonic() - began

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def post(self, path: str, body: Any) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self._url(path), data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def memory_mib(self) -> float:
        """What the process alone holds in memory (its proportional set size)."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text("utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def disk_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.folder.glob("ledger.db*"))

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(self._url("/ready"), timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


def fill(box: Box, tasks: int) -> float:
    """Accepts so many tasks that no agent takes; seconds that it took."""
    began = time.monotonic()
    for first in range(0, tasks, BATCH):
        count = min(BATCH, tasks - first)
        batch = [
            {"case_id": f"case-{n}", "task_type": "audit_log", "idempotency_key": f"key-{n}", "payload": PAYLOAD}
            for n in range(first, first + count)
        ]
        outcomes = box.post("/route_tasks", batch)["outcomes"]
        if [outcome["status"] for outcome in outcomes] != [202] * count:
            sys.exit(f"not all were accepted: {outcomes[0]}")
    return time.monotonic() - began


def measure(folder: Path, tasks: int) -> dict[str, str]:
    box, found = Box(folder), dict[str, str]()
    try:
        found["start to the first answer, new database"] = f"{box.start():.2f} s"
        task = {"case_id": "case", "task_type": "audit_log", "payload": PAYLOAD}
        began = time.monotonic()
        box.post("/route_task", task)
        found["the first task after that"] = f"{(time.monotonic() - began) * 1000:.0f} ms"
        used = box.cpu_s()
        time.sleep(REST_S)
        found["memory at rest"] = f"{box.memory_mib():.0f} MiB"
        found["CPU at rest"] = f"{(box.cpu_s() - used) / REST_S * 100:.1f} % of a core"
        took = fill(box, tasks)
        found[f"{tasks:,} tasks accepted in batches of {BATCH}"] = f"{took:.0f} s, {tasks / took:,.0f} a second"
        time.sleep(REST_S)
        found[f"memory with {tasks:,} tasks queued"] = f"{box.memory_mib():.0f} MiB"
        box.stop()
        found["on the disk for each task, queued"] = f"{box.disk_bytes() / tasks:,.0f} bytes"
        payload = len(json.dumps(PAYLOAD, separators=(",", ":")))
        found["of which payload"] = f"{payload} bytes"
        found[f"start to the first answer, {tasks:,} tasks queued"] = f"{box.start():.2f} s"
        found["memory after that start"] = f"{box.memory_mib():.0f} MiB"
    finally:
        box.process.kill()
        box.process.wait()
    return found


def main() -> None:
    options = ArgumentParser(description="What a small box needs.")
    options.add_argument("--tasks", type=int, default=100_000, help="how many are queued (%(default)s)")
    tasks: int = options.parse_args().tasks
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), tasks)
    print("| what | measured |\n|---|---|")
    for what, value in found.items():
        print(f"| {what} | {value} |")


if __name__ == "__main__":
    main()
