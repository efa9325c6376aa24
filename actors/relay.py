"""From the ledger's outbox to the streams, and everything once more where the streams were lost.

It is not the only way forward: while the streams are away, or hold as much as they may, the ledger holds the work, and
consumers look through it. An entry leaves the outbox after it was added to its stream, so a task may be told twice, and
is never forgotten: whoever takes it asks the ledger.
"""

from collections.abc import Mapping, Set

import anyio
from msgspec import Struct
from msgspec.json import encode

from orchestrator.actors.committing import Committer
from orchestrator.actors.events import Emit, StreamsAway, StreamsBack, StreamsEvict, StreamsToldAgain
from orchestrator.actors.messages import RelayMessage, TasksWithdrawn
from orchestrator.actors.reading import read
from orchestrator.domain.audit import rfc3339
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.task import Priority, Task, demand_of
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.monotonic import monotonic
from orchestrator.kernel.watch import Watch
from orchestrator.storage.commands import RelayAgain, Relayed, Requeued
from orchestrator.storage.ports import LedgerReader, Message, Outgoing, Streams, StreamsUnavailable

STREAMS = (*Priority, None)
PAGE = 500
LOOK_EVERY_S = 1.0
ROOM_EVERY_S = 0.05
"""How often it looks whether a stream that was full has room."""
AGAIN_S = 0.5
"""How long it waits before it tries a failed step again."""


class Relaying(Struct, frozen=True):
    """How many entries a stream may hold, and whether the task itself travels with its id."""

    maxlen: int
    payload: bool = False


