"""PostgreSQL and Redis: acceptance beside SQLite's, and how fast streams are told and read."""

import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import redis

from orchestrator.bench.acceptance import ENVIRON, route
from orchestrator.bench.agent import agent
from orchestrator.bench.alone import alone
from orchestrator.bench.endtoend import CALL, post, register
from orchestrator.bench.harness import Benchmark, Figures, Subject, Target, Turn
from orchestrator.bench.processes import serving
from orchestrator.bench.services import postgres, valkey

ENTRIES = 20_000
STREAM = "tasks:normal"
PATIENCE_S = 60.0
PAGE = 500
_ROOMY = {**ENVIRON, "ORCHESTRATOR_STREAM_MAXLEN": "1000000"}
_TASK = {"case_id": "case-1", "task_type": "indexing", "payload": CALL["payload"]}


def on_sqlite(turn: Turn) -> Figures:
    """In process, 256 callers."""
    with tempfile.TemporaryDirectory() as folder:
        return _accepted(turn, {"DATABASE_URL": f"sqlite:///{folder}/bench.db"})


def on_postgres(turn: Turn) -> Figures:
    """The same; the server is on the other core."""
    with postgres() as url:
        return _accepted(turn, {"DATABASE_URL": url})


def with_redis(turn: Turn) -> Figures:
    """SQLite, and streams that are told of each task meanwhile."""
    with tempfile.TemporaryDirectory() as folder, valkey() as url:
        return _accepted(turn, {"DATABASE_URL": f"sqlite:///{folder}/bench.db", "REDIS_URL": url})


def _accepted(turn: Turn, environ: Mapping[str, str]) -> Figures:
    return {"tasks/s": alone(partial(route, turn.seconds, {**ENVIRON, **environ}))}


def relay(turn: Turn) -> Figures:
    """Everything once more, after Redis has lost it."""
    entries = _entries(turn)
    with valkey() as url, serving("-m", "orchestrator", "serve", environ={**_ROOMY, "REDIS_URL": url}) as port:
        for _ in range(entries // PAGE):
            post(port, "/route_tasks", [_TASK] * PAGE)
        with _client(url) as client:
            _wait(lambda: client.xlen(STREAM) >= entries)
            client.flushall()
            began = _wait(lambda: client.xlen(STREAM) >= entries // 10)
            ended = _wait(lambda: client.xlen(STREAM) >= entries * 9 // 10)
    return {"entries/s": entries * 0.8 / (ended - began)}


def consume(turn: Turn) -> Figures:
    """Entries of tasks that are over: each is read, asked of the ledger, and removed."""
    entries = _entries(turn)
    with valkey() as url, agent() as endpoint, _client(url) as client:
        with client.pipeline(transaction=False) as pipeline:
            for number in range(entries):
                fields = {"task_id": f"task-{number:032x}", "task_type": "embed", "priority": "normal"}
                pipeline.xadd(STREAM, fields)
            pipeline.execute()
        with serving("-m", "orchestrator", "serve", environ={**_ROOMY, "REDIS_URL": url}) as port:
            register(port, endpoint)
            began = _wait(lambda: client.xlen(STREAM) <= entries * 9 // 10)
            ended = _wait(lambda: client.xlen(STREAM) <= entries // 10)
    return {"entries/s": entries * 0.8 / (ended - began)}


def _client(url: str) -> Any:
    return redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]


def _entries(turn: Turn) -> int:
    return max(PAGE, int(ENTRIES * turn.scale) // PAGE * PAGE)


def _wait(holds: Callable[[], bool]) -> float:
    """When it was so, as monotonic time. Raises TimeoutError."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > give_up_at:
            raise TimeoutError("it did not come about")
        time.sleep(0.005)
    return time.monotonic()


_SQLITE = "SQLite"

BENCHMARKS = (
    Benchmark(
        "stores", "Orchestrator.route by store, 256 callers; its server, if it has one, on the other core",
        (
            Subject("PostgreSQL", on_postgres),
            Subject(_SQLITE, on_sqlite),
            Subject("SQLite and Redis", with_redis),
        ),
        (
            Target("tasks/s", "PostgreSQL", least=0.6, over=(_SQLITE,)),
            Target("tasks/s", "SQLite and Redis", least=0.6, over=(_SQLITE,)),
        ),
        baseline=_SQLITE,
    ),
    Benchmark(
        "streams", "entries that are told to Redis streams after a loss, and entries that are taken from them",
        (Subject("relay", relay), Subject("consume", consume)),
        (Target("entries/s", "relay", least=10_000), Target("entries/s", "consume", least=10_000)),
    ),
)  # fmt: skip
