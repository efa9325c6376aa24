"""Several replicas as processes, kept alive as a service manager would, and a load on them that loses no answer."""

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import aiohttp
import anyio
from aiohttp import web

from orchestrator.kernel.watch import Watch

GONE = (aiohttp.ClientError, OSError, TimeoutError)
RESTART_S = 0.3
READY_WITHIN_S = 60.0
BATCH = 20
TASKS_PER_S = 250
"""More would only make the run hold more tasks, and as many faults."""
_ANSWER = aiohttp.ClientTimeout(total=15)
_AGAIN = (409, 429, 503)


class Replica:
    """One process of the orchestrator, started again whenever it ends."""

    def __init__(self, served: Any) -> None:
        self.served = served
        self.exits: Counter[int] = Counter()
        self.said = ""
        self._ending = False

    async def keep(self) -> None:
        """Until it is stopped."""
        while not self._ending:
            self.served.process = await self.served.spawn("serve")
            said, _ = await self.served.process.communicate()
            self.said = said.decode()[-4000:] or self.said
            self.exits[self.served.process.returncode or 0] += 1
            await anyio.sleep(RESTART_S)

    async def until_ready(self) -> None:
        """Raises TimeoutError when that does not come, and shows what it said."""
        try:
            with anyio.fail_after(READY_WITHIN_S):
                while await self.served.status("GET", "/ready") != 200:  # noqa: ASYNC110 - another process
                    await anyio.sleep(0.05)
        except TimeoutError:
            raise TimeoutError(f"ended with {self.exits}; said {self.said}") from None

    async def kill(self) -> None:
        """With -9; returns when it is ready again."""
        ended = self.exits.total()
        with suppress(ProcessLookupError):  # It may be between two lives just now.
            self.served.process.kill()
        while self.exits.total() == ended:  # noqa: ASYNC110 - another process
            await anyio.sleep(0.01)
        await self.until_ready()

    def stop(self) -> None:
        """In order, and for good."""
        self._ending = True
        self.served.process.terminate()


class Agent:
    """Answers with what it was sent, and counts how often it was asked for each task. Of first attempts some fail."""

    def __init__(self, name: str, *capabilities: str) -> None:
        self._registration = {"agent_id": name, "capabilities": list(capabilities), "max_concurrency": 64}
        self.runs: Counter[str] = Counter()

    async def __aenter__(self) -> "Agent":
        app = web.Application()
        app.router.add_post("/call", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._registration["endpoint"] = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def register(self, replica: Replica) -> None:
        """Once more, as agents do now and then; a replica that is away hears of it next time."""
        await replica.served.status("POST", "/register_agent", json=self._registration)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.runs[body["request_id"]] += 1
        if request.headers["X-Attempt"] == "1" and body["request_id"].endswith("77"):
            return web.json_response({"success": False, "error": {"message": "busy", "retryable": True}})
        return web.json_response({"success": True, "output": body["payload"]})


class Clients:
    """They ask one replica after the other, and send each task again under its key until it is acknowledged."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas, self._turn = replicas, count()
        self.acknowledged: dict[str, str] = {}
        self.told: Counter[str] = Counter()
        self.ending = False
        self._next_at = 0.0
        self._heard = Watch(0)

    async def until(self, number: int) -> None:
        """So many tasks are acknowledged."""
        while len(self.acknowledged) < number:
            await self._heard.changed()

    async def run(self, number: int) -> None:
        """One client, until it may end; every third sends batches."""
        for turn in count():
            if self.ending:
                return
            tasks = [_task(f"{number}-{turn}-{i}") for i in range(BATCH if number % 3 == 0 else 1)]
            await self._pace(len(tasks))
            while tasks:
                tasks = await self._send(tasks)

    async def _pace(self, tasks: int) -> None:
        self._next_at = max(self._next_at, anyio.current_time()) + tasks / TASKS_PER_S
        await anyio.sleep_until(self._next_at)

    async def _send(self, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What of it is not acknowledged yet."""
        served = self._replicas[next(self._turn) % len(self._replicas)].served
        many = len(tasks) > 1
        path, body = ("/route_tasks", tasks) if many else ("/route_task", tasks[0])
        try:
            status, _, answer = await served.ask("POST", path, json=body, timeout=_ANSWER)
        except GONE as error:
            self.told[type(error).__name__] += 1
            await anyio.sleep(0.05)
            return tasks
        outcomes = answer["outcomes"] if status == 207 else [{"status": status, "body": answer}] * len(tasks)
        left = [task for task, it in zip(tasks, outcomes, strict=True) if not self._is_told(task, **it)]
        if left:
            await anyio.sleep(0.05)
        return left

    def _is_told(self, task: dict[str, Any], status: int, body: dict[str, Any], **_: Any) -> bool:
        """Whether the task is acknowledged by that answer, which is noted."""
        key = task["idempotency_key"]
        self.told[str(body.get("code") or body["status"])] += 1
        if status in _AGAIN:
            return False
        assert status in (200, 202), body
        assert self.acknowledged.setdefault(key, body["task_id"]) == body["task_id"], f"{key} became two tasks"
        if body["status"] == "completed_sync":
            assert body["result"] == task["payload"], f"{key} got the answer of another"
        self._heard.publish(len(self.acknowledged))
        return True


def _task(key: str) -> dict[str, Any]:
    kind = "analyze_monitor" if key.endswith(("0-0", "5-0")) else "embed"
    return {"case_id": key, "task_type": kind, "payload": {"key": key}, "idempotency_key": key}


def seconds() -> float:
    """How long the run is to last at least; 0 for one turn of the faults."""
    return float(os.environ.get("SOAK_SECONDS", "0"))
