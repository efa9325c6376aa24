"""The tasks: searched, listed, one followed from its acceptance to its end, its result where that is asked for."""

import re
from functools import partial
from typing import Any

import msgspec
from quart import Blueprint, Response, request

from orchestrator.domain.audit import AuditEntry
from orchestrator.domain.errors import NotFound
from orchestrator.domain.identity import Principal, Scope
from orchestrator.domain.lifecycle import State
from orchestrator.storage.browsing import NEWEST, TaskQuery
from orchestrator.storage.commands import TaskRecord
from orchestrator.web import wire
from orchestrator.web.dashboard import stories
from orchestrator.web.dashboard.live import END, Parts, live
from orchestrator.web.dashboard.pages import Pages, cursor, rights_of, see
from orchestrator.web.rights import asked_again, caller
from orchestrator.web.streaming import Streams

TASK = re.compile(r"task-[0-9a-f]{32}")
STATES = [state.value for state in State]
LOOK_AGAIN_S = 2.0


def add(blueprint: Blueprint, pages: Pages, streams: Streams) -> None:
    """`/ui/tasks` and `/ui/task/…`."""
    add_list(blueprint, pages, streams)
    add_task(blueprint, pages, streams)


def add_list(blueprint: Blueprint, pages: Pages, streams: Streams) -> None:
    """The list. A case is searched for by POST: its id stands in no address, so in no log and no history."""
    context = pages.context

    async def shown(principal: Principal, query: TaskQuery) -> dict[str, Any]:
        page = await context.system.acting_for(principal).browser.tasks(query)
        tones, now = stories.TONES, context.system.now()
        return {"found": page, "query": query, "tones": tones, "now": now, "operates": principal.operates}

    async def listed(query: TaskQuery) -> Response:
        return pages.page("tasks.html", **await shown(caller(), query), states=STATES, newest=NEWEST)

    @blueprint.get("/ui/tasks")
    async def tasks() -> Response:
        return await listed(TaskQuery(_state(), before=cursor(wire.query(request, "before"))))

    @blueprint.post("/ui/tasks")
    async def search() -> Response:
        fields, _ = await wire.read_fields(request, context.bounds)
        wanted = str(fields.get("find", "")).strip()
        if TASK.fullmatch(wanted):
            return see(f"/ui/task/{wanted}")
        if not wire.is_identifier(wanted):
            return see("/ui/tasks")
        return await listed(TaskQuery(case_id=wanted, before=cursor(fields.get("before"))))

    @blueprint.get("/ui/tasks/live")
    async def tasks_live() -> Response:
        principal, query = caller(), TaskQuery(_state())

        async def take() -> Parts:
            return {"tasks": pages.text("part_tasks.html", await shown(principal, query))}

        return live(streams, take, asked_again(), lambda: context.system.closing)


def add_task(blueprint: Blueprint, pages: Pages, streams: Streams) -> None:
    """One task, live, and its result."""
    context = pages.context

    def shown(principal: Principal, record: TaskRecord, entries: list[AuditEntry]) -> dict[str, Any]:
        decisions = Scope.AUDIT_READ in principal.scopes
        return {
            "record": record,
            "tone": stories.TONES[record.progress.state],
            "headway": context.system.headway(record),
            "story": stories.story(entries, decisions=decisions),
            "left_out": max(0, len(entries) - stories.MOST_STEPS),
            "removed": not stories.begins(entries),
            "decisions": decisions,
            "may": rights_of(principal),
        }

    @blueprint.get("/ui/task/<task_id>")
    async def task(task_id: str) -> Response:
        record = await context.gateway.task(task_id)
        entries = [entry for _, entry in await context.gateway.timeline(task_id).news()]
        return pages.page("task.html", **shown(caller(), record, entries))

    @blueprint.get("/ui/task/<task_id>/live")
    async def task_live(task_id: str) -> Response:
        principal, entries = caller(), list[AuditEntry]()
        await context.gateway.task(task_id)
        timeline = context.gateway.timeline(task_id)

        async def take() -> Parts:
            record = await timeline.task()
            entries.extend(entry for _, entry in await timeline.news())
            parts = {"task": pages.text("part_task.html", shown(principal, record, entries))}
            return parts | ({END: ""} if record.progress.state.final else {})

        still, wait = asked_again(), partial(timeline.changed, LOOK_AGAIN_S)
        return live(streams, take, still, lambda: context.system.closing, wait, timeline)

    @blueprint.get("/ui/task/<task_id>/result")
    async def result(task_id: str) -> Response:
        record = await context.gateway.task(task_id)
        if record.result is None:
            raise NotFound("The task has no result that may be shown.")
        text = msgspec.json.format(msgspec.json.encode(record.result.output), indent=2).decode()
        if "HX-Request" in request.headers:
            return pages.html(pages.text("part_result.html", {"record": record, "text": text}))
        return pages.page("result.html", record=record, text=text)


def _state() -> State | None:
    asked = wire.query(request, "state")
    return State(asked) if asked in STATES else None
