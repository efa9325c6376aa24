"""Errors as RFC 9457 problem documents: the one place where a code meets an HTTP status."""

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil

import msgspec
from werkzeug.exceptions import HTTPException

from orchestrator.domain import errors
from orchestrator.web.told import Told

CONTENT_TYPE = "application/problem+json"

STATUS: Mapping[type[errors.OrchestratorError], int] = {
    errors.InvalidJSON: 400,
    errors.InvalidTaskType: 400,
    errors.Unauthenticated: 401,
    errors.ConsentRequired: 403,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.InProgress: 409,
    errors.AlreadyFinished: 409,
    errors.NotDead: 409,
    errors.StaleLease: 409,
    errors.NotPulling: 409,
    errors.DataErased: 410,
    errors.PayloadRemoved: 410,
    errors.InvalidRequest: 422,
    errors.KeyReused: 422,
    errors.RateLimited: 429,
    errors.Overloaded: 503,
    errors.AuditUnavailable: 503,
    errors.ShuttingDown: 503,
}

HTTP_CODES: Mapping[int, str] = {
    400: "E_BAD_REQUEST",
    404: "E_NOT_FOUND",
    405: "E_METHOD_NOT_ALLOWED",
    408: "E_REQUEST_TIMEOUT",
    413: "E_TOO_LARGE",
    414: "E_TARGET_TOO_LONG",
    415: "E_UNSUPPORTED_MEDIA_TYPE",
    421: "E_MISDIRECTED",
    429: "E_RATE_LIMITED",
    431: "E_HEADERS_TOO_LARGE",
    500: "E_INTERNAL",
    501: "E_NOT_IMPLEMENTED",
    503: "E_SHUTTING_DOWN",
    505: "E_HTTP_VERSION",
}
"""Codes of what HTTP itself refuses, before anything of ours is asked."""


def fields(status: int, code: str, title: str, detail: str) -> dict[str, str | int]:
    """The members of a problem."""
    return {"type": "about:blank", "code": code, "title": title, "status": status, "detail": detail}


def fields_of(error: errors.OrchestratorError | HTTPException) -> tuple[int, dict[str, str | int]]:
    """Status and members of an error. One of ours without a status is a fault of ours."""
    if isinstance(error, HTTPException):
        return (status := error.code or 500), http_fields(status)
    status = STATUS.get(type(error), 500)
    return status, fields(status, error.code, error.title, error.detail)


def problem(error: errors.OrchestratorError) -> Told:
    """The answer to an error of ours."""
    status, members = fields_of(error)
    headers = [("WWW-Authenticate", "Bearer")] if status == 401 else []
    if error.retry_after is not None:
        headers.append(("Retry-After", str(ceil(error.retry_after))))
    return Told(status, msgspec.json.encode(members), CONTENT_TYPE, tuple(headers))


def http_document(status: int, code: str | None = None) -> bytes:
    """The JSON of what HTTP refuses with `status`; its usual code, or another."""
    return msgspec.json.encode(http_fields(status, code))


def http_fields(status: int, code: str | None = None) -> dict[str, str | int]:
    """The members of what HTTP refuses with `status`; its usual code, or another."""
    title = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else "Error"
    return fields(status, code or HTTP_CODES.get(status, "E_BAD_REQUEST"), title, f"{title}.")


def http_problem(error: HTTPException) -> Told:
    """The answer to what Quart or Werkzeug refuses; headers such as Allow stay, the words are ours."""
    status = error.code or 500
    headers = [pair for pair in error.get_headers() if pair[0].lower() in ("allow", "retry-after")]
    return Told(status, http_document(status), CONTENT_TYPE, tuple(headers))
