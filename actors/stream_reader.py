"""From the streams to the queue: what this replica has slots for, and what replicas that are gone have left behind.

An entry leaves its stream after the ledger has committed the lease of its task, or says that the task is not ready.
From then on the ledger answers for it. What is in hand when the replica stops is given back; others claim it at once.
"""

from collections.abc import Sequence
from contextlib import suppress

import anyio
from anyio.abc import TaskGroup

from orchestrator.actors.drain import Drain
from orchestrator.actors.reading import read
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.task import Priority
from orchestrator.kernel.inbox import Inbox
from orchestrator.storage.ports import LedgerReader, StreamEntry, StreamIntake, Streams, StreamsUnavailable

WAIT_S = 2.0
SHORT_WAIT_S = 0.05
"""Where not every class is wanted: one that is may be wanted soon."""
AGAIN_S = 0.5
CLAIM_EVERY_S = 5.0
CLAIM_AT_ONCE = 32
GIVE_BACK_S = 1.0


class StreamReader:
    """Has no messages of its own: it follows the streams, and what the queue wants."""

    def __init__(self, streams: Streams, reader: LedgerReader, queue: StreamIntake, drain: Drain) -> None:
        self._streams, self._reader, self._queue, self._drain = streams, reader, queue, drain

    async def run(self, inbox: Inbox[object]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._read, inbox)
            group.start_soon(self._claim)
            group.start_soon(self._remove)
            group.start_soon(self._stop_with_the_drain, group)
            inbox.ready()
            await inbox.wait_stopping()
            group.cancel_scope.cancel()
        await self._give_back()
        await inbox.wait_stopping()

    async def _stop_with_the_drain(self, group: TaskGroup) -> None:
        await self._drain.wait()
        group.cancel_scope.cancel()

    async def _read(self, inbox: Inbox[object]) -> None:
        while True:
            await self._queue.wanting()
            room = self._queue.room()
            wait = WAIT_S if len(room) == len(Priority) else SHORT_WAIT_S
            try:
                entries = await self._streams.read(room, wait)
            except StreamsUnavailable:
                self._queue.detach()
                await anyio.sleep(AGAIN_S)
                continue
            self._queue.attach()
            await self._deliver(entries)
            inbox.progress()

    async def _claim(self) -> None:
        while True:
            with suppress(StreamsUnavailable):
                await self._deliver(await self._streams.claim(CLAIM_AT_ONCE))
            # What is in hand may be done with by now: by a worker that reads the streams itself, or another replica.
            await self._deliver(self._queue.held())
            await anyio.sleep(CLAIM_EVERY_S)

    async def _deliver(self, entries: Sequence[StreamEntry]) -> None:
        """What the ledger does not know to be ready is no work any more. While it cannot be read, nobody can tell."""
        while entries:
            try:
                tickets = await read(self._reader.tickets([entry.task_id for entry in entries]))
            except OrchestratorError:
                await anyio.sleep(AGAIN_S)
                continue
            self._queue.deliver(entries, tickets)
            return

    async def _remove(self) -> None:
        kept: list[StreamEntry] = []
        while True:
            if not kept:
                await self._queue.finishing()
            kept += self._queue.finished()
            try:
                await self._streams.remove(kept)
            except StreamsUnavailable:
                await anyio.sleep(AGAIN_S)
            else:
                kept = []

    async def _give_back(self) -> None:
        self._queue.detach()
        with anyio.move_on_after(GIVE_BACK_S, shield=True):
            try:
                await self._streams.give_back(self._queue.held())
                await self._streams.remove(self._queue.finished())
            except StreamsUnavailable:
                return
