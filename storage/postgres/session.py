"""The connection that writes, and what is ours while it lives: the writer's name and the place in its chain."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, count
from typing import Any

import anyio
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.domain.audit import GENESIS, Head
from orchestrator.domain.task import Priority
from orchestrator.storage.commands import Command, Outcome
from orchestrator.storage.disguise import Disguise
from orchestrator.storage.ports import LedgerCorrupt
from orchestrator.storage.postgres import sql
from orchestrator.storage.postgres.batch import Batch, count_up
from orchestrator.storage.postgres.book import columns
from orchestrator.storage.postgres.clock import Clock
from orchestrator.storage.postgres.connecting import NOT_ALLOWED, Connection
from orchestrator.storage.postgres.pool import farewell
from orchestrator.storage.sealing import Codec
from orchestrator.storage.work import Book, of_each_class

SETUP_S = 5.0
GHOST_S = 1.0
_LOOK_EVERY_S = 0.02


class Backend(Struct, frozen=True):
    """A server process. Process ids come again; with the time of its start it is told from any other."""

    pid: int
    started: Any

    async def lives(self, connection: Connection) -> bool:
        """Whether it still runs. When it does not, what it did last is committed, or never will be."""
        return await connection.fetchval(sql.BACKEND_LIVES, self.pid, self.started)

    async def end(self, connection: Connection, within: float) -> bool:
        """Has the server end it, and waits for that; whether it has ended."""
        with suppress(NOT_ALLOWED):
            await connection.execute(sql.END_BACKEND, self.pid, self.started)
        with anyio.move_on_after(within):
            while await self.lives(connection):  # noqa: ASYNC110 - it is in the server that it ends
                await anyio.sleep(_LOOK_EVERY_S)
            return True
        return False


class Session:
    """Use `await Session.opened(...)`. One batch at a time."""

    def __init__(self, connection: Connection, writer: str, backend: Backend, book: Book, identity: Any) -> None:
        self.connection, self.writer, self.backend = connection, writer, backend
        self.book = book
        self.identity, self.batch = identity, 0

    def __repr__(self) -> str:
        return f"<Session {self.writer!r} batch {self.batch}>"

    @classmethod
    async def opened(
        cls, connection: Connection, writer: str, clock: Clock, disguise: Disguise, former: "Session | None" = None
    ) -> "Session":
        """On a connection, which is closed where that fails. Takes the name `writer`, or the first that is free of
        `writer-2`, `writer-3`…

        The name that a `former` session held is tried first, once its server process is out of the way. Raises one of
        FAILURES, or LedgerCorrupt where the chain does not end as its head says.
        """
        try:
            with anyio.fail_after(SETUP_S, shield=True):
                await connection.fetch(sql.WAIT_FOR_DISK)
                if former is not None:
                    await former.backend.end(connection, GHOST_S)
                await clock.measure(connection)
                name = await _take_name(connection, writer, former.writer if former else writer)
                backend = Backend(*await connection.fetchrow(sql.BACKEND))
                book = await _recount(connection, await _head(connection, name), disguise)
                await connection.execute(sql.FORGET_OLD_SESSIONS)
                return cls(connection, name, backend, book, await connection.fetchval(sql.ADD_SESSION, name))
        except BaseException:
            await farewell(connection)
            raise

    async def work(
        self, commands: Sequence[Command], clock: Clock, *, outbox: bool, codec: Codec
    ) -> tuple[Book, list[Outcome]]:
        """Everything of a batch but its COMMIT: the book after it, and the outcomes. Raises one of FAILURES.

        With an `outbox`, what streams are to be told is written down in it.

        The book is locked before anything is written, so that replicas write one after the other: sequence numbers,
        positions and counts are in the order of the commits, and no compare-and-set meets another half done.
        """
        if clock.is_due:
            await clock.measure(self.connection)
        book = replace(self.book, outbox=outbox, codec=codec)
        if not commands:
            await self.connection.execute(sql.BEGIN)
            self.batch = await count_up(self.connection, self.identity)
            return book, []
        await self.connection.execute(sql.BEGIN_BATCH)
        batch = Batch(self.connection, self.identity, book, clock.offset)
        outcomes = await batch.apply(commands)
        self.batch = batch.number
        return batch.book, outcomes

    async def is_committed(self, connection: Connection) -> bool:
        """Whether the last batch is in the database that `connection` leads to. Ask when the backend has ended."""
        return await connection.fetchval(sql.READ_SESSION, self.identity) == self.batch

    async def close(self) -> None:
        """Lets go of the name and the connection."""
        with suppress(Exception), anyio.fail_after(GHOST_S):
            # The process of the server may live on for a moment: the name is free before.
            await self.connection.execute(sql.FORGET_SESSION, self.identity)
            await self.connection.fetch(sql.LET_GO)
        await farewell(self.connection)


async def _take_name(connection: Connection, writer: str, first: str) -> str:
    others = (writer if number == 1 else f"{writer}-{number}" for number in count(1))
    for name in chain([first], others):
        if await connection.fetchval(sql.TRY_NAME, name):
            return name
    raise AssertionError("unreachable: the names do not end")


async def _head(connection: Connection, writer: str) -> Head:
    """Raises LedgerCorrupt where the audit trail does not end as its head says: nothing could be chained to it."""
    found = await connection.fetchrow(sql.READ_HEAD, writer)
    last = await connection.fetchrow(sql.LAST_LINK, writer)
    if tuple(found or (0, GENESIS)) != tuple(last or (0, GENESIS)):
        raise LedgerCorrupt("the audit trail does not end as its head says")
    return Head(writer, *found) if found else Head(writer)


async def _recount(connection: Connection, head: Head, disguise: Disguise) -> Book:
    """The book, its counts put right: whatever was done to the tables by hand, a start mends it."""
    await connection.execute(sql.BEGIN)
    last_seq = (await connection.fetchrow(sql.LOCK_BOOK))[0]
    ready = of_each_class({Priority(priority): n for priority, n in await connection.fetch(sql.COUNT_READY)})
    unfinished = of_each_class({Priority(priority): n for priority, n in await connection.fetch(sql.COUNT_OPEN)})
    book = Book(head, disguise, last_seq, ready, unfinished)
    await connection.execute(sql.SAVE_BOOK, *columns(book))
    await connection.execute(sql.COMMIT)
    return book
