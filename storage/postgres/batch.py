"""One batch of commands inside a transaction, between its BEGIN and its COMMIT.

First all in bulk, by one call: however many commands and tables there are, it is one round trip. What the call needs of
the book it takes from memory; where another replica has written since, it says what the book is now, and is made once
more. Where the bulk does not come out as expected (a stale compare-and-set, a key that exists, a bad value) it is
undone to a savepoint and each half is tried by itself, in order, down to the single command that is the cause: one bad
command fails alone, and costs a few round trips and not one for each of its batch.
"""

from collections.abc import Collection, Sequence
from typing import Any

from msgspec.structs import astuple

from orchestrator.domain.anchor import begins_of
from orchestrator.domain.audit import Head
from orchestrator.storage import erasure, revocation, rows
from orchestrator.storage.commands import (
    Accept,
    Command,
    Duplicate,
    EntriesRemoved,
    Erase,
    Erased,
    Failed,
    Full,
    Note,
    Outcome,
    RelayAgain,
    Remove,
    RemoveEntries,
    Requeued,
    Reused,
    RevokeConsent,
    Revoked,
    Rewrap,
    Rewrapped,
    Stale,
    TaskRecord,
)
from orchestrator.storage.ports import Unreadable
from orchestrator.storage.postgres import sql
from orchestrator.storage.postgres.book import as_found, columns
from orchestrator.storage.postgres.connecting import (
    FAILURES,
    NOT_ALLOWED,
    Connection,
    SessionGone,
    is_of_the_command,
    is_unexpected,
)
from orchestrator.storage.sealing import changed_keys
from orchestrator.storage.work import Book, Unexpected, Work, is_full

_OF_VALUES = (OSError, OverflowError, RecursionError, TypeError, ValueError)
"""What a codec raises over values that cannot be stored. Only where nothing is sent: a broken line is an OSError."""


class _Refused(Exception):
    """The values of some command cannot be stored; its message is the class of the error."""


