"""JSON to the domain and back. Refusals name the field and the rule, and never quote what was sent."""

import re
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from quart import Request
from werkzeug.exceptions import UnsupportedMediaType

from orchestrator.actors.feed import Headway
from orchestrator.actors.messages import Answer, Routed
from orchestrator.domain.agent import Agent, AgentView, Registration
from orchestrator.domain.audit import AuditEntry, Head, rfc3339
from orchestrator.domain.decision import Decision
from orchestrator.domain.endpoint import read_endpoint
from orchestrator.domain.errors import InvalidJSON, InvalidRequest
from orchestrator.domain.health import Availability
from orchestrator.domain.identity import Scope, Subject
from orchestrator.domain.lifecycle import State
from orchestrator.domain.strict_json import Bounds, decode, plain
from orchestrator.domain.task import Consent, Identifier, Override, PlainRequest, TaskRequest
from orchestrator.storage.commands import Erased, Revoked, TaskRecord
from orchestrator.web.asked import Asked, DirectRequest, media_type

T = TypeVar("T")

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
NDJSON = "application/x-ndjson"
MAX_BATCH = 500
MAX_FIELDS = 64
_UTF8 = frozenset({"utf-8", "utf8"})


class Beat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a heartbeat; `load` is how busy the agent says it is, from 0 to 1."""

    load: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


class Allow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator grants an agent beyond what it does: the right to be given raw media."""

    raw_media: bool = False


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The API key that an operator asks for: whose it is, and what it opens."""

    subject: Subject
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1, max_length=len(Scope))]


_OURS = (TaskRequest, Consent, Override, Registration, NewKey)
_NAMES = frozenset(name for kind in _OURS for name in kind.__struct_fields__) | {
    "load", "max", "wait", "task_id", "attempt", "lease", "success", "output", "error", "message", "retryable",
    "progress", "note",
}  # fmt: skip
"""Names of fields that clients send: these may stand in what we say of them."""


async def read_json(request: Request, bounds: Bounds) -> Any:
    """The body as a strictly decoded JSON value. Raises 415, 413, 408 or InvalidJSON."""
    _check_media_type(request, JSON)
    return decode(await _body(request), bounds)


async def read_task(request: DirectRequest, bounds: Bounds) -> TaskRequest:
    """The task that body and headers ask for. Raises as `read_json` does, or InvalidRequest."""
    _check_media_type(request, JSON)
    return task_of(await request.get_data(), bounds, request.headers.getlist("Idempotency-Key"))


async def read_optional(request: Request, bounds: Bounds) -> dict[str, Any]:
    """The object of a JSON body; empty where there is no body."""
    body = await _body(request)
    if not body:
        return {}
    _check_media_type(request, JSON)
    return as_object(decode(body, bounds))


async def read_fields(request: Request, bounds: Bounds) -> tuple[dict[str, Any], bool]:
    """An object from a JSON body, a form, or the query when there is no body; and whether its values are all text."""
    body = await _body(request)
    if not body:
        # Whatever type is declared: some clients declare one for nothing.
        return _pairs(request.query_string), True
    if request.mimetype == FORM:
        return _pairs(body), True
    _check_media_type(request, JSON)
    return as_object(decode(body, bounds)), False


async def read_batch(request: DirectRequest) -> list[bytes]:
    """The JSON texts of a batch, not decoded yet: the lines of NDJSON, or the elements of an array."""
    body = await request.get_data()
    _check_media_type(request, JSON, NDJSON)
    texts = [line for line in body.split(b"\n") if line.strip()] if request.mimetype == NDJSON else _elements(body)
    if not 0 < len(texts) <= MAX_BATCH:
        raise InvalidRequest(f"A batch holds from 1 to {MAX_BATCH} tasks.")
    return texts


def _elements(body: bytes) -> list[bytes]:
    """The elements of a JSON array, each as it is written."""
    try:
        return [bytes(element) for element in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except msgspec.ValidationError:
        raise InvalidRequest("The body must be a JSON array of tasks.") from None
    except (msgspec.DecodeError, RecursionError):
        raise InvalidJSON("The body is not a JSON array.") from None


def _body(request: Request) -> Awaitable[bytes]:
    return request.get_data(cache=False, as_text=False, parse_form_data=False)


def _check_media_type(request: Asked, *wanted: str) -> None:
    said = request.headers.get("Content-Type", ""), request.headers.get("Content-Encoding", "identity")
    if not _is_readable(*said, wanted):
        raise UnsupportedMediaType


@lru_cache(maxsize=64)
def _is_readable(content_type: str, encoding: str, wanted: tuple[str, ...]) -> bool:
    """Whether a body of that type, so encoded, is text of one of the media types that are `wanted`."""
    named, parameters = media_type(content_type)
    charset = parameters.get("charset", "utf-8").lower()
    return named in wanted and charset in _UTF8 and encoding.lower() == "identity"


def _pairs(text: bytes) -> dict[str, Any]:
    """URL-encoded pairs (WHATWG URL Standard), each name at most once."""
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise InvalidRequest("The fields are not properly encoded.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidRequest("A field is given twice.")
    if any("\0" in text for pair in pairs for text in pair):
        raise InvalidRequest("A field holds a NUL character.")
    return cast("dict[str, Any]", fields)


def as_object(value: Any) -> dict[str, Any]:
    """`value` if it is an object; raises InvalidRequest otherwise."""
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return cast("dict[str, Any]", value)


def converted(value: Any, kind: type[T], *, lax: bool = False) -> T:
    """`value` as a `kind`; raises InvalidRequest. `lax` reads numbers from text, as forms need."""
    try:
        return msgspec.convert(value, kind, strict=not lax)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_explained(str(error))) from None


def _explained(message: str) -> str:
    """msgspec's message, without what it may quote: values, unknown names, and paths that are not made of ours."""
    if message.startswith("Object contains unknown field"):
        what = "The object contains an unknown field"
    elif message.startswith("Invalid enum value"):
        what = "Invalid enum value"
    else:
        what = re.sub(r"matching regex .*", "of the form in /openapi.json", message.partition(" - at ")[0])
    path = re.search(r" - at `\$\.?([a-z_.\[\]]*)`$", message)
    field = path[1] if path else ""
    known = field and all(name in _NAMES for name in re.split(r"[.\[\]]+", field) if name)
    return f"{field}: {what}." if known else f"{what}."


