"""Acceptance: durable before the answer, audited, idempotent, consent and policy decided."""

import sqlite3
import tempfile
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anyio

from orchestrator.bench.harness import Benchmark
from orchestrator.bench.processes import SERVER_CORE, pin, serving, under_load
from orchestrator.domain.task import TaskRequest
from orchestrator.embedding import Orchestrator
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


def over_http(seconds: float) -> float:
    """`POST /route_task` on the real server."""
    with serving("orchestrator", "serve", environ=ENVIRON) as port:
        return under_load(port, "/route_task", TASK, CONNECTIONS, seconds)


def stock_quart(seconds: float) -> float:
    """The same request to a route that does nothing."""
    with serving("orchestrator.bench.stock", environ={}) as port:
        return under_load(port, "/route_task", TASK, CONNECTIONS, seconds)


def batches(seconds: float) -> float:
    """Tasks, in batches of 100."""
    body = b"[" + b",".join([TASK.replace(b'"idempotency_key": "key-%d", ', b"")] * BATCH) + b"]"
    with serving("orchestrator", "serve", environ=ENVIRON) as port:
        return BATCH * under_load(port, "/route_tasks", body, 8, seconds)


def in_process(seconds: float) -> float:
    """`Orchestrator.route` with 256 callers."""
    return _alone(partial(_route, seconds))


def bare_sqlite(seconds: float) -> float:
    """A task row and an audit row each, committed by 256, with a durable WAL: what the disk and SQLite give at most."""
    return _alone(partial(_write_rows, seconds))


async def _route(seconds: float, folder: str) -> float:
    configure_logging("ERROR", "json")
    settings = load(environ={**ENVIRON, "DATABASE_URL": f"sqlite:///{folder}/bench.db"})
    routed, until, took = 0, 0.0, 1.0
    async with Orchestrator(settings) as orchestrator:

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
            "CREATE TABLE audit (seq INTEGER PRIMARY KEY, task TEXT, body BLOB)",
        ):
            connection.execute(statement)
        written, began = 0, time.monotonic()
        while time.monotonic() < began + seconds:
            names = [f"task-{number:032x}" for number in range(written, written + CALLERS)]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO tasks VALUES (?, ?)", [(name, TASK) for name in names])
            connection.executemany("INSERT INTO audit (task, body) VALUES (?, ?)", [(name, TASK) for name in names])
            connection.execute("COMMIT")
            written += CALLERS
        return written / (time.monotonic() - began)


def _alone(work: Callable[[str], Coroutine[Any, Any, float]]) -> float:
    """In a process of its own, on its core, with its files in a folder that goes with it."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_run, work).result()


def _run(work: Callable[[str], Coroutine[Any, Any, float]]) -> float:
    pin(SERVER_CORE)
    with tempfile.TemporaryDirectory() as folder:
        return anyio.run(work, folder, backend_options={"use_uvloop": True})


BENCHMARKS = (
    Benchmark(
        "http", "POST /route_task, 64 connections, one core", over_http,
        stock_quart, "a stock Quart route on Hypercorn that stores nothing", 3.0,
    ),
    Benchmark(
        "inprocess", "Orchestrator.route, 256 callers, one core", in_process,
        bare_sqlite, "two bare rows each in commits of 256, SQLite with FULL", 0.5,
    ),
    Benchmark(
        "batches", "tasks by POST /route_tasks in batches of 100, one core", batches,
        bare_sqlite, "two bare rows each in commits of 256, SQLite with FULL", 0.25,
    ),
)  # fmt: skip
