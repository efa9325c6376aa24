"""The description of the API as a page: Swagger UI from our own files, which asks nobody else for anything."""

from importlib import resources

from quart import Blueprint, Response
from werkzeug.exceptions import NotFound

from orchestrator.web.context import Context

FILES = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No script but from these files. Swagger UI sets styles on its elements, and draws with data: URIs of its own."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Routing Orchestrator: the API</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="docs/swagger-ui.css"></head>
<body><div id="api"></div>
<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script>
</body></html>
"""


def routes(_context: Context) -> Blueprint:
    """`/docs` and its files."""
    blueprint = Blueprint("docs", __name__)
    folder = resources.files("orchestrator.web").joinpath("swagger")

    @blueprint.get("/docs")
    async def page() -> Response:
        return _strict(Response(PAGE, content_type="text/html; charset=utf-8"))

    @blueprint.get("/docs/<name>")
    async def file(name: str) -> Response:
        if name not in FILES:
            raise NotFound
        return _strict(Response(folder.joinpath(name).read_bytes(), content_type=FILES[name]))

    return blueprint


def _strict(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
