"""What stands in the path, the query and the headers of calls."""

from typing import Any

_WHOLE = {"type": "integer", "minimum": 0, "maximum": 2**53}

QUERY: dict[str, tuple[str, dict[str, Any]]] = {
    "dry_run": ("Only say where it would go, and why.", {"type": "boolean", "default": False}),
    "wait": ("Seconds to wait for the task's end, at most 50.", {"type": "number", "minimum": 0, "maximum": 50}),
    "after": ("The `next` of the page before.", {**_WHOLE, "default": 0}),
    "limit": ("How many, at most.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
    "task_id": ("Of this task only.", {"type": "string"}),
    "case_id": ("Of this case only.", {"type": "string"}),
    "event": ("Of this event only, as entries name it.", {"type": "string"}),
    "since": ("Not before this instant (RFC 3339).", {"type": "string", "format": "date-time"}),
}

HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Idempotency-Key": ("In place of `idempotency_key`; both must agree.", {"type": "string"}),
    "Last-Event-ID": ("The last event that was seen: what came after it is told.", {"type": "string"}),
}


def in_path(name: str) -> dict[str, Any]:
    """A segment of the path."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def in_query(name: str) -> dict[str, Any]:
    """A parameter of the query."""
    return _parameter(name, "query", *QUERY[name])


def header(name: str) -> dict[str, Any]:
    """A header of the request."""
    return _parameter(name, "header", *HEADERS[name])


def _parameter(name: str, where: str, words: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": where, "required": False, "description": words, "schema": schema}


def header_of(words: str) -> dict[str, Any]:
    """A header of an answer."""
    return {"description": words, "schema": {"type": "string"}}
