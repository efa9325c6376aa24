"""Parts of a page that stay as they should be: sent as server-sent events, each when it has changed."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext

import anyio
from quart import Response

from orchestrator.web.dashboard.pages import strict
from orchestrator.web.streaming import Source, Streams, streaming

TICK_S = 1.0
END = "end"
GONE = "gone"

Parts = Mapping[str, str]
"""The HTML of each part by the name of its event. With one of the name END nothing follows."""


def live(
    streams: Streams,
    take: Callable[[], Awaitable[Parts]],
    still: Callable[[], Awaitable[object]],
    closing: Callable[[], bool],
    wait: Callable[[], Awaitable[None]] | None = None,
    around: AbstractAsyncContextManager[object] | None = None,
) -> Response:
    """An answer that goes on, to the end of the service or of its reader's session; without `wait` a look a second.

    Raises Overloaded where too many do.
    """
    shown: dict[str, str] = {}

    async def look() -> tuple[list[bytes], bool]:
        parts = await take()
        changed = [event(name, text) for name, text in parts.items() if shown.get(name) != text]
        shown.update(parts)
        return changed, END in parts

    source = Source(look, still, closing, wait or _tick, around or nullcontext(), event(GONE, ""))
    return strict(streaming(streams, source))


def event(name: str, text: str) -> bytes:
    """A server-sent event (WHATWG HTML, section 9.2); lines of `text` without what only lays it out."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    return "\n".join([f"event: {name}", *(f"data: {line}" for line in lines), "", ""]).encode()


async def _tick() -> None:
    await anyio.sleep(TICK_S)