def task_of(text: bytes, bounds: Bounds, header_keys: Sequence[str] = ()) -> TaskRequest:
    """The task that a JSON text asks for. Raises InvalidJSON or InvalidRequest."""
    value = decode(text, bounds)
    if plain(text) and not header_keys:
        return converted(as_object(value), PlainRequest)
    return task_request(value, header_keys)


def task_request(value: Any, header_keys: Sequence[str]) -> TaskRequest:
    """The task that a body asks for; the header `Idempotency-Key` counts as its key, and must agree with it."""
    fields = as_object(value)
    if header_keys:
        key = header_keys[0].strip().removeprefix('"').removesuffix('"')
        if len(header_keys) > 1 or fields.get("idempotency_key", key) != key:
            raise InvalidRequest("idempotency_key: the body and the Idempotency-Key header differ.")
        fields = {**fields, "idempotency_key": key}
    return converted(fields, TaskRequest)


def agent(fields: Mapping[str, Any], *, lax: bool) -> Agent:
    """The agent that registers; `capabilities` may be a list or a comma-separated string."""
    capabilities = fields.get("capabilities")
    if isinstance(capabilities, str):
        split = [part.strip() for part in capabilities.split(",") if part.strip()]
        fields = {**fields, "capabilities": split}
    known = Agent(**msgspec.structs.asdict(converted(dict(fields), Registration, lax=lax)))
    if known.endpoint is None:
        return known
    return msgspec.structs.replace(known, endpoint=read_endpoint(known.endpoint).url)


def query(request: Asked, name: str) -> str | None:
    """A parameter of the query, at most once; None where it is absent."""
    values = request.args.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(f"{name}: Expected once.")
    return values[0] if values else None


def flag(text: str | None, name: str) -> bool:
    """Yes or no from the query; no where it is absent. What could mean either is refused."""
    if text is None:
        return False
    if text.lower() not in ("true", "1", "false", "0"):
        raise InvalidRequest(f"{name}: Expected true or false.")
    return text.lower() in ("true", "1")


def seconds(text: str | None, name: str, most: float) -> float:
    """A number of seconds from the query, cut to `most`; 0 where it is absent."""
    if text is None:
        return 0.0
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", text, re.ASCII):
        raise InvalidRequest(f"{name}: Expected a number of seconds.")
    return min(float(text), most)


def whole(text: str | None, name: str, default: int, least: int, most: int) -> int:
    """A whole number from the query, between `least` and `most`."""
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19 and least <= int(text) <= most):
        raise InvalidRequest(f"{name}: Expected a whole number from {least} to {most}.")
    return int(text)


def instant(text: str | None, name: str) -> str | None:
    """An instant from the query (RFC 3339, with its offset), in the form that the audit stores."""
    if text is None:
        return None
    try:
        # A plus sign that was not escaped arrives as a space.
        moment = datetime.fromisoformat(text.strip().replace(" ", "+"))
        offset = moment.tzinfo is not None
        stored = rfc3339(moment.timestamp()) if offset else ""
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{name}: Expected an RFC 3339 instant.") from None
    if not offset:
        raise InvalidRequest(f"{name}: Expected an offset, such as Z.")
    return stored


class Queued(msgspec.Struct, frozen=True):
    """The body of the answer to a task that waits."""

    task_id: str
    status: State
    queue: str
    receipt: Head | None


