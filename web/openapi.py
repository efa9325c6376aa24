"""The description of the API (OpenAPI 3.1), made from the types that the routes convert to."""

import re
from functools import cache
from typing import Any

import msgspec

from orchestrator import __version__
from orchestrator.domain import errors
from orchestrator.domain.agent import Registration
from orchestrator.domain.task import TaskRequest
from orchestrator.web.problems import CONTENT_TYPE, HTTP_CODES, STATUS
from orchestrator.web.pulling import AgentResult, Ask, Word
from orchestrator.web.rights import RIGHTS
from orchestrator.web.wire import FORM, JSON, MAX_BATCH, NDJSON, Allow, Beat, NewKey

_REQUIRED = (TaskRequest, NewKey, AgentResult, Word)
_REF = "#/components/schemas/{name}"

_SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or a token with its scopes in the claim `scope`. Each call names the one it needs.",
    }
}

_SCOPES = {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", call): scope for call, scope in RIGHTS.items()}

Operation = tuple[str, str, str, Any, tuple[int, ...], tuple[str, ...]]
"""Method, path, summary, body, statuses of success, names of query parameters."""

OPERATIONS: tuple[Operation, ...] = (
    ("post", "/route_task", "Accept a task", TaskRequest, (200, 202), ("dry_run",)),
    ("post", "/route_tasks", "Accept up to 500 tasks with one commit", list[TaskRequest], (207,), ()),
    ("get", "/task/{task_id}", "A task's status, attempts and result", None, (200,), ("wait",)),
    ("get", "/task/{task_id}/events", "A task's changes as they happen (server-sent events)", None, (200,), ()),
    ("delete", "/task/{task_id}", "Cancel a task", None, (200,), ()),
    ("post", "/task/{task_id}/erase", "Destroy what a task holds", None, (200,), ()),
    ("post", "/cases/{case_id}/erase", "Destroy what all tasks of a case hold", None, (200,), ()),
    ("get", "/dlq", "Dead letters", None, (200,), ("after", "limit")),
    ("post", "/dlq/{task_id}/replay", "Make a new task of a dead one", None, (200, 202), ()),
    ("post", "/consents/{consent_id}/revoke", "End a consent for ever", None, (200,), ()),
    ("post", "/register_agent", "Register an agent", Registration, (200,), ()),
    ("get", "/agents", "All agents, with their health", None, (200,), ()),
    ("post", "/agents/{agent_id}/heartbeat", "An agent lives", Beat, (200,), ()),
    ("post", "/agents/{agent_id}/lease", "Take work, for agents that are not called", Ask, (200,), ()),
    ("post", "/task/{task_id}/result", "How an attempt that an agent leased ended", AgentResult, (200,), ()),
    ("post", "/task/{task_id}/extend", "An agent is still at it, and how far", Word, (200,), ()),
    ("post", "/agents/{agent_id}/allow", "Allow an agent to be what it is now", Allow, (200,), ()),
    ("post", "/agents/{agent_id}/drain", "Send an agent no more work", None, (200,), ()),
    ("delete", "/agents/{agent_id}", "Forget an agent", None, (200,), ()),
    ("get", "/audit", "Audit entries", None, (200,), ("task_id", "case_id", "since", "after", "limit")),
    ("get", "/keys", "All API keys, without their secrets", None, (200,), ()),
    ("post", "/keys", "Make an API key; its text is in this answer only", NewKey, (201,), ()),
    ("delete", "/keys/{key_id}", "Revoke an API key", None, (200,), ()),
    ("get", "/health", "Whether the process lives", None, (200,), ()),
    ("get", "/ready", "Whether to send work here", None, (200, 503), ()),
    ("get", "/metrics", "Metrics in Prometheus' text format", None, (200,), ()),
    ("get", "/openapi.json", "This document", None, (200,), ()),
    ("get", "/docs", "This document as a page", None, (200,), ()),
    ("get", "/docs/{name}", "A file of that page", None, (200,), ()),
)


@cache
def description() -> dict[str, Any]:
    """The OpenAPI document."""
    bodies = [TaskRequest, Registration, Beat, Allow, Ask, AgentResult, Word, NewKey]
    _, schemas = msgspec.json.schema_components(bodies, ref_template=_REF)
    listed = schemas["Registration"]["properties"]["capabilities"]
    schemas["Registration"]["properties"]["capabilities"] = {"oneOf": [listed, {"type": "string", "minLength": 1}]}
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        method, path = operation[:2]
        paths.setdefault(path, {})[method] = _operation(*operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Routing Orchestrator", "version": __version__},
        "paths": paths,
        "components": {"schemas": {**schemas, "Problem": _problem()}, "securitySchemes": _SECURITY},
    }


def _operation(
    method: str, path: str, summary: str, body: Any, statuses: tuple[int, ...], query: tuple[str, ...]
) -> dict[str, Any]:
    in_path = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    found: dict[str, Any] = {
        "operationId": "_".join([method, *re.findall(r"\w+", path)]),
        "summary": summary,
        "parameters": [_parameter(name, "path") for name in in_path] + [_parameter(name, "query") for name in query],
        "responses": {
            **{str(status): {"description": summary} for status in statuses},
            "default": {
                "description": "A problem (RFC 9457)",
                "content": {CONTENT_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}},
            },
        },
    }
    scope = _SCOPES[f"{method.upper()} {path}"]
    if scope is not None:
        found["security"] = [{"bearer": [scope.value]}]
    if body is not None:
        found["requestBody"] = _request_body(body)
    return found


def _request_body(body: Any) -> dict[str, Any]:
    if body == list[TaskRequest]:
        task = {"$ref": _REF.format(name="TaskRequest")}
        array = {"type": "array", "items": task, "minItems": 1, "maxItems": MAX_BATCH}
        return {"content": {JSON: {"schema": array}, NDJSON: {"schema": task}}, "required": True}
    # An agent registers by a form, or by the query, just as well: then its capabilities are separated by commas.
    kinds = (JSON, FORM) if body is Registration else (JSON,)
    schema = {"schema": {"$ref": _REF.format(name=body.__name__)}}
    return {"content": dict.fromkeys(kinds, schema), "required": body in _REQUIRED}


def _parameter(name: str, where: str) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": {"type": "string"}}


def _problem() -> dict[str, Any]:
    codes = sorted({error.code for error in STATUS} | {errors.OrchestratorError.code} | set(HTTP_CODES.values()))
    return {
        "type": "object",
        "required": ["code", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "code": {"type": "string", "examples": codes},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
    }
