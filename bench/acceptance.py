"""Acceptance: durable before the answer, audited, idempotent, consent and policy decided."""

import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import anyio
from msgspec.json import encode

from orchestrator.bench.alone import alone
from orchestrator.bench.harness import Benchmark, Figures, Missing, Subject, Target, Turn
from orchestrator.bench.load import under_load
from orchestrator.bench.processes import ROOT, peers_python, serving
from orchestrator.bench.services import valkey
from orchestrator.domain.task import TaskRequest
from orchestrator.embedding import Orchestrator, settle_collector
from orchestrator.settings import load
from orchestrator.telemetry import configure_logging

CONNECTIONS = 64
CALLERS = 256
BATCH = 100
ENVIRON = {
    "DATABASE_URL": "sqlite:///bench.db",
    "ORCHESTRATOR_LIMITS_REQUESTS_PER_S": "0",
    "ORCHESTRATOR_LIMITS_URGENT_PER_S": "0",
    "LOG_LEVEL": "ERROR",
}
TASK = (
    b'{"case_id": "case-%d", "task_type": "embed", "priority": "normal", "idempotency_key": "key-%d", "payload":'
    b' {"text": "a payload of about so many bytes, as they come from a device that measures something and writes it'
    b' down", "kind": "height", "value": 87.1}, "meta": {"site": "clinic-1"}}'
)
BATCH_OF_TASKS = b"[" + b",".join([TASK.replace(b'"idempotency_key": "key-%d", ', b"")] * BATCH) + b"]"
_OPTIONS = ("--no-access-log", "--no-server-header", "--no-proxy-headers", "--log-level", "error")
# As `uvicorn APP` would with what docs/operations.md has it told, but on the port that we were given.
UVICORN = f"import os, sys, uvicorn; uvicorn.main([*sys.argv[1:], '--port', os.environ['PORT'], *{_OPTIONS}])"


def by_hypercorn(turn: Turn, environ: Mapping[str, str] = ENVIRON) -> Figures:
    """`POST /route_task` on the real server."""
    with serving("-m", "orchestrator", "serve", environ=environ) as port:
        return {"tasks/s": under_load(port, "/route_task", TASK, CONNECTIONS, turn.seconds)}


def in_batches(turn: Turn, environ: Mapping[str, str] = ENVIRON) -> Figures:
    """The same tasks, in batches of 100."""
    with serving("-m", "orchestrator", "serve", environ=environ) as port:
        return {"tasks/s": BATCH * under_load(port, "/route_tasks", BATCH_OF_TASKS, 8, turn.seconds)}


def stock_quart(turn: Turn) -> Figures:
    """The same request to a route that does nothing."""
    with serving("-m", "orchestrator.bench.stock_quart", environ={}) as port:
        return {"tasks/s": under_load(port, "/route_task", TASK, CONNECTIONS, turn.seconds)}


def by_uvicorn(turn: Turn, protocol: str = "orchestrator:HttpProtocol") -> Figures:
    """`create_app()` on uvicorn as docs/operations.md has it, with its fast loop; `protocol` speaks HTTP."""
    if find_spec("uvicorn") is None:
        raise Missing("uvicorn is not installed beside the orchestrator")
    application = ("--factory", "orchestrator:create_app", "--http", protocol)
    with _on_uvicorn(sys.executable, *application, environ=ENVIRON) as port:
        return {"tasks/s": under_load(port, "/route_task", TASK, CONNECTIONS, turn.seconds)}


def fastapi(turn: Turn) -> Figures:
    """A FastAPI route that does nothing."""
    folder = str(ROOT / "bench" / "peers")
    with _on_uvicorn(peers_python(), "--app-dir", folder, "fastapi_storing_nothing:app", environ={}) as port:
        return {"tasks/s": under_load(port, "/route_task", TASK, CONNECTIONS, turn.seconds)}


def what_a_user_would_write(turn: Turn) -> Figures:
    """FastAPI, SQLAlchemy on SQLite, a Redis stream."""
    python, folder = peers_python(), str(ROOT / "bench" / "peers")
    with (
        valkey() as url,
        _on_uvicorn(python, "--app-dir", folder, "fastapi_sqlalchemy:app", environ={"REDIS_URL": url}) as port,
    ):
        return {"tasks/s": under_load(port, "/route_task", TASK, CONNECTIONS, turn.seconds)}