def routed(answered: Routed, queue: str) -> tuple[int, Any]:
    """Status and body of the answer to an accepted task, which waits in `queue` if it has to; with its receipt."""
    record, receipt = answered.record, answered.receipt
    task_id, state, result = record.task.task_id, record.progress.state, record.result
    match answered.answer:
        case Answer.QUEUED:
            # A synchronous attempt may have ended the task for good; its sender should not wait for it.
            status = state if state.final else State.QUEUED
            return 202, Queued(task_id, status, queue, receipt)
        case Answer.COMPLETED_SYNC:
            output = result.output if result else None
            body = {"task_id": task_id, "status": answered.answer.value, "result": output}
            return 200, {**body, "agent_id": record.progress.agent_id, "receipt": receipt}
        case Answer.DUPLICATE:
            body = {"task_id": task_id, "status": answered.answer.value, "state": state.value, "queue": queue}
            found = {} if result is None else {"result": result.output, "agent_id": result.agent_id}
            return 200, body | found | removed(record) | {"receipt": receipt}


def is_identifier(text: str) -> bool:
    """Whether `text` may name a case or a consent."""
    try:
        msgspec.convert(text, Identifier)
    except msgspec.ValidationError:
        return False
    return True


def revoked(consent_id: str, outcome: Revoked) -> dict[str, Any]:
    """That a consent holds no more, and how many tasks were denied for it by this call."""
    denied = len(outcome.records)
    return {"consent_id": consent_id, "status": "revoked", "denied": denied, "receipt": outcome.receipt}


def erased(outcome: Erased) -> dict[str, Any]:
    """How many tasks were erased by this call, and the place of the last one's entry in the audit."""
    return {"status": "erased", "erased": len(outcome.records), "receipt": outcome.receipt}


def task_status(record: TaskRecord, headway: Headway | None = None) -> dict[str, Any]:
    """A task as its sender sees it, and how far its attempt is, if that is known; nothing of its payload."""
    task, progress, result = record.task, record.progress, record.result
    status: dict[str, Any] = {
        "task_id": task.task_id,
        "case_id": task.case_id,
        "task_type": task.task_type,
        "priority": task.priority.value,
        "status": progress.state.value,
        "attempts": progress.attempt,
        "failures": progress.failures,
        "agent_id": progress.agent_id,
        "reason": progress.reason,
        "created_at": rfc3339(task.created_at),
        "updated_at": rfc3339(record.updated_at),
        "deadline_at": rfc3339(task.deadline_at),
        "due_at": None if progress.due_at is None else rfc3339(progress.due_at),
        "replay_of": task.replay_of,
    }
    if headway is not None:
        status |= {"progress": headway.done, "progress_note": headway.note}
    if result is not None:
        status |= {"result": result.output, "model_version": result.model_version}
    return status | removed(record)


def removed(record: TaskRecord) -> dict[str, bool]:
    """That the task was erased, or that payload or result are not kept any more; nothing while all is there."""
    marks = {name: getattr(record, name) for name in ("erased", "payload_removed", "result_removed")}
    return {name: mark for name, mark in marks.items() if mark}


def progress(record: TaskRecord, headway: Headway | None) -> dict[str, Any]:
    """How far the task's present attempt is, as its agent tells."""
    known = {} if headway is None else {"progress": headway.done, "progress_note": headway.note}
    return {"attempt": record.progress.attempt, "agent_id": record.progress.agent_id, **known}


def transition(entry: AuditEntry) -> dict[str, Any]:
    """An audit entry as the sender of its task sees it happen."""
    shown = ("event", "status", "attempt", "agent_id", "model_version", "reason")
    return {"at": entry.created_at, **{name: getattr(entry, name) for name in shown}}


def decision(decided: Decision) -> dict[str, Any]:
    """A decision with every candidate, kept or left out, and why."""
    return {
        "agent_id": decided.agent_id,
        "refused": decided.refused,
        "ranking": decided.ranking,
        "candidates": decided.candidates,
    }


def agent_status(view: AgentView, now: float, ttl: float) -> dict[str, Any]:
    """An agent with its health at `now`, in monotonic seconds."""
    health = view.health
    availability = health.availability(now, ttl)
    until = health.ejected_until if availability is Availability.EJECTED else health.paused_until
    waits = availability in (Availability.EJECTED, Availability.PAUSED) and until is not None
    said = msgspec.structs.asdict(view.agent)
    quarantined, without = said.pop("quarantined"), said.pop("without_raw_media")
    del said["withheld"]
    return {
        **said,
        "raw_media": not without,
        "mode": "pull" if view.agent.pulls else "push",
        "state": "quarantined" if quarantined else availability.value,
        "back_in_s": round(max(0.0, until - now), 3) if waits and until is not None else None,
        "seen_ago_s": None if health.last_seen is None else round(now - health.last_seen, 3),
        "in_flight": view.in_flight,
        "failures": health.failures,
        "latency_s": None if health.latency is None else round(health.latency, 6),
    }


def audit_entry(entry: AuditEntry) -> dict[str, Any]:
    """An audit entry; what is JSON in it as JSON, byte for byte what the hash covers."""
    fields = msgspec.structs.asdict(entry)
    for name in ("router_decision", "detail"):
        if fields[name] is not None:
            fields[name] = msgspec.Raw(fields[name].encode("utf-8", "replace"))
    return fields
