"""The last thing that a handler said of its progress: the newest counts, and saying it never waits."""

import asyncio
from collections.abc import Generator
from typing import Any


class Said:
    """May be awaited, and need not be: what was said is on its way either way."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


class Reports:
    """Of one attempt. `say` may be called from any thread."""

    def __init__(self) -> None:
        self._newest: dict[str, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: asyncio.Event | None = None

    def say(self, share: float | None, note: str | None) -> Said:
        """Replaces what was said before and not sent yet."""
        self._newest = {"progress": share, "note": None if note is None else note[:200]}
        if self._loop is not None and self._changed is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)
        return Said()

    async def next(self, within: float | None) -> dict[str, Any]:
        """What is new, as the fields of an extension; nothing after `within` seconds (None: waits for ever)."""
        if self._changed is None:
            self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        if not self._newest:
            try:
                async with asyncio.timeout(within):
                    await self._changed.wait()
            except TimeoutError:
                pass
        self._changed.clear()
        newest, self._newest = self._newest, {}
        return {name: value for name, value in newest.items() if value is not None}
