"""A line to PostgreSQL that a test can cut right before or right after a COMMIT."""

import asyncio
from typing import Literal, Self

COMMIT = b"COMMIT\x00"


class Proxy:
    """Passes bytes on. Nothing of the answer to a COMMIT that was cut off ever comes back."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut: Literal["before", "after"] | None = None
        self.cuts = 0
        self.refusing_after_cut = self.refusing = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, away = await asyncio.open_connection("127.0.0.1", self._to)
        back = asyncio.create_task(self._pass_back(there, writer))
        self._tasks.add(back)
        try:
            await self._pass_on(reader, writer, away)
        except ConnectionError:
            pass
        finally:
            back.cancel()
            writer.transport.abort()
            away.close()
            self._tasks.difference_update({task, back})

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, away: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65_536):
            if self.cut and COMMIT in data:
                how, self.cut = self.cut, None
                self.cuts += 1
                self.refusing = self.refusing_after_cut
                writer.transport.abort()
                if how == "before":
                    away.transport.abort()
                else:
                    away.write(data)
                    await away.drain()
                return
            away.write(data)
            await away.drain()

    async def _pass_back(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await there.read(65_536):
                writer.write(data)
                await writer.drain()
            writer.close()
        except ConnectionError:
            pass
