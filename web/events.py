"""The life of a task as server-sent events (WHATWG HTML, section 9.2): its state, then each change, to its end.

Between the changes, how far its agent is: the latest word only, since that is all that is kept of it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any

import anyio
import msgspec
from quart import Blueprint, Response, request
from quart.wrappers.response import ResponseBody

from orchestrator.actors.feed import Headway
from orchestrator.actors.gateway import Gateway
from orchestrator.actors.timeline import Timeline
from orchestrator.domain.errors import OrchestratorError, Overloaded
from orchestrator.storage.commands import TaskRecord
from orchestrator.web import wire
from orchestrator.web.context import Context
from orchestrator.web.rights import asked_again

CONTENT_TYPE = "text/event-stream"
HEARTBEAT_S = 15.0
LOOK_AGAIN_S = 2.0
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


class EventStream(ResponseBody):
    """The body of the answer; what it holds is let go of when the answer ends, in whatever way."""

    def __init__(
        self, gateway: Gateway, streams: Streams, timeline: Timeline, may_read: Callable[[], Awaitable[object]],
        *, anew: bool,
    ) -> None:  # fmt: skip
        """`anew`: the client has seen nothing yet. `may_read` raises an OrchestratorError once it may read no more."""
        self._may_read = may_read
        self._gateway, self._streams, self._timeline, self._anew = gateway, streams, timeline, anew
        self._last_sent = anyio.current_time()
        self._headway: Headway | None = None

    async def __aenter__(self) -> AsyncIterator[bytes]:
        self._streams.open += 1
        self._timeline.__enter__()
        self._events = self._until_the_end()
        return self._events

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._streams.open -= 1
        self._timeline.__exit__()
        await self._events.aclose()

    async def _until_the_end(self) -> AsyncGenerator[bytes]:
        yield b"retry: %d\n\n" % RETRY_MS
        try:
            if self._anew:
                await self._timeline.news()
                yield self._state(await self._timeline.task())
            while not self._gateway.closing:
                await self._may_read()
                record = await self._timeline.task()
                for number, entry in await self._timeline.news():
                    yield self._event("transition", number, wire.transition(entry))
                if self._got_further(record):
                    yield self._event("progress", self._timeline.number, wire.progress(record, self._headway))
                if record.progress.state.final:
                    yield self._event("end", self._timeline.number, wire.task_status(record))
                    return
                if anyio.current_time() - self._last_sent >= HEARTBEAT_S:
                    self._last_sent = anyio.current_time()
                    yield b": alive\n\n"
                await self._timeline.changed(LOOK_AGAIN_S)
        except OrchestratorError:
            # The client connects again, and is told the reason then.
            return

    def _state(self, record: TaskRecord) -> bytes:
        self._headway = self._gateway.headway(record)
        return self._event("state", self._timeline.number, wire.task_status(record, self._headway))

    def _got_further(self, record: TaskRecord) -> bool:
        before, self._headway = self._headway, self._gateway.headway(record)
        return self._headway not in (None, before)

    def _event(self, name: str, number: int, data: dict[str, Any]) -> bytes:
        self._last_sent = anyio.current_time()
        return b"event: %s\nid: %d\ndata: %s\n\n" % (name.encode(), number, msgspec.json.encode(data))


def routes(context: Context) -> Blueprint:
    """`GET /task/{id}/events`."""
    blueprint = Blueprint("events", __name__)
    streams = Streams(context.settings.web.max_streams)

    @blueprint.get("/task/<task_id>/events")
    async def events(task_id: str) -> Response:
        text = request.headers.get("Last-Event-ID")
        seen = wire.whole(text, "Last-Event-ID", 0, 0, 2**53)
        gateway = context.gateway
        await gateway.task(task_id)
        streams.check()
        response = Response(content_type=f"{CONTENT_TYPE}; charset=utf-8")
        if request.method != "HEAD":
            timeline = gateway.timeline(task_id, seen)
            response.response = EventStream(gateway, streams, timeline, asked_again(), anew=text is None)
        response.timeout = None
        # Proxies are not to wait until they have a page of it.
        response.headers["X-Accel-Buffering"] = "no"
        return response

    return blueprint
