"""Which right each call needs. What is not in this table is nobody's to call."""

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, cast

from quart import Request, request

from orchestrator.domain.errors import Forbidden, Overloaded
from orchestrator.domain.identity import NOBODY, Principal, Scope
from orchestrator.web.asked import Asked
from orchestrator.web.identity.certificates import LEAVING

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
    "GET /queues": Scope.AGENTS_READ,
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


class Known(Enum):
    """Whoever is signed in may see it: it shows of each thing what its reader has the right to."""

    SIGNED_IN = "signed in"


PAGES: Mapping[str, Scope | Known | None] = {
    "GET /": Known.SIGNED_IN,
    "GET /ui/live": Known.SIGNED_IN,
    "GET /ui/agents/<agent_id>/drain": Scope.AGENTS_REGISTER,
    "POST /ui/agents/<agent_id>/drain": Scope.AGENTS_REGISTER,
    "GET /ui/agents/<agent_id>/allow": Scope.OPERATE,
    "POST /ui/agents/<agent_id>/allow": Scope.OPERATE,
    "GET /ui/tasks": Scope.TASKS_READ,
    "POST /ui/tasks": Scope.TASKS_READ,
    "GET /ui/tasks/live": Scope.TASKS_READ,
    "GET /ui/task/<task_id>": Scope.TASKS_READ,
    "GET /ui/task/<task_id>/live": Scope.TASKS_READ,
    "GET /ui/task/<task_id>/result": Scope.TASKS_READ,
    "GET /ui/task/<task_id>/cancel": Scope.TASKS_CANCEL,
    "POST /ui/task/<task_id>/cancel": Scope.TASKS_CANCEL,
    "GET /ui/task/<task_id>/replay": Scope.DLQ_REPLAY,
    "POST /ui/task/<task_id>/replay": Scope.DLQ_REPLAY,
    "GET /ui/send": Scope.TASKS_SUBMIT,
    "POST /ui/send": Scope.TASKS_SUBMIT,
    "GET /ui/audit": Scope.AUDIT_READ,
    "POST /ui/audit": Scope.AUDIT_READ,
    "GET /ui/audit/verify": Scope.AUDIT_READ,
    "GET /ui/audit/verification": Scope.AUDIT_READ,
    "GET /ui/sign-in": OPEN,
    "POST /ui/sign-in": OPEN,
    "POST /ui/sign-out": OPEN,
    "GET /ui/static/<name>": OPEN,
}
"""The same for the operator's page, whose readers are known by their sessions, and by nothing else."""

_PRINCIPAL = "orchestrator.principal"
_AGAIN = "orchestrator.admitted_again"


Authenticate = Callable[[Asked], Awaitable[Principal]]


async def authorise(request: Asked, call: str, authenticate: Authenticate, by_session: Authenticate) -> None:
    """Finds out who sent the request, and whether he may make that call. Raises an OrchestratorError.

    A session opens pages alone, so that no other site can have a browser make calls with it.
    """
    table, who = (PAGES, by_session) if call in PAGES else (RIGHTS, authenticate)
    if call not in table:
        raise Forbidden("This call is not open to anybody.")
    state: Any = request.scope
    scope, principal = table[call], NOBODY
    if scope is not None:
        principal = _having(scope, await who(request))
        state[_AGAIN] = who, scope
    state[_PRINCIPAL] = principal


def call_of(asked: Request) -> str | None:
    """The call, as the tables have it; None where there is no such page, or only its methods are asked for."""
    if asked.url_rule is None or asked.method == "OPTIONS":
        return None
    return f"{'GET' if asked.method == 'HEAD' else asked.method} {asked.url_rule.rule}"


def principal_of(asked: Asked) -> Principal:
    """Who sent that request."""
    scope: Any = asked.scope
    return scope.get(_PRINCIPAL, NOBODY)


def _having(scope: Scope | Known, principal: Principal) -> Principal:
    if isinstance(scope, Scope) and scope not in principal.scopes:
        raise Forbidden(f"The scope {scope.value} is needed.")
    return principal


async def _still_admitted(who: Authenticate, scope: Scope | Known, sent: Asked) -> Principal:
    leaving = cast("Any", sent.scope).get("state", {}).get(LEAVING)
    if leaving is not None and leaving():
        raise Overloaded("The connection is to end; connect anew.", retry_after=1)
    return _having(scope, await who(sent))


def caller() -> Principal:
    """Who sent the request that the framework is serving."""
    return principal_of(request)


def asked_again() -> Callable[[], Awaitable[Principal]]:
    """Asks once more who sent the request that is served now, and whether he may: a key may be revoked meanwhile.

    For answers that take their time. Raises an OrchestratorError.
    """
    sent = cast("Any", request)._get_current_object()
    who, scope = sent.scope[_AGAIN]
    return partial(_still_admitted, who, scope, sent)
