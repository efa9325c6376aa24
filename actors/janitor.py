"""What time brings: retries that come due, leases that lapse, deadlines that pass, keys that expire, what was kept.

Every step is a compare-and-set, so any number of janitors may do it.
"""

from math import inf

import anyio
from msgspec import Struct

from orchestrator.actors.committing import Committer
from orchestrator.actors.messages import WakeAt
from orchestrator.actors.retention import Retention
from orchestrator.actors.verdicts import Verdicts, draft
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.lifecycle import Step
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.monotonic import monotonic
from orchestrator.storage.commands import Command, ExpireKeys, TaskRecord, Transition
from orchestrator.storage.ports import LedgerReader, Unreadable


class Rounds(Struct, frozen=True):
    """How often it looks, in seconds, and how many tasks it takes in hand at a time."""

    every_s: float = 1.0
    keys_every_s: float = 60.0
    page: int = 256


EVERY_SECOND = Rounds()


class Janitor:
    """Looks once a round, and in between when it is told that something comes due."""

    def __init__(
        self,
        environment: Environment,
        reader: LedgerReader,
        committer: Committer,
        verdicts: Verdicts,
        rounds: Rounds = EVERY_SECOND,
        retention: Retention | None = None,
    ) -> None:
        self._environment, self._reader, self._committer = environment, reader, committer
        self._verdicts, self._rounds, self._retention = verdicts, rounds, retention
        self._keys_at = 0.0
        self._earlier = anyio.Event()
        self._next_at = inf

    async def run(self, inbox: Inbox[WakeAt]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._work, inbox)
            if self._retention is not None:
                group.start_soon(self._retention.run)
            inbox.ready()
            async for message in inbox:
                if message.at < self._next_at:
                    self._next_at = message.at
                    self._earlier.set()
            group.cancel_scope.cancel()

    async def _work(self, inbox: Inbox[WakeAt]) -> None:
        while True:
            inbox.at_work(True)
            try:
                found = await self._round()
                if found is False:
                    # Forgotten before the ledger is asked: what comes meanwhile is kept.
                    self._earlier, self._next_at = anyio.Event(), inf
                    due_at = await self._reader.next_due()
                    self._next_at = min(self._next_at, inf if due_at is None else due_at)
            except Unreadable:
                found = None
            inbox.at_work(False)
            if found is None:
                await anyio.sleep(self._rounds.every_s)
            elif not found:
                await self._rest()

    async def _rest(self) -> None:
        """Until the next thing is due, or the next round."""
        end = monotonic() + self._rounds.every_s
        while (left := min(end - monotonic(), self._next_at - self._now())) > 0:
            with anyio.move_on_after(left):
                await self._earlier.wait()
                self._earlier = anyio.Event()

    def _now(self) -> float:
        return self._environment.now()

    async def _round(self) -> bool | None:
        """One look at everything: whether there was so much that another is due; None if it cannot be written."""
        now, page = self._now(), self._rounds.page
        due = await self._reader.due(now, page)
        lapsed = await self._reader.lapsed(now, page)
        overdue = await self._reader.overdue(now, page)
        commands: dict[str, Command] = {r.task.task_id: self._come_due(r, now) for r in due}
        commands |= {record.task.task_id: self._verdicts.lapsed(record) for record in lapsed}
        commands |= {record.task.task_id: self._expire(record, now) for record in overdue}
        if now - self._keys_at >= self._rounds.keys_every_s:
            self._keys_at = now
            commands[""] = ExpireKeys(now)
        if not await self._commit(list(commands.values())):
            return None
        return page in (len(due), len(lapsed), len(overdue))

    async def _commit(self, commands: list[Command]) -> bool:
        """All at once, so that they share a batch; what cannot be written now is found again by the next round."""
        failed: list[OrchestratorError] = []

        async def commit(command: Command) -> None:
            try:
                await self._committer.commit(command)
            except OrchestratorError as error:
                failed.append(error)

        async with anyio.create_task_group() as group:
            for command in commands:
                group.start_soon(commit, command)
        return not failed

    def _come_due(self, record: TaskRecord, now: float) -> Transition:
        progress = record.progress.come_due()
        return Transition(record, progress, draft(Step.COME_DUE.value, record, progress, now))

    def _expire(self, record: TaskRecord, now: float) -> Transition:
        progress = record.progress.end(Step.EXPIRE, "deadline")
        return Transition(record, progress, draft(Step.EXPIRE.value, record, progress, now))
