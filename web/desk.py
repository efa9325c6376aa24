"""What is done before and after every call, however it came: who asks, how often, and what is said of an error."""

from collections.abc import Awaitable

from msgspec import Struct
from werkzeug.exceptions import HTTPException, InternalServerError

from orchestrator.actors.events import TaskRefused
from orchestrator.domain.errors import OrchestratorError, RateLimited, Unauthenticated
from orchestrator.telemetry import Telemetry
from orchestrator.web.asked import Asked
from orchestrator.web.faults import log_fault
from orchestrator.web.identity.strangers import Strangers
from orchestrator.web.origins import refuse_foreign
from orchestrator.web.problems import http_problem, problem
from orchestrator.web.rates import Rates
from orchestrator.web.rights import Authenticate, authorise
from orchestrator.web.told import Told


class Desk(Struct, frozen=True):
    """One for an application."""

    rates: Rates
    telemetry: Telemetry
    strangers: Strangers
    authenticate: Authenticate
    by_session: Authenticate

    def authorise(self, request: Asked, call: str) -> Awaitable[None]:
        """Finds out who sent the request, and whether he may make that call. Raises an OrchestratorError."""
        refuse_foreign(request)
        return authorise(request, call, self.authenticate, self.by_session)

    def admit(self, request: Asked) -> None:
        """Counts the request. Raises RateLimited."""
        try:
            self.rates.admit(request)
        except RateLimited as error:
            self.telemetry.emit(TaskRefused(error.code))
            raise

    def refusal(self, request: Asked, error: Exception) -> Told:
        """The problem document for what went wrong. Who could not say who he is, pays with his machine's share."""
        if isinstance(error, HTTPException):
            return http_problem(error)
        if not isinstance(error, OrchestratorError):
            log_fault(error)
            return http_problem(InternalServerError())
        if isinstance(error, Unauthenticated):
            self.strangers.seen()
            try:
                self.rates.admit_stranger(request)
            except RateLimited as limited:
                return problem(limited)
        return problem(error)
