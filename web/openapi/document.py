"""The OpenAPI document, made from the table of calls."""

import re
from functools import cache
from typing import Any

import msgspec

from orchestrator import __version__
from orchestrator.domain.task import TaskRequest
from orchestrator.web.openapi import problems
from orchestrator.web.openapi.calls import CALLS, Call, Text
from orchestrator.web.openapi.examples import EXAMPLES
from orchestrator.web.openapi.parameters import header, header_of, in_path, in_query
from orchestrator.web.rights import RIGHTS
from orchestrator.web.wire import JSON, MAX_BATCH, NDJSON

_REF = "#/components/schemas/{name}"

SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or a token with its scopes in the claim `scope`. Each call names the one it needs.",
    },
    "certificate": {
        "type": "mutualTLS",
        "description": "A client certificate whose name the settings give the scope that the call needs.",
    },
}

TAGS = {
    **dict.fromkeys(("route_task", "route_tasks", "task", "cases", "consents", "dlq"), "tasks"),
    **dict.fromkeys(("register_agent", "agents"), "agents"),
    "audit": "audit",
    "keys": "keys",
}
"""By the first word of their paths, calls that stand together."""

_SCOPES = {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", call): scope for call, scope in RIGHTS.items()}


@cache
def description() -> dict[str, Any]:
    """The OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for call in CALLS:
        paths.setdefault(call.path, {})[call.method] = _operation(call)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Routing Orchestrator", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**_schemas(), "Problem": problems.SCHEMA},
            "responses": problems.SHARED,
            "securitySchemes": SECURITY,
        },
    }


def _schemas() -> dict[str, Any]:
    told = [call.body for call in CALLS if call.body is not None]
    answered = [kind for call in CALLS for kinds in call.answers.values() for kind in kinds]
    kinds = [kind for kind in dict.fromkeys([*told, *answered]) if kind is not dict and not isinstance(kind, Text)]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REF)
    listed = schemas["Registration"]["properties"]["capabilities"]
    # By a form, or by the query, capabilities are separated by commas; JSON may do so too.
    schemas["Registration"]["properties"]["capabilities"] = {"oneOf": [listed, {"type": "string", "minLength": 1}]}
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].split())
    return dict(sorted(schemas.items()))


def _key(call: Call) -> str:
    return f"{call.method.upper()} {call.path}"


def _operation(call: Call) -> dict[str, Any]:
    names = [part[1:-1] for part in call.path.split("/") if part.startswith("{")]
    found: dict[str, Any] = {
        "operationId": "_".join([call.method, *re.findall(r"\w+", call.path)]),
        "summary": call.summary,
        "tags": [TAGS.get(call.path.split("/")[1], "operations")],
        "parameters": [*map(in_path, names), *map(in_query, call.query), *map(header, call.headers)],
        "responses": _responses(call),
    }
    scope = _SCOPES[_key(call)]
    if scope is not None:
        found["security"] = [{name: [scope.value]} for name in SECURITY]
    if call.body is not None:
        content = {kind: _told(call.body, kind) for kind in call.kinds}
        found["requestBody"] = {"content": content, "required": not call.optional}
    return found


def _told(body: Any, kind: str) -> dict[str, Any]:
    if body != list[TaskRequest]:
        return _shown(body)
    task = _shown(TaskRequest)
    if kind == NDJSON:
        lines = b"".join(msgspec.json.encode(task["example"]) + b"\n" for _ in range(2)).decode()
        return {"schema": {"type": "string", "description": "A TaskRequest a line."}, "example": lines}
    array = {"type": "array", "items": task["schema"], "minItems": 1, "maxItems": MAX_BATCH}
    return {"schema": array, "example": [task["example"]]}


def _responses(call: Call) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, kinds in call.answers.items():
        words = " ".join((kind.__doc__ or "") for kind in kinds if kind is not dict and not isinstance(kind, Text))
        found[str(status)] = {"description": " ".join(words.split()) or call.summary, "content": _answered(kinds)}
        if 202 in call.answers:
            found[str(status)]["headers"] = {"Location": header_of("Where the task is from now on.")}
    return problems.beside(found, problems.refusals(call, open_to_all=_SCOPES[_key(call)] is None))


def _answered(kinds: tuple[Any, ...]) -> dict[str, Any]:
    if isinstance(text := kinds[0], Text):
        shown = {"schema": {"type": "string"}} | ({"example": text.example} if text.example else {})
        return dict.fromkeys(text.kinds, shown)
    if len(kinds) == 1:
        return {JSON: _shown(kinds[0])}
    examples = {kind.__name__.lower(): {"value": EXAMPLES[kind]} for kind in kinds}
    return {JSON: {"schema": {"anyOf": [_shown(kind)["schema"] for kind in kinds]}, "examples": examples}}


def _shown(kind: Any) -> dict[str, Any]:
    if kind is dict:
        return {"schema": {"type": "object"}}
    return {"schema": {"$ref": _REF.format(name=kind.__name__)}, "example": EXAMPLES[kind]}
