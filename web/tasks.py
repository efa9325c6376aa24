"""Tasks: accept, explain, look up, cancel; dead letters and their replay."""

from quart import Blueprint, Response, request

from orchestrator.actors.messages import Routed
from orchestrator.web import wire
from orchestrator.web.context import Context, json_response


def routes(context: Context) -> Blueprint:
    """`/route_task`, `/task/…` and `/dlq`."""
    blueprint = Blueprint("tasks", __name__)
    bounds = context.bounds

    @blueprint.post("/route_task")
    async def route_task() -> Response:
        dry_run = wire.flag(wire.query(request, "dry_run"), "dry_run")
        task = wire.task_request(await wire.read_json(request, bounds), request.headers.getlist("Idempotency-Key"))
        if dry_run:
            return json_response(wire.decision(await context.gateway.explain(task)))
        context.rates.admit_task(request, task)
        return _routed(await context.gateway.route(task))

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
        return _routed(await context.gateway.replay(task_id))

    def _routed(routed: Routed) -> Response:
        status, body = wire.routed(routed, streams[routed.record.task.priority])
        return json_response(body, status, location=f"/task/{routed.record.task.task_id}")

    streams = context.settings.streams()
    return blueprint
