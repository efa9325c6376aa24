"""Answers that go on: server-sent events (WHATWG HTML, section 9.2), for as long as somebody reads who may."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from msgspec import Struct
from quart import Response, request
from quart.wrappers.response import ResponseBody

from orchestrator.domain.errors import OrchestratorError, Overloaded, Unauthenticated
from orchestrator.kernel.monotonic import monotonic

CONTENT_TYPE = "text/event-stream"
HEARTBEAT_S = 15.0
RETRY_MS = 2_000
"""After how long a client should connect again."""


class Streams:
    """How many are open. A few that begin at the same moment may be beyond the bound."""

    def __init__(self, most: int) -> None:
        self._most, self.open = most, 0

    def check(self) -> None:
        """Raises Overloaded where there is no room for one more."""
        if self.open >= self._most:
            raise Overloaded("Too many event streams are open.", retry_after=5)


class Source(Struct, frozen=True):
    """Where the events come from, and until when."""

    look: Callable[[], Awaitable[tuple[Sequence[bytes], bool]]]
    """The events since the last look, and whether nothing follows them."""
    may_read: Callable[[], Awaitable[object]]
    """Asked before each look but the first, for which the request was let in. Raises an OrchestratorError once its
    reader may read no more, or the connection is to end."""
    closing: Callable[[], bool]
    wait: Callable[[], Awaitable[None]]
    """Until it is worth looking again."""
    around: AbstractAsyncContextManager[object]
    """Entered for as long as somebody reads."""
    gone: bytes = b""
    """The last event for somebody who is not known any more."""


def streaming(streams: Streams, source: Source) -> Response:
    """The answer, one of `streams`. Raises Overloaded where there are too many."""
    streams.check()
    response = Response(content_type=f"{CONTENT_TYPE}; charset=utf-8")
    if request.method != "HEAD":
        response.response = _Stream(streams, source)
    response.timeout = None
    # Proxies are not to wait until they have a page of it.
    response.headers["X-Accel-Buffering"] = "no"
    return response


class _Stream(ResponseBody):
    """The body of the answer; what it holds is let go of when the answer ends, in whatever way."""

    def __init__(self, streams: Streams, source: Source) -> None:
        self._streams, self._source = streams, source

    async def __aenter__(self) -> AsyncIterator[bytes]:
        self._streams.open += 1
        await self._source.around.__aenter__()
        self._events = self._until_the_end()
        return self._events

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._streams.open -= 1
        try:
            await self._events.aclose()
        finally:
            await self._source.around.__aexit__(kind, error, traceback)

    async def _until_the_end(self) -> AsyncGenerator[bytes]:
        source, last_sent = self._source, monotonic()
        yield b"retry: %d\n\n" % RETRY_MS
        try:
            while True:
                events, over = await source.look()
                if not events and monotonic() - last_sent >= HEARTBEAT_S:
                    events = [b": alive\n\n"]
                for event in events:
                    last_sent = monotonic()
                    yield event
                # Asked after the look: whoever is connected when the service ends has been told where things stand.
                if over or source.closing():
                    return
                await source.wait()
                await source.may_read()
        except Unauthenticated:
            if source.gone:
                yield source.gone
        except OrchestratorError:
            # The client connects again, and is told the reason then.
            return
