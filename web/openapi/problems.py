"""What calls are refused for (RFC 9457): those of a call beside its answers, and those that all calls share."""

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.domain import errors
from orchestrator.web.openapi.calls import Call, Errors
from orchestrator.web.openapi.parameters import header_of
from orchestrator.web.problems import CONTENT_TYPE, HTTP_CODES, STATUS, fields, http_fields

ANY: Errors = (
    errors.RateLimited,
    errors.Overloaded,
    errors.AuditUnavailable,
    errors.ShuttingDown,
    errors.OrchestratorError,
)
"""What any call may be refused for."""
OF_BODIES = (413, 415)

_REF = "#/components/responses/{}"
_HEADERS: Mapping[int, Mapping[str, Any]] = {
    401: {"WWW-Authenticate": header_of("How to say who asks.")},
    429: {"Retry-After": header_of("Seconds after which to come back.")},
    503: {"Retry-After": header_of("Seconds after which to come back.")},
}

SCHEMA = {
    "description": "Why a request is refused (RFC 9457). `code` is stable; `detail` never quotes what was sent.",
    "type": "object",
    "required": ["type", "code", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "code": {
            "type": "string",
            "enum": sorted({error.code for error in [*STATUS, errors.OrchestratorError]} | set(HTTP_CODES.values())),
        },
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}


def refusals(call: Call, *, open_to_all: bool) -> dict[int, list[type[errors.OrchestratorError]]]:
    """By status, what the call may be refused for."""
    known = [*call.refuses, *ANY]
    known += [] if open_to_all else [errors.Unauthenticated, errors.Forbidden]
    known += [errors.NotFound] if "{" in call.path else []
    known += [] if call.body is None else [errors.InvalidJSON]
    known += [errors.InvalidRequest] if call.body is not None or call.query or call.headers or "{" in call.path else []
    found: dict[int, list[type[errors.OrchestratorError]]] = {}
    for error in dict.fromkeys(known):
        found.setdefault(STATUS.get(error, 500), []).append(error)
    return found | ({} if call.body is None else {status: [] for status in OF_BODIES})


def beside(answers: dict[str, Any], refused: Mapping[int, list[type[errors.OrchestratorError]]]) -> dict[str, Any]:
    """The answers, and beside them what is refused; a status that may be either has the content of both."""
    for status, found in sorted(refused.items()):
        name = str(status)
        if name in answers:
            answers[name]["content"] |= _response(status, found)["content"]
        else:
            shared = name in SHARED and (not found or found == _SHARED[status])
            answers[name] = {"$ref": _REF.format(name)} if shared else _response(status, found)
    return answers | {"default": {"$ref": _REF.format("default")}}


def _response(status: int, found: Iterable[type[errors.OrchestratorError]]) -> dict[str, Any]:
    told = {error.code: " ".join((error.__doc__ or "").split()) for error in found}
    if errors.OrchestratorError.code in told:
        # Its docstring is about the class.
        told[errors.OrchestratorError.code] = f"{errors.OrchestratorError.title}."
    http = http_fields(status)
    first = next(iter(found), None)
    example = http if first is None else fields(status, first.code, first.title, f"{first.title}.")
    codes = sorted({*told, *({str(http["code"])} if status in HTTP_CODES else ())})
    words = "\n".join(f"- `{code}`: {why}" for code, why in told.items()) or str(http["detail"])
    answer: dict[str, Any] = {"description": words, "content": _content(codes, example)}
    return answer | ({"headers": _HEADERS[status]} if status in _HEADERS else {})


def _content(codes: list[str], example: Mapping[str, Any]) -> dict[str, Any]:
    problem = {"$ref": "#/components/schemas/Problem"}
    schema = {"allOf": [problem, {"properties": {"code": {"enum": codes}}}]}
    return {CONTENT_TYPE: {"schema": schema, "example": dict(example)}}


_SHARED: dict[int, list[type[errors.OrchestratorError]]] = {
    401: [errors.Unauthenticated],
    **{status: [] for status in OF_BODIES},
    429: [errors.RateLimited],
    500: [errors.OrchestratorError],
    503: [errors.Overloaded, errors.AuditUnavailable, errors.ShuttingDown],
}

SHARED: dict[str, Any] = {
    **{str(status): _response(status, found) for status, found in _SHARED.items()},
    "default": {
        "description": "What HTTP itself refuses.",
        "content": _content(sorted(set(HTTP_CODES.values())), http_fields(405)),
    },
}
