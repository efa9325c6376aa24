"""The bytes of a call and of its answer: reading the first strictly, writing the second."""

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, cast

from orchestrator.domain.errors import InvalidJSON
from orchestrator.domain.strict_json import decode
from orchestrator.workers.task import Task

ID = re.compile(r"[A-Za-z0-9._:\-]{1,200}")


class BadCall(Exception):
    """The call breaks the contract; the message says where, without quoting it."""


def read_call(headers: Mapping[str, str], body: bytes) -> Task:
    """The task in a call. Raises BadCall. X-Attempt is 1 if absent; without X-Deadline the task has none."""
    try:
        value = decode(body)
    except InvalidJSON as error:
        raise BadCall(str(error)) from None
    if not isinstance(value, dict):
        raise BadCall("The body is not a JSON object.")
    call = cast("dict[str, Any]", value)
    task_id = _text(call, "request_id")
    if not ID.fullmatch(task_id):
        raise BadCall("request_id: letters, digits and . _ : - only.")
    if headers.get("Idempotency-Key", task_id) != task_id:
        raise BadCall("Idempotency-Key and request_id differ.")
    return Task(
        task_id=task_id,
        case_id=_text(call, "case_id"),
        task_type=_text(call, "task_type", default=""),
        payload=_mapping(call, "payload"),
        meta=_mapping(call, "meta", optional=True),
        attempt=_attempt(headers.get("X-Attempt", "1")),
        deadline=_deadline(headers.get("X-Deadline")),
    )


def success(output: Mapping[str, Any], model_version: str | None) -> bytes:
    """The answer to a call that went well. Raises TypeError or ValueError for what JSON cannot say."""
    answer: dict[str, Any] = {"success": True, "output": output}
    if model_version is not None:
        answer["model_version"] = model_version
    return json.dumps(answer, allow_nan=False).encode()


def failure(message: str, *, retryable: bool) -> bytes:
    """The answer to a call that failed."""
    return json.dumps({"success": False, "error": {"message": message, "retryable": retryable}}).encode()


def _text(call: dict[str, Any], name: str, default: str | None = None) -> str:
    value = call.get(name, default)
    if not isinstance(value, str) or len(value) > 200:
        raise BadCall(f"{name}: a string of up to 200 characters is needed.")
    return value


def _mapping(call: dict[str, Any], name: str, *, optional: bool = False) -> dict[str, Any]:
    value = call.get(name)
    if optional and value is None:
        return {}
    if not isinstance(value, dict):
        raise BadCall(f"{name}: an object is needed.")
    return cast("dict[str, Any]", value)


def _attempt(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise BadCall("X-Attempt: a whole number from 1 is needed.")
    return int(text)


def _deadline(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        deadline = float(text)
    except ValueError:
        raise BadCall("X-Deadline: seconds since the epoch are needed.") from None
    if not isfinite(deadline):
        raise BadCall("X-Deadline: seconds since the epoch are needed.")
    return deadline
