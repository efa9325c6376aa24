"""Parts of a page that stay as they should be: sent as server-sent events, each when it has changed."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

import anyio
from quart import Response, request
from quart.wrappers.response import ResponseBody

from orchestrator.domain.errors import OrchestratorError, Unauthenticated
from orchestrator.web.dashboard.pages import strict
from orchestrator.web.events import CONTENT_TYPE, HEARTBEAT_S, RETRY_MS, Streams

TICK_S = 1.0
END = "end"
GONE = "gone"

Parts = Mapping[str, str]
"""The HTML of each part by the name of its event. With one of the name END nothing follows."""


class LiveStream(ResponseBody):
    """The body of the answer: ends with the service, and with the session of who reads it."""

    def __init__(
        self,
        streams: Streams,
        take: Callable[[], Awaitable[Parts]],
        still: Callable[[], Awaitable[object]],
        closing: Callable[[], bool],
        wait: Callable[[], Awaitable[None]],
        around: AbstractContextManager[object],
    ) -> None:
        """`around` is entered for as long as somebody reads."""
        self._streams, self._take, self._still, self._closing, self._wait = streams, take, still, closing, wait
        self._around, self._last_sent = around, anyio.current_time()

    async def __aenter__(self) -> AsyncIterator[bytes]:
        self._streams.open += 1
        self._around.__enter__()
        self._events = self._until_the_end()
        return self._events

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._streams.open -= 1
        self._around.__exit__(kind, error, traceback)
        await self._events.aclose()

    async def _until_the_end(self) -> AsyncGenerator[bytes]:
        yield b"retry: %d\n\n" % RETRY_MS
        shown: dict[str, str] = {}
        try:
            while not self._closing():
                await self._still()
                parts = await self._take()
                for name, text in parts.items():
                    if shown.get(name) != text:
                        shown[name], self._last_sent = text, anyio.current_time()
                        yield event(name, text)
                if END in parts:
                    return
                if anyio.current_time() - self._last_sent >= HEARTBEAT_S:
                    self._last_sent = anyio.current_time()
                    yield b": alive\n\n"
                await self._wait()
        except Unauthenticated:
            yield event(GONE, "")
        except OrchestratorError:
            # The browser connects again, and is told the reason then.
            return


def event(name: str, text: str) -> bytes:
    """A server-sent event (WHATWG HTML, section 9.2); lines of `text` without what only lays it out."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    return "\n".join([f"event: {name}", *(f"data: {line}" for line in lines), "", ""]).encode()


def live(
    streams: Streams,
    take: Callable[[], Awaitable[Parts]],
    still: Callable[[], Awaitable[object]],
    closing: Callable[[], bool],
    wait: Callable[[], Awaitable[None]] | None = None,
    around: AbstractContextManager[object] | None = None,
) -> Response:
    """An answer that goes on. Raises Overloaded where too many do; without `wait` it looks once a second."""
    streams.check()
    response = Response(content_type=f"{CONTENT_TYPE}; charset=utf-8")
    if request.method != "HEAD":
        response.response = LiveStream(streams, take, still, closing, wait or _tick, around or nullcontext())
    response.timeout = None
    response.headers["X-Accel-Buffering"] = "no"
    return strict(response)


async def _tick() -> None:
    await anyio.sleep(TICK_S)
