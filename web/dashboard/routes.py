"""The routes of the page, its files, and its answers to what goes wrong."""

from typing import Any

from quart import Blueprint, Response, request
from werkzeug.exceptions import HTTPException, NotFound

from orchestrator.domain.errors import OrchestratorError, RateLimited, Unauthenticated
from orchestrator.web.context import Context
from orchestrator.web.dashboard import actions, overview, sending, signing_in, tasks, trail
from orchestrator.web.dashboard.pages import TYPES, Pages, see, strict
from orchestrator.web.dashboard.sessions import COOKIE, Sessions
from orchestrator.web.problems import fields_of, problem
from orchestrator.web.streaming import CONTENT_TYPE, Streams

KEEP = "public, max-age=31536000, immutable"


def routes(context: Context, sessions: Sessions) -> Blueprint:
    """`/` and `/ui/…`."""
    blueprint = Blueprint("dashboard", __name__)
    pages, streams = Pages(context, sessions), Streams(context.settings.web.max_streams)
    overview.add(blueprint, pages, streams)
    signing_in.add(blueprint, pages)
    actions.add(blueprint, pages)
    tasks.add(blueprint, pages, streams)
    sending.add(blueprint, pages)
    trail.add(blueprint, pages)

    @blueprint.get("/ui/static/<name>")
    async def file(name: str) -> Response:
        if name not in pages.files:
            raise NotFound
        kind = TYPES[name.rpartition(".")[2]]
        return strict(Response(pages.files[name], content_type=kind, headers={"Cache-Control": KEEP}))

    async def failed(error: Any) -> Response:
        if isinstance(error, Unauthenticated):
            try:
                context.rates.admit_stranger(request)
            except RateLimited as limited:
                error = limited
            else:
                return _to_sign_in(error)
        status, members = fields_of(error)
        response = pages.page("problem.html", status, problem=members)
        if isinstance(error, HTTPException):
            return response
        response.headers.extend({k: v for k, v in problem(error).headers if k == "Retry-After"})
        return response

    for kind in (OrchestratorError, HTTPException):
        blueprint.register_error_handler(kind, failed)
    return blueprint


def _to_sign_in(error: Unauthenticated) -> Response:
    if CONTENT_TYPE in request.headers.get("Accept", ""):
        # A stream does not follow to a page.
        return strict(problem(error).response())
    return see("/ui/sign-in?why=ended" if COOKIE in request.cookies else "/ui/sign-in")
