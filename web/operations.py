"""What operators and their machines ask: health, readiness, queues, metrics, the description of the API."""

from typing import Any

from quart import Blueprint, Response

from orchestrator import __version__
from orchestrator.kernel.clock import MOST_BEHIND_S
from orchestrator.web.context import Context, json_response
from orchestrator.web.openapi import description


def routes(context: Context) -> Blueprint:
    """`/health`, `/ready`, `/queues`, `/metrics` and `/openapi.json`."""
    blueprint = Blueprint("operations", __name__)

    @blueprint.get("/health")
    async def health() -> Response:
        found: dict[str, Any] = {"insecure": context.dangers} if context.dangers else {}
        if (behind := context.system.clock_behind()) > MOST_BEHIND_S:
            found["clock_behind_s"] = round(behind)
        return json_response({"status": "ok", "version": __version__, **found})

    @blueprint.get("/ready")
    async def ready() -> Response:
        reasons = context.system.unready()
        return json_response({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    @blueprint.get("/queues")
    async def queues() -> Response:
        return json_response(context.flow())

    @blueprint.get("/metrics")
    async def metrics() -> Response:
        return Response(context.telemetry.render(), content_type="text/plain; version=0.0.4; charset=utf-8")

    @blueprint.get("/openapi.json")
    async def openapi() -> Response:
        return json_response(description())

    return blueprint
