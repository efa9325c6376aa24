"""The Quart application: its routes, and a problem document for everything that goes wrong."""

from functools import partial
from typing import Any

import anyio
from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException, InternalServerError

from orchestrator.actors.events import TaskRefused
from orchestrator.actors.gateway import Gateway
from orchestrator.domain.errors import OrchestratorError, RateLimited, Unauthenticated
from orchestrator.settings import Settings
from orchestrator.telemetry import Telemetry
from orchestrator.web import agents, audit, batches, consents, docs, erasure, events, keys, operations, pulling, tasks
from orchestrator.web.bodies import Gate, request_class
from orchestrator.web.context import Context
from orchestrator.web.dashboard import routes as dashboard
from orchestrator.web.dashboard.sessions import Sessions
from orchestrator.web.faults import log_fault
from orchestrator.web.identity.authenticator import Authenticator
from orchestrator.web.identity.opening import MakeVerifier, verifier_of
from orchestrator.web.identity.strangers import Strangers
from orchestrator.web.problems import http_problem, problem
from orchestrator.web.rates import Rates
from orchestrator.web.rights import guard
from orchestrator.web.safety import HEADER, dangers


def build_app(gateway: Gateway, telemetry: Telemetry, settings: Settings, tokens: MakeVerifier | None = None) -> Quart:
    """An ASGI application over a running system; it starts and stops nothing.

    Without `tokens` they are made from the settings. Raises SettingsError where these name keys that cannot be used.
    """
    app = Quart("orchestrator", static_folder=None, template_folder=None)
    app.request_class = request_class(settings)
    app.config["BODY_TIMEOUT"] = settings.web.body_timeout_s
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.url_map.strict_slashes = False
    # Otherwise `/task//x` would be a redirect.
    app.url_map.merge_slashes = False
    rates = Rates(settings.limits)
    context = Context(gateway, telemetry, settings, rates, dangers(settings))
    make = tokens or verifier_of(settings.auth)
    authenticator = Authenticator(settings.auth, gateway.key, make and make(gateway.now, gateway.clock_behind))
    sessions = Sessions(authenticator.of_token, anyio.current_time, gateway.token, needed=settings.auth.configured)
    app.before_request(guard(authenticator.principal, sessions.principal))
    app.register_blueprint(dashboard.routes(context, sessions))
    for part in (tasks, batches, events, agents, pulling, audit, consents, erasure, keys, operations, docs):
        app.register_blueprint(part.routes(context))
    app.register_error_handler(OrchestratorError, partial(_orchestrator_error, rates, Strangers(telemetry)))
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _fault)
    app.before_request(partial(_admit, rates, telemetry))
    app.after_request(partial(_harden, "; ".join(context.dangers)))
    app.asgi_app = Gate(app.asgi_app, settings.web.max_batches)
    return app


async def _admit(rates: Rates, telemetry: Telemetry) -> None:
    try:
        rates.admit(request)
    except RateLimited as error:
        telemetry.emit(TaskRefused(error.code))
        raise


async def _orchestrator_error(rates: Rates, strangers: Strangers, error: Any) -> Response:
    if isinstance(error, Unauthenticated):
        strangers.seen()
        try:
            rates.admit_stranger(request)
        except RateLimited as limited:
            return problem(limited)
    return problem(error)


async def _http_error(error: Any) -> Response:
    return http_problem(error)


async def _fault(error: Any) -> Response:
    log_fault(error)
    return http_problem(InternalServerError())


async def _harden(dangers: str, response: Any) -> Any:
    if dangers:
        response.headers[HEADER] = dangers
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")
    return response
