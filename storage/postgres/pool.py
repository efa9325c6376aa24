"""The few connections that readers share."""

from typing import Any

import anyio

from orchestrator.storage.postgres import sql
from orchestrator.storage.postgres.connecting import CONNECT_S, FAILURES, STATEMENT_S, Connection, connect, is_lost

FAREWELL_S = 1.0


class Pool:
    """A connection goes back only after a statement that has ended; any other is closed on the spot.

    So neither a cancelled caller nor a broken server leaves anything behind.
    """

    def __init__(self, dsn: str, size: int) -> None:
        self._dsn, self._size = dsn, size
        self._slots = anyio.Semaphore(size)
        self._idle: list[Connection] = []
        self._era = 0
        self._closed = False
        self._held = False

    def __repr__(self) -> str:
        return f"<Pool {self._size - self._slots.value} of {self._size} in use, {len(self._idle)} idle>"

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        """The rows of one statement. Raises one of FAILURES; cancellation waits for the statement to end.

        A connection that has died since it was used last is replaced at once, by one that has not.
        """
        if self._closed:
            raise RuntimeError("the ledger is closed")
        with anyio.fail_after(STATEMENT_S):
            await self._slots.acquire()
        try:
            with anyio.fail_after(CONNECT_S + STATEMENT_S, shield=True):
                return await self._fetch(statement, arguments)
        finally:
            self._slots.release()

    async def hold(self) -> None:
        """From here on all is read as it is now. Raises one of FAILURES."""
        connection = await connect(self._dsn)
        try:
            await connection.execute(sql.STAY)
            await connection.execute(sql.HOLD)
            await connection.fetch(sql.CLOCK)  # The moment is that of the first question.
        except BaseException:
            await farewell(connection)
            raise
        self._held, self._size, self._slots = True, 1, anyio.Semaphore(1)
        self._idle = [connection]

    def expire(self) -> None:
        """Closes what is idle now, and what is in use when it comes back: the server is another one, or gone."""
        self._era += 1
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.terminate()

    async def close(self) -> None:
        """Says goodbye to the server. Twice is safe."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await farewell(connection)

    async def _fetch(self, statement: str, arguments: tuple[Any, ...]) -> list[Any]:
        while self._idle:
            connection, era = self._idle.pop(), self._era
            if connection.is_closed():
                continue
            try:
                return await self._ask(connection, era, statement, arguments)
            except FAILURES as error:
                if self._held or not is_lost(connection, error):
                    raise
        if self._held:
            raise ConnectionError("the snapshot is lost")
        era = self._era
        return await self._ask(await connect(self._dsn), era, statement, arguments)

    async def _ask(self, connection: Connection, era: int, statement: str, arguments: tuple[Any, ...]) -> list[Any]:
        try:
            found = await connection.fetch(statement, *arguments)
        except FAILURES as error:
            if is_lost(connection, error):
                self.expire()
                await farewell(connection)
            else:
                self._put_back(connection, era)
            raise
        except BaseException:
            await farewell(connection)
            raise
        self._put_back(connection, era)
        return found

    def _put_back(self, connection: Connection, era: int) -> None:
        if era == self._era and not self._closed:
            self._idle.append(connection)
        else:
            connection.terminate()


async def farewell(connection: Connection) -> None:
    """Closes the connection in the ways of the protocol if the server answers soon, and in any case.

    After a statement that was broken off, too: asyncpg then asks the server to cancel it, and must be let.
    """
    try:
        with anyio.fail_after(FAREWELL_S, shield=True):
            await connection.close()
    except FAILURES:
        connection.terminate()
    except BaseException:
        connection.terminate()
        raise
