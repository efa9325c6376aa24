"""Synchronous calls: attempt 1 of a durable task, with a caller who waits a little; then the same call goes on."""

from contextlib import suppress
from functools import partial

import anyio
import anyio.lowlevel
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.actors.attempts import Attempts
from orchestrator.actors.committing import Committer
from orchestrator.actors.crew import Crew
from orchestrator.actors.drain import Drain
from orchestrator.actors.events import Emit, SyncAttempted
from orchestrator.actors.messages import Ended, NotRun, Running, RunSync
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.lifecycle import State
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.monotonic import monotonic
from orchestrator.storage.commands import Accepted
from orchestrator.storage.ports import LedgerReader, Unreadable


class Waiting(Struct, frozen=True):
    """A caller who is let go at the monotonic time `until`."""

    until: float
    asked: RunSync
    accepted: Accepted


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
        self._waiting: dict[str, Waiting] = {}
        """By their tasks. All have the same patience, so that who came first is let go first."""
        self._somebody_waits = anyio.Event()

    async def run(self, inbox: Inbox[RunSync]) -> None:
        await self._attempts.recover(self._reader)
        await self._drain.bounded(partial(self._dispatch, inbox))
        async for message in inbox:
            self._not_run(message)

    async def _dispatch(self, inbox: Inbox[RunSync]) -> None:
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._let_go)
            async with anyio.create_task_group() as calls:
                crew = Crew(calls, self._serve)
                inbox.ready()
                async for message in inbox:
                    self._start(message, crew)
                self._drain.hurry(calls.cancel_scope)
                crew.dismiss()
            beside.cancel_scope.cancel()

    def _start(self, message: RunSync, crew: Crew[RunSync]) -> None:
        if self._running >= self._max or self._drain.begun:
            self._not_run(message)
            return
        self._running += 1
        crew.give(message)

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
        record, task_id = accepted.record, accepted.record.task.task_id
        self._waiting[task_id] = Waiting(monotonic() + self._timeout, message, accepted)
        self._somebody_waits.set()
        try:
            ended, heard = await self._attempts.see_through(record)
        finally:
            self._waiting.pop(task_id, None)
        if ended is None:
            with suppress(Unreadable):
                ended = await self._reader.task(task_id)
            ended = ended or record
        in_time = message.reply.send(Ended(ended, accepted.receipt))
        try:
            # The answer has its way out first: nobody waits for what follows.
            await anyio.lowlevel.checkpoint()
        finally:
            if in_time:
                done = ended.progress.state is State.SUCCEEDED
                self._emit(SyncAttempted("completed" if done else "failed"))
            if heard is not None:
                self._attempts.tell(heard)

    async def _let_go(self) -> None:
        """Tells those whose time is over that their calls go on: one timer for all of them."""
        while True:
            self._somebody_waits = anyio.Event()
            if not self._waiting:
                await self._somebody_waits.wait()
            first = next(iter(self._waiting.values()), None)
            if first is None:
                continue
            await anyio.sleep_until(first.until)
            for task_id, waiting in list(self._waiting.items()):
                if waiting.until > monotonic():
                    break
                del self._waiting[task_id]
                accepted = waiting.accepted
                if waiting.asked.reply.send(Running(accepted.record, accepted.receipt)):
                    self._emit(SyncAttempted("timeout"))
