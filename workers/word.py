"""What an agent says of an attempt while it works: how far it is, and that its lease is to hold on."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from orchestrator.workers.calls import Calls
from orchestrator.workers.task import Task

log = logging.getLogger("orchestrator.workers")

STALE = 409
PAUSE = 0.5
"""Seconds between two words about one attempt, however often its handler says something."""
EARLY = 3
"""A lease is kept each time when so much of its time is left: one third has gone twice before it lapses."""


class Words:
    """Speaks for all attempts of one agent."""

    def __init__(self, calls: Calls, agent_id: str) -> None:
        self._calls, self._agent_id = calls, agent_id

    @asynccontextmanager
    async def about(self, task: Task, give_up: Callable[[], object]) -> AsyncGenerator[None]:
        """Says what `task` reports, and keeps its lease, inside the block. `give_up` is called once that is lost."""
        keeping = asyncio.create_task(self._keep(task, give_up))
        try:
            yield
        finally:
            keeping.cancel()

    async def _keep(self, task: Task, give_up: Callable[[], object]) -> None:
        renew_in = None if task.lease is None else task.lease_s / EARLY
        while True:
            said = await task.reports.next(renew_in)
            body: dict[str, Any] = {"agent_id": self._agent_id, "attempt": task.attempt, **said}
            if task.lease is not None:
                body["lease"] = task.lease
            status, answer = await self._calls.post(f"/task/{task.task_id}/extend", body)
            if status == STALE and task.lease is not None:
                log.warning("%r is not ours any more", task)
                give_up()
                return
            if status == 200 and task.lease is not None:
                renew_in = max(PAUSE, float(answer.get("lease_s", task.lease_s)) / EARLY)
            await asyncio.sleep(PAUSE)