class Batch:
    """Applies commands; `book` is as it will be when the transaction is committed, `number` is that of the batch."""

    def __init__(self, connection: Connection, session: Any, book: Book, offset: float) -> None:
        """`book` may be what it was some time ago; `offset` is how far the database's clock is ahead of ours."""
        self._connection, self._session, self._offset = connection, session, offset
        self.book, self.number = book, 0

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        """An outcome for each. Raises one of FAILURES when the database fails; then the transaction is to be ended."""
        try:
            return await self._bulk(commands)
        except (_Refused, Unexpected) as error:
            await self._start_over()
            return await self._divided(commands, error)

    async def _start_over(self) -> None:
        """Locks the book outside of the savepoint: from here on nothing that is read can be changed by others."""
        await self._connection.execute(sql.START_OVER)
        self.number = await count_up(self._connection, self._session)
        self.book = as_found(await self._connection.fetchrow(sql.LOCK_BOOK), self.book)
        await self._connection.execute(sql.SAVEPOINT)

    async def _divided(self, commands: Sequence[Command], error: Exception) -> list[Outcome]:
        if len(commands) == 1:
            outcomes = [await self._single(commands[0], error)]
            await self._connection.execute(sql.NEXT)
            return outcomes
        middle = len(commands) // 2
        return [*await self._part(commands[:middle]), *await self._part(commands[middle:])]

    async def _part(self, commands: Sequence[Command]) -> list[Outcome]:
        try:
            outcomes = await self._bulk(commands)
        except (_Refused, Unexpected) as error:
            return await self._divided(commands, error)
        await self._connection.execute(sql.NEXT)
        return outcomes

    async def _single(self, command: Command, error: Exception) -> Outcome:
        """What comes of a command that did not simply succeed."""
        if isinstance(error, _Refused):
            return Failed(str(error))
        try:
            if isinstance(command, RelayAgain):
                return await self._relay_again(command)
            if isinstance(command, RevokeConsent):
                return await self._revoke(command)
            if isinstance(command, Erase):
                return await self._erase(command)
            if isinstance(command, Remove):
                return await self._remove(command)
            if isinstance(command, RemoveEntries):
                return await self._remove_entries(command)
            if isinstance(command, Rewrap):
                return await self._rewrap(command)
            refusal = await self._refusal(command)
            return (await self._bulk([command]))[0] if refusal is None else refusal
        except _Refused as failure:
            return Failed(str(failure))
        except Unexpected:
            return Stale()
        except Unreadable as failure:
            await self._connection.execute(sql.ROLLBACK_TO)
            return Failed(type(failure).__name__)

    async def _relay_again(self, command: RelayAgain) -> Requeued:
        place = (*command.after, command.limit)
        await self._connection.execute(sql.RELAY_AGAIN, *place, self.book.head.writer)
        last = await self._connection.fetchrow(sql.RELAYED_UP_TO, *place)
        return Requeued(tuple(last) if last else None)

    async def _refusal(self, command: Command) -> Outcome | None:
        """What stands against accepting a task: its key, or a full class. A key that is over is removed."""
        if not isinstance(command, Accept):
            return None
        if command.key is not None:
            worn = self.book.disguise.wear(command.key)
            name = (worn.scope, worn.digest.hex())
            await self._connection.execute(sql.EXPIRE_KEY, self._offset, *name, command.audit.created_at)
            found = await self._connection.fetchrow(sql.FIND_KEY, *name)
            if found is not None:
                fingerprint, task_id = found
                return await self._duplicate(task_id) if fingerprint == worn.fingerprint.hex() else Reused()
        if is_full(self.book, command):
            return Full(command.task.priority)
        if await self._any_revoked({command.task.consent.consent_id} - {None}):
            (noted,) = await self._bulk([revocation.refusal(command)])
            return revocation.denied(noted)
        return None

    async def _revoke(self, command: RevokeConsent) -> Revoked:
        at = command.audit.created_at
        if (await self._connection.execute(sql.REVOKE, command.consent_id, at)).endswith(" 0"):
            return Revoked()
        found = await self._connection.fetch(sql.READ_UNDER_CONSENT, self._offset, command.consent_id)
        denials = revocation.denials(map(rows.closed_record, found), at)
        return revocation.revoked(await self._bulk([*denials, Note(command.audit)]))

    async def _erase(self, command: Erase) -> Erased:
        if command.task_id is not None:
            found = await self._connection.fetch(sql.READ_TO_ERASE, self._offset, command.task_id)
        else:
            place = (self._offset, command.case_id, command.limit)
            found = await self._connection.fetch(sql.READ_CASE_TO_ERASE, *place)
        records = [rows.closed_record(row) for row in found]
        outcomes = await self._bulk(erasure.steps(records, command))
        gone = [record.task.task_id for record in records]
        await self._connection.execute(sql.ERASE_TASKS, gone)
        await self._connection.execute(sql.ERASE_RESULTS, gone)
        if self.book.outbox:
            await self._connection.execute(sql.WITHDRAW, rows.WITHDRAWN, gone, self.book.head.writer)
        return erasure.erased(records, outcomes)

    async def _remove(self, command: Remove) -> Outcome:
        for statement, names, must in _removals(command):
            tag = await self._connection.execute(statement, list(names))
            if must and int(tag.rpartition(" ")[2]) != len(names):
                await self._connection.execute(sql.ROLLBACK_TO)
                return Stale()
        (noted,) = await self._bulk([Note(command.audit)])
        return noted

    async def _remove_entries(self, command: RemoveEntries) -> Outcome:
        try:
            begins = begins_of(command.audit)
        except ValueError as error:
            raise _Refused(type(error).__name__) from error
        writers, seqs, hashes = _columns([astuple(begin) for begin in begins])
        if await self._connection.fetchval(sql.COUNT_BEGINS, writers, seqs, hashes) != len(writers):
            return Stale()
        book, number = self.book, self.number
        await self._bulk([Note(command.audit)])
        refusal = None
        try:
            removed = int((await self._connection.execute(sql.REMOVE_ENTRIES, writers, seqs)).rpartition(" ")[2])
        except NOT_ALLOWED as error:
            # The role may not remove entries, or the trigger forbids it: nobody else's commands are to fail for that.
            removed, refusal = 0, type(error).__name__
        if removed:
            return EntriesRemoved(self.book.head, removed)
        await self._connection.execute(sql.ROLLBACK_TO)
        self.book, self.number = book, number
        return Failed(refusal) if refusal else Stale()

    async def _rewrap(self, command: Rewrap) -> Rewrapped:
        found = await self._connection.fetch(sql.READ_DATA_KEYS, command.after, command.limit)
        changes = changed_keys(found, self.book.codec)
        if changes:
            await self._connection.execute(sql.SAVE_DATA_KEYS, *_columns(changes))
        return Rewrapped(len(changes), found[-1][0] if len(found) == command.limit else None)

    async def _any_revoked(self, consents: Collection[str | None]) -> bool:
        return bool(consents) and await self._connection.fetchval(sql.ANY_REVOKED, list(consents))

    async def _duplicate(self, task_id: str) -> Duplicate:
        receipt = await self._connection.fetchrow(sql.READ_RECEIPT, task_id)
        return Duplicate(await self._read_task(task_id), Head(*receipt) if receipt else None)

    async def _read_task(self, task_id: str) -> TaskRecord:
        row = await self._connection.fetchrow(sql.READ_TASK, self._offset, task_id)
        result = await self._connection.fetchrow(sql.READ_RESULT, task_id)
        return rows.whole_record(row, self.book.codec, result)

    async def _bulk(self, commands: Sequence[Command]) -> list[Outcome]:
        """All of them or none; raises Unexpected or _Refused where one would not simply succeed."""
        work, outcomes = self._work_out(commands)
        try:
            number, actual = await self._write(work)
            if actual != columns(self.book):
                # Another replica has written. Now the book is locked, so that this cannot be so twice.
                self.book = as_found(actual, self.book)
                work, outcomes = self._work_out(commands)
                number, _ = await self._write(work)
        except FAILURES as error:
            if not (is_unexpected(error) or is_of_the_command(error)):
                raise
            await self._connection.execute(sql.ROLLBACK_TO)
            raise (Unexpected if is_unexpected(error) else _Refused(type(error).__name__)) from error
        self.book, self.number = work.book(), number
        return outcomes

    def _work_out(self, commands: Sequence[Command]) -> tuple[Work[Book], list[Outcome]]:
        work = Work(self.book)
        try:
            return work, [work.add(command) for command in commands]
        except _OF_VALUES as error:
            raise _Refused(type(error).__name__) from error

    async def _write(self, work: Work[Book]) -> tuple[int, list[int]]:
        """The number of the batch, and the book: where it is not as `work` took it to be, nothing was written."""
        before, after = columns(self.book), columns(work.book())
        number, actual = await self._connection.fetchrow(
            sql.APPLY, self._session, self._offset, before, after, *_arguments(work)
        )
        return _known(number), actual


