"""How long one waits: for the 202 at half load, for a synchronous answer, for the agent to be called."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from orchestrator.bench.acceptance import CONNECTIONS, ENVIRON, TASK
from orchestrator.bench.agent import agent, calls
from orchestrator.bench.endtoend import CALL, register
from orchestrator.bench.harness import Benchmark, Figures, Subject, Target, Turn
from orchestrator.bench.load import under_load
from orchestrator.bench.paced import Connection, paced, percentile
from orchestrator.bench.processes import said_by, serving

WARM_UP = 20
SYNC = json.dumps({**CALL, "task_type": "analyze_monitor", "request_id": None}).replace('"request_id": null, ', "")


def half_load(turn: Turn) -> Figures:
    """Of what the same server could just do."""
    with serving("-m", "orchestrator", "serve", environ=ENVIRON) as port:
        most = under_load(port, "/route_task", TASK, CONNECTIONS, turn.seconds / 3)
        return _probe("half_load", port, turn.seconds, max(1.0, most / 2))


def synchronous(turn: Turn) -> Figures:
    """Through the orchestrator and directly, by turns, on one connection each."""
    with agent() as endpoint, serving("-m", "orchestrator", "serve", environ=ENVIRON) as port:
        register(port, endpoint)
        return _probe("synchronous", port, turn.seconds, endpoint)


def to_the_door(turn: Turn) -> Figures:
    """From the 202 to the moment at which the agent has the whole call."""
    with agent() as endpoint, serving("-m", "orchestrator", "serve", environ=ENVIRON) as port:
        register(port, endpoint)
        return _probe("to_the_door", port, turn.seconds, endpoint)


def _probe(name: str, port: int, seconds: float, more: object) -> Figures:
    words = ["-m", "orchestrator.bench.latency", name, str(port), str(seconds), str(more)]
    figures: dict[str, float] = json.loads(said_by(words, within=seconds))
    return figures


async def _half_load(port: int, seconds: float, rate: str) -> Figures:
    taken = await paced(port, "/route_task", TASK, float(rate), seconds)
    return {"p50 ms": percentile(taken, 0.5), "p99 ms": percentile(taken, 0.99), "at tasks/s": float(rate)}


async def _synchronous(port: int, seconds: float, endpoint: str) -> Figures:
    through, direct = await Connection.opened(port), await Connection.opened(int(endpoint.rpartition(":")[2]))
    times: dict[str, list[float]] = {"through": [], "direct": []}
    end, number = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or number < 2 * WARM_UP:
        number += 1
        began = time.perf_counter()
        answer = json.loads(await through.post("/route_task", SYNC.encode()))
        middle = time.perf_counter()
        await direct.post("/call", json.dumps(CALL).encode())
        if answer["status"] != "completed_sync":
            raise RuntimeError(f"it was not answered synchronously: {answer['status']}")
        if number > WARM_UP:
            times["through"].append(middle - began)
            times["direct"].append(time.perf_counter() - middle)
    p50 = {name: percentile(taken, 0.5) for name, taken in times.items()}
    return {
        "added p50 ms": p50["through"] - p50["direct"],
        "through p50 ms": p50["through"],
        "through p99 ms": percentile(times["through"], 0.99),
        "direct p50 ms": p50["direct"],
    }


async def _to_the_door(port: int, seconds: float, endpoint: str) -> Figures:
    connection, answered, number = await Connection.opened(port), dict[str, float](), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end or number < 2 * WARM_UP:
        number += 1
        answer = json.loads(await connection.post("/route_task", TASK.replace(b"%d", b"%d" % number)))
        answered[answer["task_id"]] = time.monotonic()
        # The agent is free again, and the next task finds everything at rest.
        await asyncio.sleep(0.01)
    came = calls(endpoint)
    waits = [came[task_id] - at for task_id, at in [*answered.items()][WARM_UP:] if task_id in came]
    return {"p50 ms": percentile(waits, 0.5), "p99 ms": percentile(waits, 0.99)}


_PROBES: dict[str, Callable[[int, float, str], Coroutine[Any, Any, Figures]]] = {
    "half_load": _half_load,
    "synchronous": _synchronous,
    "to_the_door": _to_the_door,
}

BENCHMARKS = (
    Benchmark(
        "latency", "the 202 at half load; what a synchronous call adds; from the 202 to the door of a free agent",
        (
            Subject("202 at half load", half_load),
            Subject("synchronous call", synchronous),
            Subject("202 to the agent's door", to_the_door),
        ),
        (
            Target("p50 ms", "202 at half load", most=3.0),
            Target("p99 ms", "202 at half load", most=15.0),
            Target("added p50 ms", "synchronous call", most=1.5),
            Target("p50 ms", "202 to the agent's door", most=3.0),
        ),
    ),
)  # fmt: skip

if __name__ == "__main__":
    name, port, seconds, more = sys.argv[1:]
    print(json.dumps(asyncio.run(_PROBES[name](int(port), float(seconds), more))))
