"""Tasks: accept, explain, look up, cancel; dead letters and their replay."""

from collections.abc import Mapping

from quart import Blueprint, Response, request

from orchestrator.actors.messages import Routed
from orchestrator.domain.task import Priority
from orchestrator.web import wire
from orchestrator.web.asked import DirectRequest
from orchestrator.web.context import Context, json_response
from orchestrator.web.direct import Handler
from orchestrator.web.told import Told, told_json


def accepting(context: Context) -> Handler:
    """`POST /route_task`, which is served directly."""
    bounds, streams = context.bounds, context.settings.streams()

    async def route_task(asked: DirectRequest) -> Told:
        dry_run = asked.query_string and wire.flag(wire.query(asked, "dry_run"), "dry_run")
        task = await wire.read_task(asked, bounds)
        gateway = context.gateway_for(asked)
        if dry_run:
            return told_json(wire.decision(await gateway.explain(task)))
        context.rates.admit_task(asked, task)
        return routed(await gateway.route(task), streams)

    return route_task


def routed(answered: Routed, streams: Mapping[Priority, str]) -> Told:
    """The answer to an accepted task."""
    task = answered.record.task
    status, body = wire.routed(answered, streams[task.priority])
    return told_json(body, status, f"/task/{task.task_id}")


def routes(context: Context) -> Blueprint:
    """`/task/…` and `/dlq`."""
    blueprint = Blueprint("tasks", __name__)
    streams = context.settings.streams()

    @blueprint.get("/task/<task_id>")
    async def task_status(task_id: str) -> Response:
        wait = wire.seconds(wire.query(request, "wait"), "wait", context.settings.web.max_wait_s)
        record = await context.gateway.task(task_id, wait)
        return json_response(wire.task_status(record, context.gateway.headway(record)))

    @blueprint.delete("/task/<task_id>")
    async def cancel_task(task_id: str) -> Response:
        return json_response(wire.task_status(await context.gateway.cancel(task_id)))

    @blueprint.get("/dlq")
    async def dead_letters() -> Response:
        after = wire.whole(wire.query(request, "after"), "after", 0, 0, 2**53)
        limit = wire.whole(wire.query(request, "limit"), "limit", 100, 1, 1000)
        dead = await context.gateway.dead(after=after, limit=limit)
        more = dead[-1].seq if len(dead) == limit else None
        return json_response({"entries": [wire.task_status(record) for record in dead], "next": more})

    @blueprint.post("/dlq/<task_id>/replay")
    async def replay(task_id: str) -> Response:
        return routed(await context.gateway.replay(task_id), streams).response()

    return blueprint
