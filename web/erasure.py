"""Erasure: the end of what a task, or a case, holds."""

from quart import Blueprint, Response

from orchestrator.domain.errors import NotFound
from orchestrator.web import wire
from orchestrator.web.context import Context, json_response


def routes(context: Context) -> Blueprint:
    """`POST /task/{task_id}/erase` and `POST /cases/{case_id}/erase`."""
    blueprint = Blueprint("erasure", __name__)

    @blueprint.post("/task/<task_id>/erase")
    async def erase_task(task_id: str) -> Response:
        return json_response(wire.erased(await context.gateway.erase(task_id=task_id)))

    @blueprint.post("/cases/<path:case_id>/erase")
    async def erase_case(case_id: str) -> Response:
        if not wire.is_identifier(case_id):
            raise NotFound("There is no such case.")
        return json_response(wire.erased(await context.gateway.erase(case_id=case_id)))

    return blueprint
