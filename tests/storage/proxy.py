"""A line to a server on which a test can hold and slow down the answers, count the turns, and cut off one of them."""

import asyncio
from collections.abc import Callable
from typing import Literal, Self

COMMIT = b"COMMIT\x00"


class Proxy:
    """Passes bytes on. Nothing of the answer to what was cut off ever comes back."""

    def __init__(self, port: int, *, delay: Callable[[], float] | None = None, cutting: bytes = COMMIT) -> None:
        """Each piece of an answer is held for the seconds that `delay` says; what holds `cutting` can be cut off."""
        self._to, self._delay, self.cutting = port, delay, cutting
        self._tasks: set[asyncio.Task[None]] = set()
        self._let_through = asyncio.Event()
        self._let_through.set()
        self.turns = 0
        """How often something was sent that did not simply go on with what was sent before: round trips."""
        self.held = 0
        """Pieces of answers that wait to be let through."""
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

    def hold(self) -> None:
        """No answer comes back from now on; what is sent goes on to the server."""
        self._let_through.clear()

    def let_through(self) -> None:
        """All that was held goes on its way, to whoever is still there."""
        self._let_through.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, away = await asyncio.open_connection("127.0.0.1", self._to)
        line = _Line(self, reader, writer, there, away)
        back = asyncio.create_task(line.pass_back())
        self._tasks.add(back)
        try:
            await line.pass_on()
        except ConnectionError:
            pass
        finally:
            back.cancel()
            writer.transport.abort()
            away.close()
            self._tasks.difference_update({task, back})

    async def on_its_way(self) -> None:
        """Returns when a piece of an answer may go on."""
        if self._delay is not None:
            await asyncio.sleep(self._delay())
        self.held += 1
        try:
            await self._let_through.wait()
        finally:
            self.held -= 1


class _Line:
    def __init__(
        self,
        proxy: Proxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        away: asyncio.StreamWriter,
    ) -> None:
        self._proxy, self._reader, self._writer, self._there, self._away = proxy, reader, writer, there, away
        self._answered, self._cut_off = True, False
        self._arrived = asyncio.Event()

    async def pass_on(self) -> None:
        proxy = self._proxy
        while data := await self._reader.read(65_536):
            proxy.turns += self._answered
            self._answered = False
            if proxy.cut and proxy.cutting in data:
                how, proxy.cut = proxy.cut, None
                proxy.cuts += 1
                proxy.refusing = proxy.refusing_after_cut
                if how == "before":
                    self._away.transport.abort()
                else:
                    # That it was answered is how it is known to have arrived.
                    self._cut_off = True
                    self._away.write(data)
                    await self._arrived.wait()
                self._writer.transport.abort()
                return
            self._away.write(data)
            await self._away.drain()

    async def pass_back(self) -> None:
        try:
            while data := await self._there.read(65_536):
                if self._cut_off:
                    self._arrived.set()
                    return
                await self._proxy.on_its_way()
                self._answered = True
                self._writer.write(data)
                await self._writer.drain()
            self._writer.close()
        except ConnectionError:
            pass