def in_process(turn: Turn) -> Figures:
    """`Orchestrator.route` with 256 callers."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            "tasks/s": alone(partial(route, turn.seconds, {**ENVIRON, "DATABASE_URL": f"sqlite:///{folder}/bench.db"}))
        }


def bare_sqlite(turn: Turn) -> Figures:
    """A task row and a chained audit row each, committed by 256, with a durable WAL."""
    with tempfile.TemporaryDirectory() as folder:
        return {"tasks/s": alone(partial(_write_rows, turn.seconds, folder))}


def _on_uvicorn(python: str, *arguments: str, environ: Mapping[str, str]) -> AbstractContextManager[int]:
    return serving("-c", UVICORN, *arguments, environ=environ, python=python)


async def route(seconds: float, environ: Mapping[str, str]) -> float:
    """Tasks a second that an orchestrator in this process accepts from 256 callers."""
    configure_logging("ERROR", "json")
    settings = load(environ=environ)
    routed, until, took = 0, 0.0, 1.0
    async with Orchestrator(settings) as orchestrator:
        settle_collector()

        async def call(number: int) -> None:
            nonlocal routed
            while time.monotonic() < until:
                payload = {"text": "a payload", "kind": "height", "value": 87.1, "number": routed}
                await orchestrator.route(TaskRequest(case_id=f"case-{number}", task_type="embed", payload=payload))
                routed += 1

        began = time.monotonic()
        until = began + seconds
        async with anyio.create_task_group() as group:
            for number in range(CALLERS):
                group.start_soon(call, number)
        took = time.monotonic() - began
    return routed / took


async def _write_rows(seconds: float, folder: str) -> float:
    with closing(sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)) as connection:
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "CREATE TABLE tasks (id TEXT PRIMARY KEY, body BLOB)",
            "CREATE TABLE audit (seq INTEGER PRIMARY KEY, task TEXT, body BLOB, hash TEXT)",
        ):
            connection.execute(statement)
        written, began, chained = 0, time.monotonic(), "0" * 64
        while time.monotonic() < began + seconds:
            names = [f"task-{number:032x}" for number in range(written, written + CALLERS)]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO tasks VALUES (?, ?)", [(name, TASK) for name in names])
            entries: list[tuple[str, bytes, str]] = []
            for name in names:
                body = encode((name, "accepted", time.time(), chained))
                chained = sha256(body).hexdigest()
                entries.append((name, body, chained))
            connection.executemany("INSERT INTO audit (task, body, hash) VALUES (?, ?, ?)", entries)
            connection.execute("COMMIT")
            written += CALLERS
        return written / (time.monotonic() - began)


_HTTP = Subject("orchestrator on Hypercorn", by_hypercorn)
_SQLITE = Subject("bare batched SQLite", bare_sqlite)

BENCHMARKS = (
    Benchmark(
        "http", "POST /route_task, 64 connections", (_HTTP, Subject("stock Quart, stores nothing", stock_quart)),
        (Target("tasks/s", _HTTP.name, least=3.0, over=("stock Quart, stores nothing",)),),
        baseline="stock Quart, stores nothing",
    ),
    Benchmark(
        "uvicorn", "POST /route_task on uvicorn with our class for its 64 connections, with its own, and of FastAPI",
        (
            Subject("orchestrator on uvicorn", by_uvicorn),
            Subject("the same, uvicorn's class", partial(by_uvicorn, protocol="httptools")),
            Subject("FastAPI, stores nothing", fastapi),
        ),
        (Target("tasks/s", "orchestrator on uvicorn", least=1.5, over=("FastAPI, stores nothing",)),),
        baseline="FastAPI, stores nothing",
    ),
    Benchmark(
        "user", "POST /route_task beside what one would write instead, 64 connections",
        (_HTTP, Subject("FastAPI, SQLAlchemy, XADD", what_a_user_would_write)),
        (Target("tasks/s", _HTTP.name, least=15.0, over=("FastAPI, SQLAlchemy, XADD",)),),
        baseline="FastAPI, SQLAlchemy, XADD",
    ),
    Benchmark(
        "inprocess", "Orchestrator.route, 256 callers; and a bare row and a chained one each in commits of 256",
        (Subject("orchestrator in process", in_process), _SQLITE),
        (
            Target("tasks/s", "orchestrator in process", least=25_000),
            Target("tasks/s", "orchestrator in process", least=0.5, over=(_SQLITE.name,)),
        ),
        baseline=_SQLITE.name,
    ),
    Benchmark(
        "batches", "POST /route_tasks in batches of 100, 8 connections; bare and chained rows in commits of 256",
        (Subject("orchestrator, batches", in_batches), _SQLITE),
        (Target("tasks/s", "orchestrator, batches", least=20_000),),
        baseline=_SQLITE.name,
    ),
)  # fmt: skip
