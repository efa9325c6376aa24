"""The shared ledger: one database for any number of replicas, each with one connection that writes."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio

from orchestrator.domain.task import Priority
from orchestrator.storage import rows
from orchestrator.storage.commands import Command, Outcome
from orchestrator.storage.disguise import Disguise
from orchestrator.storage.ports import CommitUnknown, Depths, LedgerCorrupt, NotCommitted, Unreadable
from orchestrator.storage.postgres import secrets, sql
from orchestrator.storage.postgres.book import counts
from orchestrator.storage.postgres.clock import Clock
from orchestrator.storage.postgres.connecting import (
    CONNECT_S,
    FAILURES,
    START_S,
    Connection,
    connect,
    dsn_of,
    is_damage,
    is_lost,
    name,
)
from orchestrator.storage.postgres.pool import farewell
from orchestrator.storage.postgres.reader import PostgresReader
from orchestrator.storage.postgres.schema import migrate
from orchestrator.storage.postgres.session import Session
from orchestrator.storage.sealing import PLAIN, Codec
from orchestrator.storage.work import Book

OPEN_S = 30.0
"""For the migrations, which may have to wait for those of another replica."""
WORK_S = 10.0
COMMIT_S = 5.0
RESOLVE_S = 5.0
PAUSE_S = 0.5
"""After a connection that failed: meanwhile a commit is refused without trying."""
COUNTS_S = 2.0
_AGAIN_S = 0.1


class PostgresLedger(PostgresReader):
    """Use `await PostgresLedger.opened(url)`. The whole object belongs to one event loop, and that is asyncio's.

    It needs a session of its own with the server: a pooler in front must pool sessions, not transactions.
    """

    exclusive = False

    def __init__(self, dsn: str, writer: str, clock: Clock, disguise: Disguise, *, outbox: bool, codec: Codec) -> None:
        super().__init__(dsn, clock)
        self._disguise = disguise
        self._writer, self._outbox, self._codec = writer, outbox, codec
        self._session: Session | None = None
        self._former: Session | None = None
        self._depths: Mapping[Priority, Depths] = {}
        self._changes = 0
        self._counted_at = self._not_before = anyio.current_time()
        self._unknown = self._closed = False

    @classmethod
    async def opened(
        cls, url: str, writer: str, now: Callable[[], float], *, outbox: bool = False, codec: Codec = PLAIN
    ) -> "PostgresLedger":
        """Opens and migrates the database at `url`, and takes the name `writer`, or the next one that is free.

        With an `outbox`, each commit writes down what streams are to be told of it.
        Raises LedgerCorrupt, SchemaTooNew, Unreadable, or InvalidAddress.
        """
        dsn = dsn_of(url)
        try:
            disguise = await _migrate(dsn, codec)
            ledger = cls(dsn, writer, Clock(now), disguise, outbox=outbox, codec=codec)
            try:
                session = await ledger._connect(START_S)
                last = await session.connection.fetchrow(sql.LAST_DATA_KEY)
                if last is not None and last[1] is not None:
                    codec.rewrapped(last[1], last[0])
            except BaseException:
                await ledger.close()
                raise
        except FAILURES as error:
            raise Unreadable(f"the database cannot be opened: {name(error)}") from error
        return ledger

    @property
    def writer(self) -> str | None:
        return self._session.writer if self._session is not None else None

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        if self._closed:
            raise RuntimeError("the ledger is closed")
        if self._unknown:
            raise CommitUnknown("an earlier commit is unknown")
        with anyio.CancelScope(shield=True):
            return await self._commit(await self._ready(), commands)
        raise AssertionError("unreachable: nobody cancels that scope")

    async def room(self) -> int | None:
        return None

    def depths(self) -> Mapping[Priority, Depths]:
        return self._depths

    async def close(self) -> None:
        """Lets go of the name, and closes the connections."""
        with anyio.CancelScope(shield=True):
            self._closed = True
            session, self._session = self._session, None
            if session is not None:
                await session.close()
            await super().close()

    async def _commit(self, session: Session, commands: Sequence[Command]) -> list[Outcome]:
        try:
            with anyio.fail_after(WORK_S):
                book, outcomes = await session.work(commands, self._clock, outbox=self._outbox, codec=self._codec)
        except FAILURES as error:
            await self._give_up(session, error)
            if is_damage(error):
                raise LedgerCorrupt("the database is damaged") from error
            raise NotCommitted(name(error)) from error
        except BaseException:
            # Cancelled by asyncio itself, which no scope holds off.
            await self._drop()
            raise
        try:
            with anyio.fail_after(COMMIT_S):
                tag = await session.connection.execute(sql.COMMIT)
        except FAILURES as error:
            await self._drop()
            if not await self._is_committed(session):
                raise NotCommitted(name(error)) from error
            tag = sql.COMMIT
        except BaseException:
            # Whatever became of it, the next session reads it anew.
            await self._drop()
            raise
        if tag != sql.COMMIT:
            raise NotCommitted("the transaction was rolled back")
        session.book = book
        self._show(book)
        return outcomes

    async def _ready(self) -> Session:
        """The session, made anew if need be. Raises NotCommitted, at once while the last try is not long ago."""
        session = self._session
        if session is not None and not session.connection.is_closed():
            return session
        if anyio.current_time() < self._not_before:
            raise NotCommitted("the database is away")
        await self._drop()
        try:
            return await self._connect()
        except FAILURES as error:
            self._not_before = anyio.current_time() + PAUSE_S
            raise NotCommitted(name(error)) from error

    async def _connect(self, within: float = CONNECT_S) -> Session:
        connection = await connect(self._dsn, within=within)
        session = await Session.opened(connection, self._writer, self._clock, self._disguise, self._former)
        self._session = self._former = session
        self._show(session.book)
        return session

    async def _give_up(self, session: Session, error: BaseException) -> None:
        """Ends the transaction. Without a COMMIT nothing of it is stored, whether or not that succeeds."""
        if not is_lost(session.connection, error):
            try:
                with anyio.fail_after(COMMIT_S):
                    await session.connection.execute(sql.ROLLBACK)
                return
            except FAILURES:
                pass
        await self._drop()

    async def _drop(self) -> None:
        """Every connection, since each may lead to the old primary. The next commit and the next read make new ones."""
        session, self._session = self._session, None
        self._pool.expire()
        if session is not None:
            await farewell(session.connection)

    async def _is_committed(self, session: Session) -> bool:
        """Reads back on a fresh connection what became of a COMMIT that was not answered.

        First the server process that had it must have ended: until then both are possible. Raises CommitUnknown when
        it cannot be told within RESOLVE_S.
        """
        with anyio.move_on_after(RESOLVE_S):
            while True:
                try:
                    connection = await connect(self._dsn)
                    try:
                        if await session.backend.end(connection, RESOLVE_S):
                            return await session.is_committed(connection)
                    finally:
                        await farewell(connection)
                except FAILURES:
                    await anyio.sleep(_AGAIN_S)
        self._unknown = True
        raise CommitUnknown("the answer to a commit was lost, and the database cannot be asked")

    def _show(self, book: Book) -> None:
        self._changes += 1
        self._counted_at = anyio.current_time()
        self._depths = {p: Depths(book.ready[p], book.open[p]) for p in Priority}

    async def _all(self, statement: str, *arguments: Any) -> list[rows.Row]:
        found = await super()._all(statement, *arguments)
        if anyio.current_time() - self._counted_at > COUNTS_S:
            with suppress(Unreadable):
                await self._count()
        return found

    async def _count(self) -> None:
        """Other replicas change the counts too: now and then a read brings them along, if no commit of ours does."""
        self._counted_at, changes = anyio.current_time(), self._changes
        (row,) = await super()._all(sql.READ_BOOK)
        ready, unfinished = counts(row)
        if changes == self._changes:
            self._depths = {p: Depths(ready[p], unfinished[p]) for p in Priority}


async def _migrate(dsn: str, codec: Codec) -> Disguise:
    connection: Connection = await connect(dsn, patience=OPEN_S, within=START_S)
    try:
        with anyio.fail_after(OPEN_S, shield=True):
            await migrate(connection)
        return await secrets.settle(connection, codec)
    finally:
        await farewell(connection)
