"""End to end: accepted, queued, dispatched over HTTP to an agent on loopback, result durable, status readable."""

import asyncio
import json
import sys
import time
import urllib.request
from functools import partial
from typing import Any

import aiohttp

from orchestrator.bench import rivals
from orchestrator.bench.acceptance import BATCH, BATCH_OF_TASKS, CONNECTIONS, ENVIRON, TASK
from orchestrator.bench.agent import agent, count
from orchestrator.bench.alone import alone
from orchestrator.bench.harness import Benchmark, Figures, Subject, Target, Turn
from orchestrator.bench.load import Requests, send
from orchestrator.bench.processes import said_by, serving

PATIENCE_S = 120.0
WARM_UP_S = 0.3
CALL = {
    "request_id": "task-0123456789abcdef0123456789abcdef", "case_id": "case-1", "task_type": "embed",
    "payload": json.loads(TASK.replace(b"%d", b"1"))["payload"], "meta": {"site": "clinic-1"},
}  # fmt: skip


def one_by_one(turn: Turn) -> Figures:
    """Tasks by `POST /route_task`."""
    return _through(turn, "/route_task", TASK, CONNECTIONS)


def in_batches(turn: Turn) -> Figures:
    """Tasks by `POST /route_tasks`, 100 at once."""
    return _through(turn, "/route_tasks", BATCH_OF_TASKS, 2)


def bare_client(turn: Turn) -> Figures:
    """What aiohttp does with nothing around it."""
    with agent() as endpoint:
        return {"tasks/s": alone(partial(_call_again_and_again, endpoint, turn.seconds))}


def register(port: int, endpoint: str, slots: int = 64) -> None:
    """Makes the agent known."""
    agent = {
        "agent_id": "bench",
        "endpoint": endpoint,
        "capabilities": ["embed", "analyze_light"],
        "max_concurrency": slots,
    }
    post(port, "/register_agent", agent)


def post(port: int, path: str, body: object) -> Any:
    """The answer, as JSON."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def get(port: int, path: str) -> Any:
    """The answer, as JSON."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return json.loads(answer.read())


def _through(turn: Turn, path: str, body: bytes, connections: int) -> Figures:
    with agent() as endpoint, serving("-m", "orchestrator", "serve", environ=ENVIRON) as port:
        register(port, endpoint)
        words = [str(port), path, str(connections), str(turn.seconds), endpoint]
        return {
            "tasks/s": float(said_by(["-m", "orchestrator.bench.endtoend", *words], body, turn.seconds + PATIENCE_S))
        }


async def _call_again_and_again(endpoint: str, seconds: float) -> float:
    done, began = 0, time.monotonic()
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def call() -> None:
            nonlocal done
            while time.monotonic() < began + seconds:
                async with session.post(f"{endpoint}/call", json=CALL) as response:
                    await response.json()
                done += 1

        await asyncio.gather(*(call() for _ in range(CONNECTIONS)))
    return done / (time.monotonic() - began)


def _accepted(requests: Requests) -> list[str]:
    """The ids of all tasks that were accepted."""
    answers = [json.loads(body) for body in requests.answers]
    return [one.get("body", one)["task_id"] for it in answers for one in it.get("outcomes", [it])]


def drive(port: int, path: str, body: bytes, connections: int, seconds: float, endpoint: str) -> float:
    """Tasks a second, from the first request until all of them are done and say so."""
    began = time.monotonic()
    requests = asyncio.run(send(port, path, body, connections, seconds, keep=True))
    tasks = _accepted(requests)
    while count(endpoint) < len(tasks):
        time.sleep(0.02)
    states = [get(port, f"/task/{task_id}?wait=20")["status"] for task_id in tasks[-CONNECTIONS:]]
    if states != ["succeeded"] * len(states):
        raise RuntimeError(f"not all succeeded: {set(states)}")
    return len(tasks) / (time.monotonic() - began)


_OURS = "orchestrator, one by one"
_BATCHES = f"orchestrator, by {BATCH}"
_BARE = "bare aiohttp client"

BENCHMARKS = (
    Benchmark(
        "endtoend", "tasks accepted, done by an agent, result durable; peers: a full queue, one worker, the same call",
        (Subject(_OURS, one_by_one), Subject(_BARE, bare_client), Subject(_BATCHES, in_batches), *rivals.subjects()),
        (
            Target("tasks/s", _OURS, least=0.7, over=(_BARE,)),
            Target("tasks/s", _BATCHES, least=0.7, over=(_BARE,)),
            Target("tasks/s", _OURS, least=1.0, over=tuple(rival.name for rival in rivals.RIVALS)),
        ),
        baseline=_BARE,
    ),
)  # fmt: skip

if __name__ == "__main__":
    words = sys.argv[1:]
    print(drive(int(words[0]), words[1], sys.stdin.buffer.read(), int(words[2]), float(words[3]), words[4]))
