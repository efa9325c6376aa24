"""Which right each call needs. What is not in this table is nobody's to call."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from quart import Request, request

from orchestrator.domain.errors import Forbidden
from orchestrator.domain.identity import NOBODY, Principal, Scope

OPEN = None
"""Nobody is asked who he is: what these calls say is for everybody, and they change nothing."""

RIGHTS: Mapping[str, Scope | None] = {
    "POST /route_task": Scope.TASKS_SUBMIT,
    "POST /route_tasks": Scope.TASKS_SUBMIT,
    "GET /task/<task_id>": Scope.TASKS_READ,
    "GET /task/<task_id>/events": Scope.TASKS_READ,
    "DELETE /task/<task_id>": Scope.TASKS_CANCEL,
    "POST /task/<task_id>/erase": Scope.OPERATE,
    "POST /cases/<path:case_id>/erase": Scope.OPERATE,
    "GET /dlq": Scope.TASKS_READ,
    "POST /dlq/<task_id>/replay": Scope.DLQ_REPLAY,
    "POST /register_agent": Scope.AGENTS_REGISTER,
    "GET /agents": Scope.AGENTS_READ,
    "POST /agents/<agent_id>/allow": Scope.OPERATE,
    "POST /agents/<agent_id>/heartbeat": Scope.AGENTS_REGISTER,
    "POST /agents/<agent_id>/drain": Scope.AGENTS_REGISTER,
    "POST /agents/<agent_id>/lease": Scope.AGENTS_REGISTER,
    "POST /task/<task_id>/result": Scope.AGENTS_REGISTER,
    "POST /task/<task_id>/extend": Scope.AGENTS_REGISTER,
    "DELETE /agents/<agent_id>": Scope.AGENTS_REGISTER,
    "GET /audit": Scope.AUDIT_READ,
    "POST /consents/<path:consent_id>/revoke": Scope.OPERATE,
    "GET /keys": Scope.OPERATE,
    "POST /keys": Scope.OPERATE,
    "DELETE /keys/<key_id>": Scope.OPERATE,
    "GET /health": OPEN,
    "GET /ready": OPEN,
    "GET /metrics": OPEN,
    "GET /openapi.json": OPEN,
    "GET /docs": OPEN,
    "GET /docs/<name>": OPEN,
}
"""By method and rule, as the application's URL map has them."""

_PRINCIPAL = "orchestrator.principal"


def guard(authenticate: Callable[[Request], Awaitable[Principal]]) -> Callable[[], Awaitable[None]]:
    """What is to run before each request: finds out who sent it, and whether he may. Raises an OrchestratorError."""

    async def check() -> None:
        if request.url_rule is None or request.method == "OPTIONS":
            # There is no such page, or only its methods are asked for: the framework answers.
            return
        call = f"{'GET' if request.method == 'HEAD' else request.method} {request.url_rule.rule}"
        if call not in RIGHTS:
            raise Forbidden("This call is not open to anybody.")
        scope, principal = RIGHTS[call], NOBODY
        if scope is not None:
            principal = await authenticate(request)
            if scope not in principal.scopes:
                raise Forbidden(f"The scope {scope.value} is needed.")
        _state()[_PRINCIPAL] = principal

    return check


def caller() -> Principal:
    """Who sent the request that is being served."""
    return _state().get(_PRINCIPAL, NOBODY)


def _state() -> dict[str, Any]:
    return cast("dict[str, Any]", request.scope)
