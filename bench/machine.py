"""What it ran on: enough to compare results, and nothing that names the machine or its owner."""

import os
import platform
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from orchestrator.bench.cores import separate
from orchestrator.bench.harness import Missing
from orchestrator.bench.processes import peers_python

OURS = ("aiohttp", "aiosqlite", "anyio", "asyncpg", "httptools", "hypercorn", "msgspec", "quart", "redis", "uvloop")
THEIRS = (
    "arq", "celery", "dramatiq", "fastapi", "huey", "procrastinate", "pydantic", "saq", "sqlalchemy", "taskiq",
    "taskiq-redis", "uvicorn",
)  # fmt: skip


def machine() -> dict[str, object]:
    """Processor, cores, memory, versions, and how busy it was when the run began."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "pinned": separate(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
        "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
        "versions": {**_versions(), **_peers_versions()},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in OURS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _peers_versions() -> dict[str, str]:
    try:
        python = peers_python()
    except Missing:
        return {}
    code = "import sys; from importlib.metadata import version\nfor name in sys.argv[1:]: print(name, version(name))"
    done = subprocess.run([python, "-c", code, *THEIRS], capture_output=True, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())
