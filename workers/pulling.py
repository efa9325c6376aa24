"""Pull mode: asks the orchestrator for work as long as there are places for it, and hands in what comes of it."""

import asyncio
import json
import logging
import random
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from orchestrator.workers.calls import Calls
from orchestrator.workers.executor import Busy, Executor
from orchestrator.workers.registration import BACKOFF_FIRST, BACKOFF_MOST, Registration
from orchestrator.workers.task import Task
from orchestrator.workers.wire import failure

log = logging.getLogger("orchestrator.workers")

WAIT_S = 30.0
"""How long one request waits for work."""
MARGIN_S = 10.0
PLACES_EVERY_S = 0.5
UNKNOWN = 404
PASSING = (0, 401, 408, 429)
"""What may be answered otherwise in a while: nobody was there, a token is just being replaced, it went too slowly."""
TRIES = 8


class Puller:
    """Works for one agent that is registered without an endpoint."""

    def __init__(self, calls: Calls, agent_id: str, executor: Executor, registration: Registration) -> None:
        self._calls, self._agent_id, self._executor, self._registration = calls, agent_id, executor, registration
        self._working: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Takes work until it is cancelled. What it took goes on: see `finish`."""
        most = BACKOFF_FIRST
        await self._registration.registered.wait()
        while True:
            await self.until_there_are_places()
            if await self.take({"max": min(self._executor.places, 100)}, WAIT_S) is not None:
                most = BACKOFF_FIRST
            else:
                await asyncio.sleep(random.uniform(0, most))
                most = min(most * 2, BACKOFF_MOST)

    async def finish(self) -> None:
        """Waits until everything that was taken is handed in, but not for long where nobody takes it."""
        if self._working:
            await asyncio.wait(self._working, timeout=MARGIN_S)

    def start(self, lease: Mapping[str, Any]) -> None:
        """Works on a task that was leased."""
        task = _task(lease)
        working = asyncio.create_task(self._work(task))
        self._working.add(working)
        working.add_done_callback(self._working.discard)

    async def take(self, ask: Mapping[str, Any], wait: float = 0.0) -> int | None:
        """One request for work, which is begun: how many tasks it brought, None where it went wrong."""
        path = f"/agents/{quote(self._agent_id, safe='')}/lease"
        status, answer = await self._calls.post(path, {**ask, "wait": wait}, wait + MARGIN_S)
        if status == UNKNOWN:
            await self._registration.register()
        if status != 200:
            return None
        leases = answer.get("tasks", ())
        for lease in leases:
            self.start(lease)
        return len(leases)

    async def until_there_are_places(self) -> None:
        """Waits until another task could be begun."""
        while self._executor.places < 1:
            # A thread that outlived its task holds a place, and tells nobody when it ends.
            if self._working:
                await asyncio.wait(self._working, timeout=PLACES_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(PLACES_EVERY_S)

    async def _work(self, task: Task) -> None:
        try:
            answer = await self._executor.answer(task)
        except Busy:
            answer = failure("the agent is draining", retryable=True)
        held = {"agent_id": self._agent_id, "attempt": task.attempt, "lease": task.lease}
        await self._hand_in(task, {**json.loads(answer), **held})

    async def _hand_in(self, task: Task, result: Mapping[str, Any]) -> None:
        """The same result may be given twice, so it is, until the orchestrator has heard it."""
        for attempt in range(TRIES):
            status, _ = await self._calls.post(f"/task/{task.task_id}/result", result)
            if status < 500 and status not in PASSING:
                log.log(logging.INFO if status == 200 else logging.WARNING, "%r handed in (%d)", task, status)
                return
            await asyncio.sleep(random.uniform(0, min(BACKOFF_MOST, BACKOFF_FIRST * 2**attempt)))
        log.warning("%r could not be handed in", task)


def _task(lease: Mapping[str, Any]) -> Task:
    return Task(
        task_id=lease["task_id"],
        case_id=lease["case_id"],
        task_type=lease["task_type"],
        payload=lease["payload"],
        meta=lease["meta"],
        attempt=lease["attempt"],
        deadline=datetime.fromisoformat(lease["deadline"]).timestamp(),
        lease=lease["lease"],
        lease_s=lease["lease_s"],
    )
