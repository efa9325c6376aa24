"""Tasks: accept, explain, look up, cancel; dead letters and their replay."""

from typing import Any

from quart import Blueprint, Response, request

from orchestrator.actors.messages import Answer, Routed
from orchestrator.domain.lifecycle import State
from orchestrator.web import wire
from orchestrator.web.context import Context, json_response


def routes(context: Context) -> Blueprint:
    """`/route_task`, `/task/…` and `/dlq`."""
    blueprint = Blueprint("tasks", __name__)
    gateway = context.gateway

    @blueprint.post("/route_task")
    async def route_task() -> Response:
        dry_run = wire.flag(wire.query(request, "dry_run"), "dry_run")
        task = wire.task_request(await wire.read_json(request), request.headers.getlist("Idempotency-Key"))
        if dry_run:
            return json_response(wire.decision(await gateway.explain(task)))
        return _routed(await gateway.route(task))

    @blueprint.get("/task/<task_id>")
    async def task_status(task_id: str) -> Response:
        wait = wire.seconds(wire.query(request, "wait"), "wait", context.settings.web.max_wait_s)
        return json_response(wire.task_status(await gateway.task(task_id, wait)))

    @blueprint.delete("/task/<task_id>")
    async def cancel_task(task_id: str) -> Response:
        return json_response(wire.task_status(await gateway.cancel(task_id)))

    @blueprint.get("/dlq")
    async def dead_letters() -> Response:
        after = wire.whole(wire.query(request, "after"), "after", 0, 0, 2**53)
        limit = wire.whole(wire.query(request, "limit"), "limit", 100, 1, 1000)
        dead = await gateway.dead(after=after, limit=limit)
        more = dead[-1].seq if len(dead) == limit else None
        return json_response({"entries": [wire.task_status(record) for record in dead], "next": more})

    @blueprint.post("/dlq/<task_id>/replay")
    async def replay(task_id: str) -> Response:
        return _routed(await gateway.replay(task_id))

    def _routed(routed: Routed) -> Response:
        return answer(routed, streams[routed.record.task.priority])

    streams = context.settings.streams()
    return blueprint


def answer(routed: Routed, queue: str) -> Response:
    """The answer to an accepted task."""
    record = routed.record
    task_id, state = record.task.task_id, record.progress.state
    location = f"/task/{task_id}"
    match routed.answer:
        case Answer.COMPLETED_SYNC:
            body: dict[str, Any] = {"task_id": task_id, "status": Answer.COMPLETED_SYNC.value}
            result = record.result
            body |= {"result": result.output if result else None, "agent_id": record.progress.agent_id}
            return json_response(body, 200, location=location)
        case Answer.DUPLICATE:
            body = {"task_id": task_id, "status": Answer.DUPLICATE.value, "state": state.value, "queue": queue}
            if record.result is not None:
                body |= {"result": record.result.output, "agent_id": record.result.agent_id}
            return json_response(body, 200, location=location)
        case Answer.QUEUED:
            # A synchronous attempt may have ended the task for good; its sender should not wait for it.
            status = state if state.final else State.QUEUED
            return json_response({"task_id": task_id, "status": status.value, "queue": queue}, 202, location=location)
