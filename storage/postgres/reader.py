"""Reads from the shared ledger, through a few connections of their own."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from orchestrator.domain.agent import Agent, Sighting
from orchestrator.domain.api_key import ApiKey
from orchestrator.domain.audit import GENESIS, AuditEntry, Head
from orchestrator.domain.lifecycle import State
from orchestrator.domain.retention import Begin, Ended, Entry
from orchestrator.domain.task import Priority
from orchestrator.storage import rows
from orchestrator.storage.browsing import AuditSearch, Found, TaskPage, TaskQuery, floor_of, page_of
from orchestrator.storage.commands import TaskRecord, Webhook
from orchestrator.storage.ports import AuditPage, AuditQuery, LedgerCorrupt, Outgoing, Ticket, Unreadable
from orchestrator.storage.postgres import sql
from orchestrator.storage.postgres.clock import Clock
from orchestrator.storage.postgres.connecting import FAILURES, connect, is_damage, name
from orchestrator.storage.postgres.pool import Pool, farewell
from orchestrator.storage.sealing import PLAIN, Codec
from orchestrator.storage.work import stream_of

READERS = 4
_CHUNK = 1_000


class PostgresReader:
    """The reading half of the ledger. Every read raises Unreadable within seconds while the database is away."""

    def __init__(self, dsn: str, clock: Clock) -> None:
        self._dsn, self._clock = dsn, clock
        self._codec: Codec = PLAIN
        self._pool = Pool(dsn, READERS)

    @property
    def writer(self) -> str | None:
        """The name under which this ledger writes now; None where it does not."""
        return None

    async def hold(self) -> None:
        """Measures the clock; from here on reads see the ledger as it is now. Raises Unreadable or InvalidAddress."""
        try:
            connection = await connect(self._dsn)
            try:
                await self._clock.measure(connection)
            finally:
                await farewell(connection)
            await self._pool.hold()
        except FAILURES as error:
            raise Unreadable(f"the database cannot be reached: {name(error)}") from error

    async def close(self) -> None:
        """Closes the connections. Twice is safe."""
        await self._pool.close()

    async def task(self, task_id: str) -> TaskRecord | None:
        found = await self._all(sql.READ_TASK, self._clock.offset, task_id)
        if not found:
            return None
        record = rows.task_record(found[0], self._codec)
        if record.progress.state is not State.SUCCEEDED:
            return record
        result = await self._all(sql.READ_RESULT, task_id)
        return rows.whole_record(found[0], self._codec, result[0] if result else None)

    async def tasks(
        self, state: State, *, principal: str | None = None, after: int = 0, limit: int = 100
    ) -> list[TaskRecord]:
        if principal is not None:
            if state is State.DEAD:
                return await self._records(sql.READ_DEAD_OF, principal, after, limit)
            return await self._records(sql.READ_STATE_OF, state.value, principal, after, limit)
        if state is State.DEAD:
            return await self._records(sql.READ_DEAD, after, limit)
        return await self._records(sql.READ_STATE, state.value, after, limit)

    async def revoked(self, consent_id: str) -> bool:
        return (await self._all(sql.ANY_REVOKED, [consent_id]))[0][0]

    async def agents(self) -> list[Agent]:
        return [rows.agent(row[0]) for row in await self._all(sql.READ_AGENTS)]

    async def api_keys(self) -> list[ApiKey]:
        return [rows.api_key(row[0]) for row in await self._all(sql.READ_API_KEYS)]

    async def api_key(self, key_id: str) -> ApiKey | None:
        found = await self._all(sql.READ_API_KEY, key_id)
        return rows.api_key(found[0][0]) if found else None

    async def sightings(self) -> list[Sighting]:
        return [rows.sighting(row) for row in await self._all(sql.READ_SIGHTINGS, self._clock.offset)]

    async def audit(self, query: AuditQuery) -> AuditPage:
        by, values = query.narrowed()
        found = await self._all(sql.PAGE_BY[by], query.after, query.since or "", query.limit, *values)
        full = bool(found) and len(found) == query.limit
        return AuditPage([rows.audit_entry(row[1:]) for row in found], found[-1][0] if full else None)

    async def newest(self, search: AuditSearch) -> Found:
        by, values = search.narrowed()
        found = await self._all(sql.NEWEST_BY[by], search.before, search.since or "", search.limit, *values)
        full = bool(found) and len(found) == search.limit
        return Found([rows.audit_entry(row[1:]) for row in found], found[-1][0] if full else None)

    async def events(self) -> list[str]:
        return [row[0] for row in await self._all(sql.READ_EVENTS)]

    async def last_checkpoint(self) -> AuditEntry | None:
        found = await self._all(sql.READ_LAST_CHECKPOINT)
        return rows.audit_entry(found[0]) if found else None

    async def briefs(self, query: TaskQuery) -> TaskPage:
        floor = floor_of(query, (await self._all(sql.LAST_SEQ))[0][0])
        state = None if query.state is None else query.state.value
        among = (query.before, floor, state, query.principal, query.limit)
        if query.case_id is None:
            found = await self._all(sql.READ_BRIEFS, *among)
        else:
            found = await self._all(sql.READ_BRIEFS_OF_CASE, *among, query.case_id)
        return page_of([rows.brief(row) for row in found], query, floor)

    async def audit_chain(self, writer: str) -> AsyncGenerator[AuditEntry]:
        after = -1
        while found := await self._all(sql.READ_CHAIN, writer, after, _CHUNK):
            for row in found:
                yield rows.audit_entry(row)
            after = found[-1][1]

    async def latest(self) -> float:
        return rows.instant((await self._all(sql.LATEST))[0][0])

    async def audit_heads(self) -> list[Head]:
        # A chain whose head was taken away is still a chain, and must not escape those who check.
        found = await self._all(sql.READ_CHAINS)
        return [Head(writer, seq, entry_hash or GENESIS) for writer, seq, entry_hash in found]

    async def lanes(self) -> list[tuple[Priority, str]]:
        return [(Priority(priority), lane) for priority, lane in await self._all(sql.READ_LANES)]

    async def ready(self, priority: Priority, lane: str, *, after: int, limit: int) -> list[Ticket]:
        return [rows.ticket(row) for row in await self._all(sql.READ_READY, priority.value, lane, after, limit)]

    async def tickets(self, task_ids: Sequence[str]) -> list[Ticket]:
        return [rows.ticket(row) for row in await self._all(sql.READ_TICKETS, list(task_ids))]

    async def records(self, task_ids: Sequence[str]) -> list[TaskRecord]:
        return await self._records(sql.READ_RECORDS, list(task_ids))

    async def outbox(self, priority: Priority | None, limit: int) -> list[Outgoing]:
        return await self._outgoing(stream_of(priority), limit)

    async def withdrawn(self, limit: int) -> list[Outgoing]:
        return await self._outgoing(rows.WITHDRAWN, limit)

    async def _outgoing(self, stream: str, limit: int) -> list[Outgoing]:
        return [rows.outgoing(row) for row in await self._all(sql.READ_OUTBOX, stream, self.writer, limit)]

    async def webhooks(self, now: float, limit: int) -> list[Webhook]:
        return [rows.webhook(row) for row in await self._all(sql.READ_WEBHOOKS, self._clock.offset, now, limit)]

    async def due(self, now: float, limit: int) -> list[TaskRecord]:
        return await self._records(sql.READ_DUE, now, limit)

    async def next_due(self) -> float | None:
        return (await self._all(sql.NEXT_DUE, self._clock.offset))[0][0]

    async def lapsed(self, now: float, limit: int) -> list[TaskRecord]:
        return await self._records(sql.READ_LAPSED, now, limit)

    async def leased(self, owner: str, limit: int) -> list[TaskRecord]:
        return await self._records(sql.READ_LEASED, owner, limit)

    async def overdue(self, now: float, limit: int) -> list[TaskRecord]:
        return await self._records(sql.READ_OVERDUE, now, limit)

    async def ended(self, now: float, before: float, after: tuple[float, int], limit: int) -> list[Ended]:
        found = await self._all(sql.READ_ENDED, self._clock.offset, now, before, *after, limit)
        return [rows.ended(row) for row in found]

    async def oldest(self, before: str, limit: int) -> list[Entry]:
        return [rows.old_entry(row) for row in await self._all(sql.READ_OLDEST, before, limit)]

    async def begins(self) -> list[Begin]:
        return [rows.begin(row) for row in await self._all(sql.READ_BEGINS)]

    async def _records(self, statement: str, *arguments: Any) -> list[TaskRecord]:
        return [
            rows.task_record(row, self._codec) for row in await self._all(statement, self._clock.offset, *arguments)
        ]

    async def _all(self, statement: str, *arguments: Any) -> list[rows.Row]:
        try:
            return await self._pool.fetch(statement, *arguments)
        except FAILURES as error:
            if is_damage(error):
                raise LedgerCorrupt("the database is damaged") from error
            raise Unreadable(f"the database cannot be read: {name(error)}") from error
