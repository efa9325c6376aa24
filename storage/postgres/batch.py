"""One batch of commands inside a transaction that holds the lock of the book.

First all in bulk, a statement for each table. Where that does not come out as expected (a stale compare-and-set, a key
that exists, a bad value) it is undone to a savepoint and each half is tried by itself, in order, down to the single
command that is the cause: one bad command fails alone, and costs a few round trips and not one for each of its batch.
"""

from collections.abc import Collection, Sequence
from typing import Any

from orchestrator.domain.audit import Head
from orchestrator.storage import erasure, revocation, rows
from orchestrator.storage.commands import (
    Accept,
    Command,
    Duplicate,
    Erase,
    Erased,
    Failed,
    Full,
    Note,
    Outcome,
    RelayAgain,
    Requeued,
    Reused,
    RevokeConsent,
    Revoked,
    Rewrap,
    Rewrapped,
    Stale,
    TaskRecord,
)
from orchestrator.storage.postgres import sql
from orchestrator.storage.postgres.connecting import FAILURES, Connection, is_of_the_command
from orchestrator.storage.sealing import changed_keys
from orchestrator.storage.work import Book, Unexpected, Work, is_full

_OF_VALUES = (OSError, OverflowError, RecursionError, TypeError, ValueError)
"""What a codec raises over values that cannot be stored. Only where nothing is sent: a broken line is an OSError."""


class _Refused(Exception):
    """The values of some command cannot be stored; its message is the class of the error."""


class Batch:
    """Applies commands; `book` is as it will be when the transaction is committed."""

    def __init__(self, connection: Connection, book: Book, offset: float) -> None:
        """`offset` is how far the database's clock is ahead of ours."""
        self._connection, self._offset = connection, offset
        self.book = book

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        """An outcome for each. Raises one of FAILURES when the database fails; then the transaction is to be ended."""
        try:
            return await self._bulk(commands)
        except (_Refused, Unexpected) as error:
            if len(commands) == 1:
                return [await self._single(commands[0], error)]
        middle = len(commands) // 2
        return [*await self.apply(commands[:middle]), *await self.apply(commands[middle:])]

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
            if isinstance(command, Rewrap):
                return await self._rewrap(command)
            refusal = await self._refusal(command)
            return (await self._bulk([command]))[0] if refusal is None else refusal
        except _Refused as failure:
            return Failed(str(failure))
        except Unexpected:
            return Stale()

    async def _relay_again(self, command: RelayAgain) -> Requeued:
        place = (*command.after, command.limit)
        await self._connection.execute(sql.RELAY_AGAIN, *place, self.book.head.writer)
        last = await self._connection.fetchrow(sql.RELAYED_UP_TO, *place)
        return Requeued(tuple(last) if last else None)

    async def _refusal(self, command: Command) -> Outcome | None:
        """What stands against accepting a task: its key, or a full class. A key that is over is removed."""
        if not isinstance(command, Accept):
            return None
        key = command.key
        if key is not None:
            await self._connection.execute(sql.EXPIRE_KEY, self._offset, key.scope, key.key, command.audit.created_at)
            found = await self._connection.fetchrow(sql.FIND_KEY, key.scope, key.key)
            if found is not None:
                fingerprint, task_id = found
                return await self._duplicate(task_id) if fingerprint == key.fingerprint else Reused()
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
        denials = revocation.denials((rows.task_record(row, self.book.codec) for row in found), at)
        return revocation.revoked(await self._bulk([*denials, Note(command.audit)]))

    async def _erase(self, command: Erase) -> Erased:
        if command.task_id is not None:
            found = await self._connection.fetch(sql.READ_TO_ERASE, self._offset, command.task_id)
        else:
            place = (self._offset, command.case_id, command.limit)
            found = await self._connection.fetch(sql.READ_CASE_TO_ERASE, *place)
        records = [rows.task_record(row, self.book.codec) for row in found]
        outcomes = await self._bulk(erasure.steps(records, command))
        gone = [record.task.task_id for record in records]
        await self._connection.execute(sql.ERASE_TASKS, gone)
        await self._connection.execute(sql.ERASE_RESULTS, gone)
        return erasure.erased(records, outcomes)

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
        return Duplicate(await self._read_task(task_id), Head(*receipt))

    async def _read_task(self, task_id: str) -> TaskRecord:
        row = await self._connection.fetchrow(sql.READ_TASK, self._offset, task_id)
        result = await self._connection.fetchrow(sql.READ_RESULT, task_id)
        return rows.task_record(row, self.book.codec, result)

    async def _bulk(self, commands: Sequence[Command]) -> list[Outcome]:
        """All of them or none; raises Unexpected or _Refused where one would not simply succeed."""
        work = Work(self.book)
        try:
            outcomes = [work.add(command) for command in commands]
            statements = _statements(work, self._offset)
        except _OF_VALUES as error:
            raise _Refused(type(error).__name__) from error
        await self._connection.execute(sql.SAVEPOINT)
        try:
            if await self._any_revoked(work.consents):
                raise Unexpected
            for statement, arguments, matches in statements:
                tag = await self._connection.execute(statement, *arguments)
                if matches is not None and int(tag.rpartition(" ")[2]) != matches:
                    raise Unexpected
        except Unexpected:
            await self._undo()
            raise
        except FAILURES as error:
            if not is_of_the_command(error):
                raise
            await self._undo()
            raise _Refused(type(error).__name__) from error
        await self._connection.execute(sql.RELEASE)
        self.book = work.book()
        return outcomes

    async def _undo(self) -> None:
        await self._connection.execute(sql.ROLLBACK_TO)
        await self._connection.execute(sql.RELEASE)