class Relay:
    """One for each replica: what a replica wrote its own relay relays, and another's when it is late."""

    def __init__(
        self,
        environment: Environment,
        reader: LedgerReader,
        committer: Committer,
        streams: Streams,
        lengths: Watch[Mapping[Priority | None, int]],
        emit: Emit,
        rules: Relaying,
    ) -> None:
        """`lengths` is told how much each stream holds, about once a second."""
        self._environment, self._reader, self._committer = environment, reader, committer
        self._streams, self._lengths, self._emit, self._rules = streams, lengths, emit, rules
        self._told = anyio.Event()
        self._to_tell: set[Priority | None] = set()
        self._to_withdraw = True
        self._looked_at: float | None = None
        self._warned = self._full = False
        self._away: bool | None = None

    async def run(self, inbox: Inbox[RelayMessage]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._work, inbox)
            inbox.ready()
            async for message in inbox:
                if isinstance(message, TasksWithdrawn):
                    self._to_withdraw = True
                else:
                    self._to_tell.add(message.stream)
                self._told.set()
            group.cancel_scope.cancel()

    async def _work(self, inbox: Inbox[RelayMessage]) -> None:
        while True:
            self._told = anyio.Event()
            inbox.at_work(True)
            more = await self._step(inbox)
            inbox.at_work(False)
            if more is None:
                await anyio.sleep(AGAIN_S)
            elif not more:
                with anyio.move_on_after(ROOM_EVERY_S if self._full else LOOK_EVERY_S):
                    await self._told.wait()

    async def _step(self, inbox: Inbox[RelayMessage]) -> bool | None:
        """Relays what there is room for: whether there is more at once, None where it could not."""
        try:
            await self._look(inbox)
            await self._withdraw(inbox)
            streams, self._to_tell = self._to_tell, set()
            self._to_tell |= await self._relay(streams, inbox)
        except StreamsUnavailable as error:
            self._looked_at = None
            self._seen(away=str(error))
            return None
        except OrchestratorError:
            self._looked_at = None
            return None
        return bool(self._to_tell) and not self._full

    async def _look(self, inbox: Inbox[RelayMessage]) -> None:
        """Now and then: whether the streams are the same as before, and whether anything was left behind."""
        now = monotonic()
        if self._looked_at is not None and now - self._looked_at < LOOK_EVERY_S:
            return
        if not self._warned and (policy := await self._streams.evicts()) is not None:
            self._emit(StreamsEvict(policy))
        self._warned = True
        if not await self._streams.intact():
            if self._rules.payload:
                # A server that took over, or came back from a copy, may hold what was taken out since.
                await self._streams.empty()
            await self._tell_again(inbox)
            await self._streams.vouch()
        self._seen(away=None)
        self._looked_at = now
        self._to_tell.update(STREAMS)
        self._to_withdraw = True

    async def _tell_again(self, inbox: Inbox[RelayMessage]) -> None:
        """Everything that is ready, back into the outbox."""
        command = RelayAgain(PAGE)
        while True:
            outcome = await self._committer.commit(command)
            inbox.progress()
            if not isinstance(outcome, Requeued) or outcome.last is None:
                break
            command = RelayAgain(PAGE, outcome.last)
        self._emit(StreamsToldAgain())

    async def _withdraw(self, inbox: Inbox[RelayMessage]) -> None:
        """Where tasks travel whole, what nobody is to see is taken out; with their ids alone there is nothing."""
        while self._to_withdraw:
            self._to_withdraw = False
            found = await read(self._reader.withdrawn(PAGE))
            if found and self._rules.payload:
                await self._streams.forget({entry.task_id for entry in found})
            if found:
                inbox.progress()
                await self._committer.commit(Relayed(tuple(entry.position for entry in found)))
                self._to_withdraw = len(found) == PAGE or self._to_withdraw

    async def _relay(self, streams: Set[Priority | None], inbox: Inbox[RelayMessage]) -> set[Priority | None]:
        """One page of each of the streams that have room, most pressing first; returns those that may have more."""
        if not streams:
            return set()
        lengths = await self._streams.lengths()
        self._lengths.publish(lengths)
        self._full = False
        outgoing: list[Outgoing] = []
        more: set[Priority | None] = set()
        for stream in [stream for stream in STREAMS if stream in streams]:
            inbox.progress()
            room = max(0, self._rules.maxlen - lengths[stream])
            found = await read(self._reader.outbox(stream, min(PAGE, room))) if room else []
            outgoing += found
            if len(found) == PAGE:
                more.add(stream)
            elif len(found) == room:
                self._full = True
                self._to_tell.add(stream)
        inbox.progress()
        if outgoing:
            await self._streams.add(await self._messages(outgoing))
            inbox.progress()
            if self._rules.payload:
                await self._take_back([entry.task_id for entry in outgoing])
            await self._committer.commit(Relayed(tuple(entry.position for entry in outgoing)))
        return more

    async def _take_back(self, told: list[str]) -> None:
        """What was withdrawn after it was read: another relay may have looked through the streams before it came."""
        ready = {ticket.task_id for ticket in await read(self._reader.tickets(told))}
        others = await read(self._reader.records([task_id for task_id in told if task_id not in ready]))
        gone = [record.task.task_id for record in others if record.erased or record.progress.state.withdrawn]
        if gone:
            await self._streams.forget(gone)

    async def _messages(self, outgoing: list[Outgoing]) -> list[Message]:
        tasks: dict[str, Task] = {}
        if self._rules.payload:
            ready = [entry.task_id for entry in outgoing if entry.priority is not None]
            tasks = {record.task.task_id: record.task for record in await read(self._reader.records(ready))}
        return [self._message(entry, tasks.get(entry.task_id)) for entry in outgoing]

    def _message(self, entry: Outgoing, task: Task | None) -> Message:
        fields = {"task_id": entry.task_id, "task_type": entry.task_type}
        if entry.priority is None:
            return Message(None, fields | {"reason": entry.reason or ""})
        fields["priority"] = entry.priority.value
        # Consent may have ended since acceptance: then nobody gets to see what is in it.
        if task is not None and not demand_of(task, self._environment.now()).refused:
            fields["data"] = data_of(task)
        return Message(entry.priority, fields)

    def _seen(self, *, away: str | None) -> None:
        if (away is not None) == self._away:
            return
        self._away = away is not None
        self._emit(StreamsBack() if away is None else StreamsAway(away))


def data_of(task: Task) -> str:
    """The task as workers that read the streams expect it."""
    return encode(
        {
            "task_id": task.task_id,
            "case_id": task.case_id,
            "task_type": task.task_type,
            "priority": task.priority.value,
            "consent": task.consent,
            "payload": task.payload,
            "created_at": rfc3339(task.created_at),
            "meta": task.meta,
        }
    ).decode()
