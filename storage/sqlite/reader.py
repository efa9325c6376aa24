"""Reads from the embedded ledger, through one aiosqlite connection that can only read and never checkpoints."""

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import aiosqlite
import anyio

from orchestrator.domain.agent import Agent, Sighting
from orchestrator.domain.api_key import ApiKey
from orchestrator.domain.audit import GENESIS, AuditEntry, Head
from orchestrator.domain.lifecycle import State
from orchestrator.domain.retention import Begin, Ended, Entry
from orchestrator.domain.task import Priority
from orchestrator.storage import rows
from orchestrator.storage.browsing import AuditSearch, By, Found, TaskPage, TaskQuery, floor_of, page_of
from orchestrator.storage.commands import TaskRecord, Webhook
from orchestrator.storage.ports import AuditPage, AuditQuery, LedgerCorrupt, Outgoing, Ticket, Unreadable
from orchestrator.storage.sealing import PLAIN, Codec
from orchestrator.storage.sqlite import sql
from orchestrator.storage.work import stream_of

_CHUNK = 1_000
_NARROW = (By.TASK, By.CASE)
"""Of these there are so few entries that those before an instant may be walked through."""


class SqliteReader:
    """The reading half of the ledger. Needs asyncio, because aiosqlite does."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._open: aiosqlite.Connection | None = None
        self._codec: Codec = PLAIN

    async def open(self) -> None:
        """Opens the connection; raises LedgerCorrupt or Unreadable when the file cannot be read."""
        connection = aiosqlite.connect(self._path, isolation_level=None)
        # Cancelled in its middle, aiosqlite would forget what its thread has just opened.
        with anyio.CancelScope(shield=True):
            self._open = await connection
        # Bytes that are no UTF-8 are damage that the audit must be able to name, not stumble over.
        connection.text_factory = _text
        try:
            if not await self._all(sql.ARE_THERE_PARTS):
                # Of an older version, and not taken over yet: then all of its trail is behind the parts.
                for statement in sql.NO_PARTS:
                    await self._all(statement)
            for pragma in ("PRAGMA query_only = ON", "PRAGMA wal_autocheckpoint = 0", "PRAGMA busy_timeout = 2000"):
                await self._all(pragma)
        except BaseException:
            await self.close()
            raise

    async def hold(self) -> None:
        """From here on reads see the ledger as it is now, whatever is written meanwhile."""
        await self._all("BEGIN")

    async def close(self) -> None:
        """Closes the connection, whose thread would otherwise keep the process alive. Twice is safe."""
        connection, self._open = self._open, None
        if connection is not None:
            await connection.close()

    async def task(self, task_id: str) -> TaskRecord | None:
        found = await self._all(sql.READ_TASK, (task_id,))
        if not found:
            return None
        record = rows.task_record(found[0], self._codec)
        if record.progress.state is not State.SUCCEEDED:
            return record
        result = await self._all(sql.READ_RESULT, found[0][:1])
        return rows.whole_record(found[0], self._codec, result[0] if result else None)

    async def tasks(
        self, state: State, *, principal: str | None = None, after: int = 0, limit: int = 100
    ) -> list[TaskRecord]:
        if principal is not None:
            if state is State.DEAD:
                return await self._records(sql.READ_DEAD_OF, (principal, after, limit))
            return await self._records(sql.READ_STATE_OF, (state.value, principal, after, limit))
        if state is State.DEAD:
            return await self._records(sql.READ_DEAD, (after, limit))
        return await self._records(sql.READ_STATE, (state.value, after, limit))

    async def revoked(self, consent_id: str) -> bool:
        return bool(await self._all(sql.IS_REVOKED, (consent_id,)))

    async def agents(self) -> list[Agent]:
        return [rows.agent(row[0]) for row in await self._all(sql.READ_AGENTS)]

    async def api_keys(self) -> list[ApiKey]:
        return [rows.api_key(row[0]) for row in await self._all(sql.READ_API_KEYS)]

    async def api_key(self, key_id: str) -> ApiKey | None:
        found = await self._all(sql.READ_API_KEY, (key_id,))
        return rows.api_key(found[0][0]) if found else None

    async def sightings(self) -> list[Sighting]:
        return [rows.sighting(row) for row in await self._all(sql.READ_SIGHTINGS, ())]

    async def audit(self, query: AuditQuery) -> AuditPage:
        by, values = query.narrowed()
        after = query.after if by in _NARROW or query.after else await self._before(query.since)
        found = await self._all(sql.PAGE_BY[by], (after, query.since or "", *values, query.limit))
        return AuditPage(*_page(found, query.limit))

    async def _before(self, since: str | None) -> int:
        """A position up to which no entry since then stands: what is older is hardly walked through."""
        return 0 if since is None else (await self._all(sql.BEFORE_SINCE, (since,)))[0][0]

    async def newest(self, search: AuditSearch) -> Found:
        by, values = search.narrowed()
        floor = () if by in _NARROW else (await self._before(search.since),)
        found = await self._all(sql.NEWEST_BY[by], (search.before, search.since or "", *floor, *values, search.limit))
        return Found(*_page(found, search.limit))

    async def events(self) -> list[str]:
        return [row[0] for row in await self._all(sql.READ_EVENTS)]

    async def last_checkpoint(self) -> AuditEntry | None:
        found = (await self.newest(AuditSearch(event="checkpoint", limit=1))).entries
        return found[0] if found else None

    async def briefs(self, query: TaskQuery) -> TaskPage:
        floor = floor_of(query, (await self._all(sql.LAST_SEQ))[0][0])
        among = (query.before, floor, query.state, query.principal, query.limit)
        if query.case_id is None:
            found = await self._all(sql.READ_BRIEFS, among)
        else:
            found = await self._all(sql.READ_BRIEFS_OF_CASE, (*among, query.case_id))
        return page_of([rows.brief(row) for row in found], query, floor)

    async def audit_chain(self, writer: str) -> AsyncGenerator[AuditEntry]:
        # As bytes, since the name of a writer may be damaged as well.
        name, after = writer.encode("utf-8", "surrogateescape"), -1
        while found := await self._all(sql.READ_CHAIN, (name, after, _CHUNK)):
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
        classes = sorted(Priority)
        found = [await self._all(sql.READ_LANES, (priority.value,)) for priority in classes]
        return [(priority, row[0]) for priority, lanes in zip(classes, found, strict=True) for row in lanes]

    async def ready(self, priority: Priority, lane: str, *, after: int, limit: int) -> list[Ticket]:
        return [rows.ticket(row) for row in await self._all(sql.READ_READY, (priority.value, lane, after, limit))]

    async def tickets(self, task_ids: Sequence[str]) -> list[Ticket]:
        return [rows.ticket(row) for row in await self._all(sql.READ_TICKETS, (rows.names(task_ids),))]

    async def records(self, task_ids: Sequence[str]) -> list[TaskRecord]:
        return await self._records(sql.READ_RECORDS, (rows.names(task_ids),))

    async def outbox(self, priority: Priority | None, limit: int) -> list[Outgoing]:
        return [rows.outgoing(row) for row in await self._all(sql.READ_OUTBOX, (stream_of(priority), limit))]

    async def withdrawn(self, limit: int) -> list[Outgoing]:
        return [rows.outgoing(row) for row in await self._all(sql.READ_OUTBOX, (rows.WITHDRAWN, limit))]

    async def webhooks(self, now: float, limit: int) -> list[Webhook]:
        return [rows.webhook(row) for row in await self._all(sql.READ_WEBHOOKS, (now, limit))]

    async def due(self, now: float, limit: int) -> list[TaskRecord]:
        return await self._records(sql.READ_DUE, (now, limit))

    async def next_due(self) -> float | None:
        return (await self._all(sql.NEXT_DUE))[0][0]

    async def lapsed(self, now: float, limit: int) -> list[TaskRecord]:
        return await self._records(sql.READ_LAPSED, (now, limit))

    async def leased(self, owner: str, limit: int) -> list[TaskRecord]:
        return await self._records(sql.READ_LEASED, (len(owner), owner, limit))

    async def overdue(self, now: float, limit: int) -> list[TaskRecord]:
        return await self._records(sql.READ_OVERDUE, (now, limit))

    async def ended(self, now: float, before: float, after: tuple[float, int], limit: int) -> list[Ended]:
        return [rows.ended(row) for row in await self._all(sql.READ_ENDED, (now, before, *after, limit))]

    async def oldest(self, before: str, limit: int) -> list[Entry]:
        names = [row[0].encode("utf-8", "surrogateescape") for row in await self._all(sql.READ_CHAINS)]
        found = [await self._all(sql.READ_OLDEST, (before, name, limit)) for name in names]
        return [rows.old_entry(row) for entries in found for row in entries]

    async def begins(self) -> list[Begin]:
        return [rows.begin(row) for row in await self._all(sql.READ_BEGINS)]

    async def _records(self, statement: str, parameters: Sequence[Any]) -> list[TaskRecord]:
        return [rows.task_record(row, self._codec) for row in await self._all(statement, parameters)]

    async def _all(self, statement: str, parameters: Sequence[Any] = ()) -> list[rows.Row]:
        if self._open is None:
            raise RuntimeError("the ledger is closed")
        try:
            return list(await self._open.execute_fetchall(statement, parameters))
        except sqlite3.DatabaseError as error:
            broken = getattr(error, "sqlite_errorname", "") in ("SQLITE_CORRUPT", "SQLITE_NOTADB")
            raise (LedgerCorrupt if broken else Unreadable)("the database cannot be read") from error


def _page(found: Sequence[rows.Row], limit: int) -> tuple[list[AuditEntry], int | None]:
    """The entries of rows that begin with a position and AUDIT_COLUMNS, and the cursor of the next page."""
    entries = [rows.audit_entry(row[1 : 1 + len(AuditEntry.__struct_fields__)]) for row in found]
    return entries, found[-1][0] if found and len(found) == limit else None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
