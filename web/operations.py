"""What operators and their machines ask: health, readiness, queues, metrics, the description of the API."""

from collections.abc import Awaitable, Callable

from quart import Blueprint, Response

from orchestrator.web.context import Context, json_response
from orchestrator.web.openapi import description
from orchestrator.web.watch import Page, pages


def routes(context: Context) -> Blueprint:
    """`/health`, `/ready`, `/queues`, `/metrics` and `/openapi.json`."""
    blueprint = Blueprint("operations", __name__)

    for path, page in pages(context.system, context.telemetry, context.dangers).items():
        blueprint.add_url_rule(path, path.removeprefix("/"), _answering(page))

    @blueprint.get("/queues")
    async def queues() -> Response:
        return json_response(context.flow())

    @blueprint.get("/openapi.json")
    async def openapi() -> Response:
        return json_response(description())

    return blueprint


def _answering(page: Page) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return page().response()

    return answer
