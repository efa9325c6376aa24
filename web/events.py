"""The life of a task as server-sent events: its state, then each change, to its end.

Between the changes, how far its agent is: the latest word only, since that is all that is kept of it.
"""

from functools import partial
from typing import Any

import msgspec
from quart import Blueprint, Response, request

from orchestrator.actors.feed import Headway
from orchestrator.actors.gateway import Gateway
from orchestrator.actors.timeline import Timeline
from orchestrator.storage.commands import TaskRecord
from orchestrator.web import wire
from orchestrator.web.context import Context
from orchestrator.web.rights import asked_again
from orchestrator.web.streaming import Source, Streams, streaming

LOOK_AGAIN_S = 2.0


class TaskEvents:
    """What there is to tell of a task, look by look."""

    def __init__(self, gateway: Gateway, timeline: Timeline, *, anew: bool) -> None:
        """`anew`: the client has seen nothing yet."""
        self._gateway, self._timeline, self._anew = gateway, timeline, anew
        self._headway: Headway | None = None

    async def look(self) -> tuple[list[bytes], bool]:
        """The events since the last look, and whether the task has ended."""
        told = [await self._state()] if self._anew else []
        self._anew = False
        record = await self._timeline.task()
        for number, entry in await self._timeline.news():
            told.append(_event("transition", number, wire.transition(entry)))
        if self._got_further(record):
            told.append(_event("progress", self._timeline.number, wire.progress(record, self._headway)))
        if record.progress.state.final:
            told.append(_event("end", self._timeline.number, wire.task_status(record)))
        return told, record.progress.state.final

    async def _state(self) -> bytes:
        await self._timeline.news()
        record = await self._timeline.task()
        self._headway = self._gateway.headway(record)
        return _event("state", self._timeline.number, wire.task_status(record, self._headway))

    def _got_further(self, record: TaskRecord) -> bool:
        before, self._headway = self._headway, self._gateway.headway(record)
        return self._headway not in (None, before)


def _event(name: str, number: int, data: dict[str, Any]) -> bytes:
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
        timeline = gateway.timeline(task_id, seen)
        look, wait = TaskEvents(gateway, timeline, anew=text is None).look, partial(timeline.changed, LOOK_AGAIN_S)
        return streaming(streams, Source(look, asked_again(), lambda: gateway.closing, wait, timeline))

    return blueprint
