"""Pull mode beside Redis: the streams say which task waits, the orchestrator says whose it is."""

import asyncio
import logging
import random
from collections.abc import Sequence

from orchestrator.workers.calls import Calls
from orchestrator.workers.executor import Executor
from orchestrator.workers.pulling import Puller
from orchestrator.workers.registration import BACKOFF_FIRST, BACKOFF_MOST, Registration
from orchestrator.workers.task_streams import Entry, StreamsAway, TaskStreams

log = logging.getLogger("orchestrator.workers")

SWEEP_S = 5.0
"""How often it asks for whatever waits: what streams have lost, and what was for nobody who read of it."""
CLAIM_EVERY_S = 15.0


class StreamPuller(Puller):
    """Leases the tasks that the streams name. Without Redis it goes on by asking, only less promptly."""

    def __init__(
        self,
        calls: Calls,
        agent_id: str,
        executor: Executor,
        registration: Registration,
        streams: Sequence[TaskStreams],
    ) -> None:
        super().__init__(calls, agent_id, executor, registration)
        self._streams = streams

    async def run(self) -> None:
        await self._registration.registered.wait()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sweep())
                for streams in self._streams:
                    group.create_task(self._follow(streams))
        finally:
            for streams in self._streams:
                await streams.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.until_there_are_places()
            await self.take({"max": min(self._executor.places, 100)})

    async def _follow(self, streams: TaskStreams) -> None:
        most, claim_at = BACKOFF_FIRST, 0.0
        loop = asyncio.get_running_loop()
        while True:
            await self.until_there_are_places()
            try:
                entries = await streams.next(self._executor.places)
                if loop.time() >= claim_at:
                    entries += await streams.claim(self._executor.places)
                    claim_at = loop.time() + CLAIM_EVERY_S
                for entry in entries:
                    await self._consider(streams, entry)
                most = BACKOFF_FIRST
            except StreamsAway as error:
                log.warning("the streams are away (%s)", error)
                await asyncio.sleep(random.uniform(0, most))
                most = min(most * 2, BACKOFF_MOST)

    async def _consider(self, streams: TaskStreams, entry: Entry) -> None:
        leased: int | None = 0
        if streams.wants(entry):
            leased = await self.take({"task_id": entry.task_id})
        # What could not be asked for stays pending, and is claimed by somebody later.
        if leased is not None:
            await streams.done(entry, leased=leased > 0)
