"""Synchronous calls: attempt 1 of a durable task, with a caller who waits a little; then the same call goes on."""

from contextlib import suppress
from functools import partial

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import replace

from orchestrator.actors.attempts import Attempts
from orchestrator.actors.committing import Committer
from orchestrator.actors.drain import Drain
from orchestrator.actors.events import Emit, SyncAttempted
from orchestrator.actors.messages import Ended, NotRun, Running, RunSync
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.lifecycle import State
from orchestrator.kernel.inbox import Inbox
from orchestrator.storage.commands import Accepted, TaskRecord
from orchestrator.storage.ports import LedgerReader, Unreadable


class SyncDispatcher:
    """Stores, calls and hands over; which agents come into question is the router's decision."""

    def __init__(
        self,
        attempts: Attempts,
        reader: LedgerReader,
        committer: Committer,
        drain: Drain,
        emit: Emit,
        *,
        timeout_s: float,
        max_concurrent: int,
    ) -> None:
        self._attempts, self._reader, self._committer = attempts, reader, committer
        self._drain, self._emit = drain, emit
        self._timeout, self._max, self._running = timeout_s, max_concurrent, 0

    async def run(self, inbox: Inbox[RunSync]) -> None:
        await self._attempts.recover(self._reader)
        async with anyio.create_task_group() as calls:
            inbox.ready()
            async for message in inbox:
                self._start(message, calls)
            self._drain.hurry(calls.cancel_scope)

    def _start(self, message: RunSync, calls: TaskGroup) -> None:
        if self._running >= self._max or self._drain.begun:
            self._not_run(message)
            return
        self._running += 1
        calls.start_soon(self._drain.bounded, partial(self._serve, message))

    def _not_run(self, message: RunSync) -> None:
        self._emit(SyncAttempted("not_run"))
        message.reply.send(NotRun())

    async def _serve(self, message: RunSync) -> None:
        try:
            await self._run_sync(message)
        finally:
            self._running -= 1

    async def _run_sync(self, message: RunSync) -> None:
        accept = message.accept
        agent_id = await self._attempts.reserve(accept.task, message.decision.ranking)
        if agent_id is None:
            self._not_run(message)
            return
        progress = self._attempts.leased(accept.task, accept.progress, agent_id)
        audit = replace(accept.audit, agent_id=agent_id, status=progress.state.value, attempt=progress.attempt)
        try:
            outcome = await self._committer.commit(replace(accept, progress=progress, audit=audit))
        except OrchestratorError as error:
            await self._attempts.release(agent_id)
            message.reply.fail(error)
            return
        if not isinstance(outcome, Accepted):
            await self._attempts.release(agent_id)
            message.reply.send(outcome)
            return
        await self._call(message, outcome)

    async def _call(self, message: RunSync, accepted: Accepted) -> None:
        """The caller's time runs beside the attempt, which it never cuts short."""
        record = accepted.record
        ended: TaskRecord | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._let_go, message, accepted)
            ended = await self._attempts.see_through(record)
            group.cancel_scope.cancel()
        if ended is None:
            with suppress(Unreadable):
                ended = await self._reader.task(record.task.task_id)
            ended = ended or record
        if message.reply.send(Ended(ended, accepted.receipt)):
            done = ended.progress.state is State.SUCCEEDED
            self._emit(SyncAttempted("completed" if done else "failed"))

    async def _let_go(self, message: RunSync, accepted: Accepted) -> None:
        await anyio.sleep(self._timeout)
        if message.reply.send(Running(accepted.record, accepted.receipt)):
            self._emit(SyncAttempted("timeout"))
