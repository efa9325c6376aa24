"""Many tasks in one request: each is answered for itself, all are stored with one commit."""

from math import ceil
from typing import Any

import anyio.lowlevel
from quart import Blueprint, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from orchestrator.actors.messages import Routed
from orchestrator.domain.errors import InvalidRequest, OrchestratorError
from orchestrator.domain.strict_json import decode
from orchestrator.domain.task import TaskRequest
from orchestrator.web import wire
from orchestrator.web.context import Context, json_response
from orchestrator.web.problems import fields_of

PATH = "/route_tasks"
SHARE = 32
"""Tasks that are decoded at once before others get their turn."""

Refusal = OrchestratorError | HTTPException


def routes(context: Context) -> Blueprint:
    """`POST /route_tasks`."""
    blueprint = Blueprint("batches", __name__)
    bounds, streams, most = context.bounds, context.settings.streams(), context.settings.web.max_body_bytes

    @blueprint.post(PATH)
    async def route_tasks() -> Response:
        if request.headers.getlist("Idempotency-Key"):
            raise InvalidRequest("idempotency_key: each task of a batch has its own.")
        read = list[TaskRequest | Refusal]()
        for number, text in enumerate(await wire.read_batch(request)):
            read.append(_verdict(text))
            if number % SHARE == SHARE - 1:
                await anyio.lowlevel.checkpoint()
        good = [item for item in read if isinstance(item, TaskRequest)]
        routed = iter(await context.gateway.route_all(good) if good else [])
        verdicts = (next(routed) if isinstance(item, TaskRequest) else item for item in read)
        return json_response({"outcomes": [_outcome(verdict) for verdict in verdicts]}, 207)

    def _verdict(text: bytes) -> TaskRequest | Refusal:
        """What the text asks for, or what is wrong with it."""
        if len(text) > most:
            return RequestEntityTooLarge()
        try:
            task = wire.task_request(decode(text, bounds), ())
            context.rates.admit_task(request, task)
        except OrchestratorError as error:
            return error
        return task

    def _outcome(verdict: Routed | Refusal) -> dict[str, Any]:
        if isinstance(verdict, Routed):
            status, body = wire.routed(verdict, streams[verdict.record.task.priority])
            return {"status": status, "body": body}
        status, problem = fields_of(verdict)
        wait = None if isinstance(verdict, HTTPException) else verdict.retry_after
        return {"status": status, "body": problem} | ({} if wait is None else {"retry_after": ceil(wait)})

    return blueprint