async def count_up(connection: Connection, session: Any) -> int:
    """The number of this batch of the session."""
    return _known(await connection.fetchval(sql.COUNT_UP, session))


def _known(number: int | None) -> int:
    if number is None:
        raise SessionGone
    return number


def _arguments(work: Work[Book]) -> tuple[Any, ...]:
    """What `apply_batch` is handed, from `of_writer` on."""
    head = work.head
    return (
        *(head.writer, head.seq, head.entry_hash),
        list(work.consents),
        max(work.expiries, default=None),
        *(_keys(work), _tasks(work), work.moves, [row[1:] for row in work.results]),
        *(work.webhooks, work.callbacks, work.tries, [task_id for (task_id,) in work.told_off]),
        # One statement touches a row but once: of several agents of one name it is given the last.
        list({agent_id: (agent_id, agent) for agent_id, agent in work.agents}.values()),
        list(work.gone),
        [rows.sighting_row(sighting) for sighting in work.sightings.values()],
        list({key_id: (key_id, key) for key_id, key in work.api_keys}.values()),
        list(work.gone_api_keys),
        *(work.relayed, work.told(wanted=False), work.told(wanted=True)),
        work.audit,
    )


def _keys(work: Work[Book]) -> list[rows.Row]:
    return [
        (worn.scope, worn.digest.hex(), worn.fingerprint.hex(), record.task.task_id, worn.expires_at)
        for record, worn in work.keys
    ]


def _tasks(work: Work[Book]) -> list[rows.Row]:
    """Rows of TASK_COLUMNS, as the table has them."""
    split = rows.NEW_TASK_COLUMNS.split(", ").index("updated_at")
    return [
        (*row[:split], *rows.progress_row(record.progress), *row[split:])
        for row, record in zip(work.tasks, work.accepted, strict=True)
    ]


def _removals(command: Remove) -> tuple[tuple[str, Sequence[str], bool], ...]:
    """Each statement with the tasks that it is about, and whether each of these must change a row."""
    return (
        (sql.REMOVE_RESULTS, command.results, True),
        (sql.EMPTY_TASKS, command.payloads, True),
        (sql.FORGET_DATA_KEYS, command.results, False),
        (sql.REMOVE_RESULTS, command.tasks, False),
        (sql.REMOVE_REPLAYS, command.tasks, False),
        (sql.REMOVE_KEYS, command.tasks, False),
        (sql.REMOVE_TOLD, command.tasks, False),
        (sql.REMOVE_TASKS, command.tasks, True),
    )


def _columns(gathered: Sequence[rows.Row]) -> list[list[Any]]:
    """Rows turned into columns, as `unnest` takes them."""
    return [list(column) for column in zip(*gathered, strict=True)]
