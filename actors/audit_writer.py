"""Owns the one write connection to the ledger: every change of the system goes through here, with its audit entry."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import anyio
import anyio.lowlevel

from orchestrator.actors.events import BatchCommitted, Emit, LedgerBack, LedgerUnavailable
from orchestrator.actors.messages import Commit
from orchestrator.domain.errors import AuditUnavailable
from orchestrator.kernel.errors import Fatal
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.monotonic import monotonic
from orchestrator.kernel.watch import Watch
from orchestrator.storage.commands import (
    Accept,
    Accepted,
    Denied,
    EntriesRemoved,
    Erased,
    Moved,
    Noted,
    Outcome,
    Revoked,
    TaskRecord,
)
from orchestrator.storage.ports import CommitUnknown, Ledger, LedgerCorrupt, NotCommitted

BATCH = 256
"""Commands in one transaction, but for a request that has more."""
WAY_OUT = 3
"""Turns of the event loop that an answer takes to its socket: nobody waits for what follows from a commit."""
OTHERS_COME = 5
"""More of them, which with those are about what a request takes from its socket to here. Where many ask, those on their
way share the next commit, which costs more than these turns; nor do they and the ledger's thread then take turns at the
interpreter."""
PROBE_EVERY_S = 0.5


class RecoveryNeeded(Fatal):
    """Whether the last batch is stored cannot be told: the process must end, and start from what the disk holds."""


class LedgerDamaged(Fatal):
    """The ledger's file is damaged: no restart helps."""


class AuditWriter:
    """Takes what is waiting, commits it as one batch, and only then answers."""

    def __init__(
        self,
        ledger: Ledger,
        on_commit: Callable[[TaskRecord, str | None], None],
        writable: Watch[bool],
        written: Watch[int],
        emit: Emit,
    ) -> None:
        """`on_commit` hears of each task that a commit changed, and of its lane if that is known.

        `writable` says whether the last commit went well, `written` counts the audit entries of this process.
        """
        self._ledger, self._on_commit, self._writable, self._emit = ledger, on_commit, writable, emit
        self._written = written
        self._turn = anyio.Lock(fast_acquire=True)

    async def run(self, inbox: Inbox[Commit]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._probe)
            inbox.ready()
            async for batch in inbox.batches(BATCH):
                for part in parts(batch, BATCH):
                    await self._commit(part)
                    inbox.progress()
                if sum(len(request.commands) for request in batch) > 1:
                    await _turns(OTHERS_COME)
            group.cancel_scope.cancel()

    async def _commit(self, batch: list[Commit]) -> None:
        began = monotonic()
        commands = [command for request in batch for command in request.commands]
        try:
            async with self._turn:
                outcomes = await self._ledger.commit(commands)
        except NotCommitted as error:
            self._unavailable(str(error))
            for request in batch:
                request.reply.fail(AuditUnavailable("The ledger cannot be written; nothing was stored.", retry_after=1))
            return
        except CommitUnknown as error:
            raise RecoveryNeeded from error
        except LedgerCorrupt as error:
            raise LedgerDamaged from error
        took = monotonic() - began
        self._available()
        # Before the answers, so that who counts its own entries finds them counted.
        self._written.publish(self._written.value + sum(map(_has_entry, outcomes)))
        left = iter(outcomes)
        for request in batch:
            request.reply.send(list(islice(left, len(request.commands))))
        try:
            await _turns(WAY_OUT)
        finally:
            self._emit(BatchCommitted(len(commands), took))
            for command, outcome in zip(commands, outcomes, strict=True):
                lane = command.lane if isinstance(command, Accept) else None
                for record in _changed(outcome):
                    self._on_commit(record, lane)

    async def _probe(self) -> None:
        """While the ledger cannot be written, tries whether it can be again, so that readiness needs no traffic."""
        while True:
            if self._writable.value:
                await self._writable.changed()
                continue
            await anyio.sleep(PROBE_EVERY_S)
            if not self._writable.value:
                await self._try()

    async def _try(self) -> None:
        try:
            async with self._turn:
                await self._ledger.commit([])
        except NotCommitted:
            return
        except CommitUnknown as error:
            raise RecoveryNeeded from error
        except LedgerCorrupt as error:
            raise LedgerDamaged from error
        self._available()

    def _unavailable(self, error: str) -> None:
        if self._writable.value:
            self._writable.publish(False)
            self._emit(LedgerUnavailable(error))

    def _available(self) -> None:
        if not self._writable.value:
            self._writable.publish(True)
            self._emit(LedgerBack())


async def _turns(count: int) -> None:
    """Lets the event loop turn so often."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


def parts(batch: Sequence[Commit], most: int) -> Iterator[list[Commit]]:
    """`batch` in transactions of at most `most` commands, or of one request that has more: none is ever divided."""
    part: list[Commit] = []
    size = 0
    for request in batch:
        if part and size + len(request.commands) > most:
            yield part
            part, size = [], 0
        part.append(request)
        size += len(request.commands)
    if part:
        yield part


def _changed(outcome: Outcome) -> Sequence[TaskRecord]:
    """The tasks that a command changed."""
    match outcome:
        case Accepted() | Moved():
            return (outcome.record,)
        case Revoked(records) | Erased(records):
            return records
        case _:
            return ()


def _has_entry(outcome: Outcome) -> bool:
    match outcome:
        case Accepted() | Moved() | Denied() | EntriesRemoved():
            return True
        case Noted() | Revoked() | Erased():
            return outcome.receipt is not None
        case _:
            return False
