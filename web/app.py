"""The Quart application: its routes, and a problem document for everything that goes wrong."""

from functools import partial
from typing import Any, cast

from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import PathConverter

from orchestrator.actors.gateway import Gateway
from orchestrator.domain.errors import OrchestratorError
from orchestrator.kernel.monotonic import monotonic
from orchestrator.settings import Settings
from orchestrator.telemetry import Telemetry
from orchestrator.web import agents, audit, batches, consents, docs, erasure, events, keys, operations, pulling, tasks
from orchestrator.web.bodies import ROUTE_TASKS, request_class
from orchestrator.web.context import Context
from orchestrator.web.dashboard import routes as dashboard
from orchestrator.web.dashboard.sessions import Sessions
from orchestrator.web.desk import Desk
from orchestrator.web.direct import Direct
from orchestrator.web.hosts import Hosts
from orchestrator.web.identity.authenticator import Authenticator
from orchestrator.web.identity.opening import MakeVerifier, verifier_of
from orchestrator.web.identity.strangers import Strangers
from orchestrator.web.rates import Rates
from orchestrator.web.rights import call_of
from orchestrator.web.safety import dangers, on_every_answer

ROUTE_TASK = "/route_task"


def build_app(gateway: Gateway, telemetry: Telemetry, settings: Settings, tokens: MakeVerifier | None = None) -> Quart:
    """An ASGI application over a running system; it starts and stops nothing.

    Without `tokens` they are made from the settings. Raises SettingsError where these name keys that cannot be used.
    """
    app = Quart("orchestrator", static_folder=None, template_folder=None)
    app.request_class = request_class(settings)
    app.config["BODY_TIMEOUT"] = settings.web.body_timeout_s
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.url_map.strict_slashes = False
    app.url_map.converters["path"] = _AnyText
    # Otherwise `/task//x` would be a redirect.
    app.url_map.merge_slashes = False
    rates = Rates(settings.limits)
    context = Context(gateway, telemetry, settings, rates, dangers(settings))
    make = tokens or verifier_of(settings.auth)
    verifier = make and make(gateway.now, gateway.clock_behind)
    authenticator = Authenticator(settings.auth, gateway.key, verifier, gateway.now)
    sessions = Sessions(authenticator.showing, monotonic, gateway.token, needed=settings.auth.configured)
    desk = Desk(rates, telemetry, Strangers(telemetry), authenticator.principal, sessions.principal)
    app.before_request(partial(_authorise, desk))
    app.register_blueprint(dashboard.routes(context, sessions))
    for part in (tasks, events, agents, pulling, audit, consents, erasure, keys, operations, docs):
        app.register_blueprint(part.routes(context))
    for kind in (OrchestratorError, HTTPException, Exception):
        app.register_error_handler(kind, partial(_refusal, desk))
    app.before_request(partial(_admit, desk))
    hardened = on_every_answer(context.dangers)
    app.after_request(partial(_harden, hardened))
    handlers = {ROUTE_TASK: tasks.accepting(context), ROUTE_TASKS: batches.accepting(context)}
    for path in handlers:
        # The framework answers for their other methods.
        app.add_url_rule(path, path.removeprefix("/"), methods=["POST"])
    app.asgi_app = cast("Any", Hosts(Direct(app.asgi_app, handlers, desk, hardened, settings), settings))
    return app


class _AnyText(PathConverter):
    """A name of somebody else's in a path, which may begin with a slash as well."""

    part_isolating = False
    regex = ".+?"


async def _authorise(desk: Desk) -> None:
    call = call_of(request)
    if call is not None:
        await desk.authorise(request, call)


async def _admit(desk: Desk) -> None:
    desk.admit(request)


async def _refusal(desk: Desk, error: Any) -> Response:
    return desk.refusal(request, error).response()


async def _harden(hardened: dict[str, str], response: Any) -> Any:
    # Its own word on caching counts.
    for name, text in hardened.items():
        response.headers.setdefault(name, text)
    return response
