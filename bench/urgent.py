"""Urgent work among a flood of low work, while one slot of the agent is free: it is kept for urgent work."""

import asyncio
import json
import sys
import time

from orchestrator.bench.acceptance import ENVIRON, TASK
from orchestrator.bench.agent import agent, calls
from orchestrator.bench.endtoend import post, register
from orchestrator.bench.harness import Benchmark, Figures, Subject, Target, Turn
from orchestrator.bench.paced import Connection, percentile
from orchestrator.bench.processes import said_by, serving

FLOOD = 10_000
BATCH = 500
WORK_S = 0.25
"""With 31 slots for low work of each consumer, some 250 calls a second: all slots are always taken, no core is."""
EVERY_S = 0.04


def urgent(turn: Turn) -> Figures:
    """From its 202 to the door of the agent."""
    environ = {**ENVIRON, "ORCHESTRATOR_LIMITS_URGENT_PER_S": "0"}
    with agent(WORK_S) as endpoint, serving("-m", "orchestrator", "serve", environ=environ) as port:
        register(port, endpoint)
        words = ["-m", "orchestrator.bench.urgent", str(port), str(turn.seconds), endpoint]
        figures: dict[str, float] = json.loads(said_by(words, within=60 + turn.seconds))
        return figures


def _flood(port: int) -> None:
    task = json.loads(TASK.replace(b"%d", b"0"))
    del task["idempotency_key"]
    for _ in range(FLOOD // BATCH):
        post(port, "/route_tasks", [{**task, "priority": "low"}] * BATCH)


async def _measure(port: int, seconds: float, endpoint: str) -> Figures:
    connection, answered, end = await Connection.opened(port), dict[str, float](), time.monotonic() + seconds
    body, number = TASK.replace(b'"normal"', b'"urgent"'), 0
    while time.monotonic() < end:
        number += 1
        answer = json.loads(await connection.post("/route_task", body.replace(b"%d", b"%d" % number)))
        answered[answer["task_id"]] = time.monotonic()
        # The slot that is kept for urgent work has to be free again.
        await asyncio.sleep(max(EVERY_S, WORK_S * 1.1))
    await asyncio.sleep(2 * WORK_S)
    came = calls(endpoint)
    waits = [came[task_id] - at for task_id, at in answered.items()]
    still_low = FLOOD - (len(came) - len(answered))
    if still_low <= 0:
        raise RuntimeError("the flood was over before the end")
    return {"p50 ms": percentile(waits, 0.5), "p99 ms": percentile(waits, 0.99)}


BENCHMARKS = (
    Benchmark(
        "urgent", "an urgent task among 10,000 low ones with one slot free: from its 202 to the agent's door",
        (Subject("urgent among a flood", urgent),),
        (Target("p99 ms", "urgent among a flood", most=20.0),),
    ),
)  # fmt: skip

if __name__ == "__main__":
    port, seconds, endpoint = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    _flood(port)
    print(json.dumps(asyncio.run(_measure(port, seconds, endpoint))))
