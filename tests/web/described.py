"""Answers held to the description of the API: what it does not describe, nobody is to be answered."""

import json
import re
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from orchestrator.testing import Reply, Service
from orchestrator.web.openapi import CALLS, description
from orchestrator.web.problems import CONTENT_TYPE

FORMS = [(call, re.compile(re.sub(r"\{\w+\}", "(?:[^/]+)", call.path))) for call in CALLS]


class DescribedService(Service):
    """A service each of whose answers is looked up in the description."""

    async def ask(self, method: str, path: str, **options: Any) -> Reply:
        reply = await super().ask(method, path, **options)
        if (found := _operation(method, path)) is not None:
            flaws = flaws_of(found, reply.status, reply.headers.get("Content-Type", ""), reply.body)
            assert not flaws, (method, path, reply.status, flaws)
        return reply


def _operation(method: str, path: str) -> str | None:
    """The place in the description of what was asked, if it is there."""
    bare = path.partition("?")[0]
    for call, form in FORMS:
        if call.method == method.lower() and form.fullmatch(bare):
            return f"{call.method} {call.path}"
    return None


def flaws_of(operation: str, status: int, content_type: str, body: bytes) -> list[str]:
    """Where an answer is not as described."""
    method, _, path = operation.partition(" ")
    responses = description()["paths"][path][method]["responses"]
    described = _resolved(responses.get(str(status), responses["default"]))
    kind = content_type.partition(";")[0]
    if kind not in described["content"]:
        return [f"{status} with {kind} is not described"]
    if kind not in (CONTENT_TYPE, "application/json"):
        return []
    validator = _validator(operation, status, kind)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(json.loads(body))]


def _resolved(response: dict[str, Any]) -> dict[str, Any]:
    name = response.get("$ref", "").rpartition("/")[2]
    return description()["components"]["responses"][name] if name else response


@cache
def _validator(operation: str, status: int, kind: str) -> Draft202012Validator:
    method, _, path = operation.partition(" ")
    responses = description()["paths"][path][method]["responses"]
    schema = _resolved(responses.get(str(status), responses["default"]))["content"][kind]["schema"]
    return validator_of(schema, strict=True)


def validator_of(schema: dict[str, Any], *, strict: bool = False) -> Draft202012Validator:
    """Of a schema of the description. `strict`: fields that it does not name are flaws."""
    components = description()["components"]["schemas"]
    if strict:
        components = {name: _closed(component) for name, component in components.items()}
    return Draft202012Validator({**schema, "components": {"schemas": components}})


def _closed(component: dict[str, Any]) -> dict[str, Any]:
    return {**component, "additionalProperties": False} if "properties" in component else component
