"""Where the time of one request goes: processor time of `POST /route_task` by the part of the project that spends it.

    python -m bench.profile [--on uvicorn] [--seconds 3] [--functions 0]

Wants Linux's perf and Python 3.12, which tells it the functions that run (`python -X perf`). That makes them slower, so
perf says what share each part has, and the sums are those of a run without it.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from shutil import which

from orchestrator.bench.acceptance import CONNECTIONS, ENVIRON, TASK, UVICORN
from orchestrator.bench.load import WARM_UP_S, under_load
from orchestrator.bench.processes import ROOT, free_port, running, wait

LIBRARIES = (
    ("the system", ("[kernel",)),
    ("SQLite", ("/libsqlite3",)),
    ("the event loop", ("/uvloop/", "/_asyncio.")),
)
"""Parts that are not Python, by marks in the names of their objects."""
PARTS = (
    ("connections, heads, answers' heads", (
        "web/fast_", "web/on_uvicorn", "web/http_rules", "web/connections", "web/door", "web/site", "hypercorn/",
        "uvicorn/",
    )),
    ("who may, and how often", ("web/rights", "web/rates", "web/desk", "web/hosts", "web/identity/", "web/gate")),
    ("from JSON to a request", ("domain/strict_json", "domain/task", "web/wire", "web/asked")),
    ("the application, and its answer", ("web/", "quart/", "domain/trace")),
    ("admission: raw media, fingerprint, decision", (
        "domain/", "actors/admission", "actors/decisions", "actors/intake",
    )),
    ("the audit's entries, and their chain", ("domain/audit", "domain/evidence")),
    ("rows, digests of keys, statements", ("storage/",)),
    ("after the commit: queue, feed, figures", (
        "actors/audit_writer", "actors/committing", "actors/feed", "actors/at_hand", "actors/events", "storage/queue",
        "telemetry.py", "counting.py",
    )),
    ("asking and answering between actors", ("kernel/", "actors/", "anyio/")),
)  # fmt: skip
"""The others, by marks in the files of their functions. The longest that is found counts."""
OTHER = "the interpreter"
_PYTHON = "py::"
_MAP = "/tmp/perf-{}.map"  # noqa: S108 - where Python writes it, and perf looks for it

Stack = Sequence[tuple[str, str]]
"""Name and object of each function, innermost first."""


def stacks(script: Iterable[str]) -> Iterator[tuple[int, Stack]]:
    """Samples as `perf script -F tid,ip,sym,dso` prints them: the thread, and what it was in."""
    thread, frames = 0, list[tuple[str, str]]()
    for line in script:
        if not line.strip():
            if frames:
                yield thread, frames
            frames = []
        elif not line.startswith("\t"):
            thread = int(line)
        else:
            _, _, what = line.strip().partition(" ")
            name, _, place = what.rpartition(" (")
            frames.append((name, place.removesuffix(")")))
    if frames:
        yield thread, frames


def part_of(stack: Stack) -> str:
    """The part of the project that a sample is counted for: that of the innermost function which belongs to one."""
    for name, place in stack:
        where, parts = (_function(name), PARTS) if name.startswith(_PYTHON) else (place, LIBRARIES)
        if found := [(len(mark), part) for part, marks in parts for mark in marks if mark in where]:
            return max(found)[1]
    return OTHER


def function_of(stack: Stack) -> str:
    """The innermost function of Python, with its file."""
    return next((_function(name) for name, _ in stack if name.startswith(_PYTHON)), OTHER)


def _function(name: str) -> str:
    return name.removeprefix(_PYTHON).replace(f"{ROOT}/", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--on", choices=("hypercorn", "uvicorn"), default="hypercorn", help="the server (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of load (%(default)s)")
    parser.add_argument("--functions", type=int, default=0, help="how many functions are listed, too (%(default)s)")
    options = parser.parse_args()
    if sys.version_info < (3, 12) or which("perf") is None:
        sys.exit("perf and Python 3.12 or newer are needed")
    spent = _processor_time(options.on, options.seconds)
    samples = _samples(options.on, options.seconds)
    busiest = [tid for tid, _ in Counter(tid for tid, _ in samples).most_common(2)]
    for thread, tid, us in zip(("the loop's thread", "the ledger's"), busiest, spent, strict=True):
        mine = [stack for each, stack in samples if each == tid]
        print(f"{thread}: {us:.1f} µs a request")
        for part, count in Counter(map(part_of, mine)).most_common():
            print(f"{us * count / len(mine):7.1f}  {part}")
        for function, count in Counter(map(function_of, mine)).most_common(options.functions):
            print(f"{us * count / len(mine):15.2f}  {function}")


def _command(server: str, *options: str) -> Sequence[str]:
    if server == "hypercorn":
        return (sys.executable, *options, "-m", "orchestrator", "serve")
    application = ("--factory", "orchestrator:create_app", "--http", "orchestrator:HttpProtocol")
    return (sys.executable, *options, "-c", UVICORN, *application)


def _environ(port: int) -> dict[str, str]:
    return {**ENVIRON, "PORT": str(port), "ORCHESTRATOR_WEB_PORT": str(port)}


def _processor_time(server: str, seconds: float) -> Sequence[float]:
    """Microseconds for each request, of the two threads that take most."""
    port = free_port()
    with running(_command(server), _environ(port)) as process:
        wait(port, process)
        under_load(port, "/route_task", TASK, CONNECTIONS, 1.0)
        before = _nanoseconds(process.pid)
        answered = under_load(port, "/route_task", TASK, CONNECTIONS, seconds) * (seconds + WARM_UP_S)
        after = _nanoseconds(process.pid)
    return sorted(((after[tid] - before.get(tid, 0)) / 1e3 / answered for tid in after), reverse=True)[:2]


def _nanoseconds(pid: int) -> dict[str, int]:
    """What each thread of a process has had of a processor."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return {thread.name: int((thread / "schedstat").read_text().split()[0]) for thread in threads}


def _samples(server: str, seconds: float) -> list[tuple[int, Stack]]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, running(_command(server, "-X", "perf"), _environ(port)) as process:
        wait(port, process)
        under_load(port, "/route_task", TASK, CONNECTIONS, 1.0)
        load = threading.Thread(target=under_load, args=(port, "/route_task", TASK, CONNECTIONS, seconds + 1))
        load.start()
        data = f"{folder}/perf.data"
        record = ("record", "-e", "cpu-clock", "-F", "4000", "--call-graph", "dwarf,4096", "-o", data)
        subprocess.run(
            ["perf", *record, "-p", str(process.pid), "--", "sleep", str(seconds)], capture_output=True, check=True
        )
        load.join()
        script = subprocess.run(
            ["perf", "script", "-i", data, "-F", "tid,ip,sym,dso"], capture_output=True, check=True, text=True
        )
        Path(_MAP.format(process.pid)).unlink(missing_ok=True)
    return list(stacks(script.stdout.splitlines()))


if __name__ == "__main__":
    main()