def _statements(work: Work, offset: float) -> list[tuple[str, Sequence[Any], int | None]]:
    """Each statement with its arguments, and how many rows it must change."""
    found: list[tuple[str, Sequence[Any], int | None]] = []
    if work.expiries:
        found.append((sql.EXPIRE_KEYS, (offset, max(work.expiries)), None))
    for statement, gathered, before in (
        (sql.ADD_KEYS, work.keys, (offset,)),
        (sql.ADD_TASKS, work.tasks, (offset,)),
        (sql.MOVE_TASKS, work.moves, (offset,)),
        (sql.ADD_RESULTS, work.results, ()),
        (sql.ADD_WEBHOOKS, work.webhooks, ()),
        (sql.TRY_WEBHOOKS, work.tries, (offset,)),
        (sql.END_WEBHOOKS, work.told_off, ()),
        # One statement touches a row but once: of several agents of one name it is given the last.
        (sql.SAVE_AGENTS, list({agent_id: (agent_id, agent) for agent_id, agent in work.agents}.values()), ()),
        (sql.SAVE_API_KEYS, list({key_id: (key_id, key) for key_id, key in work.api_keys}.values()), ()),
    ):
        if gathered:
            found.append((statement, (*before, *_columns(gathered)), len(gathered)))
    if work.callbacks:
        found.append((sql.WEBHOOKS_DUE, (offset, *_columns(work.callbacks)), None))
    if work.gone:
        found.append((sql.FORGET_AGENTS, (list(work.gone),), None))
    if work.sightings:
        told = [rows.sighting_row(sighting) for sighting in work.sightings.values()]
        found.append((sql.TELL_SIGHTINGS, (offset, *_columns(told)), None))
    if work.relayed:
        found.append((sql.REMOVE_RELAYED, (work.relayed,), None))
    if untold := work.told(wanted=False):
        found.append((sql.REMOVE_OUTGOING, _columns(untold), None))
    if told := work.told(wanted=True):
        found.append((sql.ADD_OUTGOING, (*_columns(told), work.head.writer), len(told)))
    if work.gone_api_keys:
        found.append((sql.FORGET_API_KEYS, (list(work.gone_api_keys),), None))
    if work.audit:
        entries = [rows.audit_row(entry) for entry in work.audit]
        found.append((sql.ADD_AUDIT, _columns(entries), len(entries)))
    return found


def _columns(gathered: Sequence[rows.Row]) -> list[list[Any]]:
    """Rows turned into columns, as `unnest` takes them."""
    return [list(column) for column in zip(*gathered, strict=True)]
