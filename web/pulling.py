"""Agents that ask for work instead of being called: they lease tasks, say how far they are, and give results."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, field
from quart import Blueprint, Response, request

from orchestrator.actors.messages import Granted
from orchestrator.actors.pull_leases import Hold
from orchestrator.domain.agent import AgentId
from orchestrator.domain.audit import rfc3339
from orchestrator.domain.discretion import discreet
from orchestrator.domain.errors import InvalidRequest
from orchestrator.domain.task import Identifier
from orchestrator.outbound.ports import Declined, Succeeded
from orchestrator.web import wire
from orchestrator.web.context import Context, json_response

MOST = 100
Nonce = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$(?!\n)")]


class Ask(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a lease: up to `max` tasks, once there is one within `wait` seconds; or `task_id` alone, now."""

    most: Annotated[int, Meta(ge=1, le=MOST)] = field(default=1, name="max")
    wait: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    task_id: Identifier | None = None


class Failure(Struct, frozen=True, forbid_unknown_fields=True):
    """Why an agent failed. Its words are not kept."""

    message: str = ""
    retryable: bool = True

    __repr__ = discreet


class AgentResult(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a result: `output` if `success` is true, else `error`; `attempt` and `lease` as they were given."""

    agent_id: AgentId
    attempt: Annotated[int, Meta(ge=1, le=2**53)]
    lease: Nonce
    success: bool
    output: Any | UnsetType = UNSET
    error: Failure | None = None
    model_version: Annotated[str, Meta(max_length=200)] | None = None

    __repr__ = discreet

    @property
    def hold(self) -> Hold:
        return Hold(self.agent_id, self.attempt, self.lease)

    def ending(self) -> Succeeded | Declined:
        """How the attempt ended. Raises InvalidRequest for a success without output."""
        if not self.success:
            return Declined(self.error is None or self.error.retryable)
        if self.output is UNSET:
            raise InvalidRequest("output: Expected where success is true.")
        return Succeeded(self.output, self.model_version)


class Word(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an extension: still at it, `progress` from 0 to 1, and a note. Who was called has no `lease`."""

    agent_id: AgentId
    attempt: Annotated[int, Meta(ge=1, le=2**53)]
    lease: Nonce | None = None
    progress: Annotated[float, Meta(ge=0, le=1)] | None = None
    note: Annotated[str, Meta(max_length=200)] | None = None

    __repr__ = discreet

    @property
    def hold(self) -> Hold:
        return Hold(self.agent_id, self.attempt, self.lease or "")


def routes(context: Context) -> Blueprint:
    """`/agents/…/lease`, `/task/…/result` and `/task/…/extend`."""
    blueprint = Blueprint("pulling", __name__)
    bounds, longest = context.bounds, context.settings.web.max_wait_s

    @blueprint.post("/agents/<agent_id>/lease")
    async def lease(agent_id: str) -> Response:
        ask = wire.converted(await wire.read_optional(request, bounds), Ask)
        wait = min(ask.wait, longest)
        granted = await context.gateway.lease(agent_id, most=ask.most, wait_s=wait, task_id=ask.task_id)
        return json_response({"tasks": [_task(one, context) for one in granted]})

    @blueprint.post("/task/<task_id>/result")
    async def result(task_id: str) -> Response:
        given = wire.converted(await wire.read_json(request, bounds), AgentResult)
        record = await context.gateway.give_result(task_id, given.hold, given.ending())
        return json_response({"task_id": task_id, "status": record.progress.state.value})

    @blueprint.post("/task/<task_id>/extend")
    async def extend(task_id: str) -> Response:
        word = wire.converted(await wire.read_json(request, bounds), Word)
        extended = await context.gateway.extend(task_id, word.hold, done=word.progress, note=word.note)
        return json_response({"task_id": task_id, "attempt": word.attempt, **_time(extended.until, context)})

    return blueprint


def _task(granted: Granted, context: Context) -> dict[str, Any]:
    call = granted.call
    return {
        "task_id": call.task_id,
        "attempt": call.attempt,
        "lease": granted.hold.nonce,
        **_time(granted.until, context),
        "case_id": call.case_id,
        "task_type": call.task_type,
        "payload": call.payload,
        "meta": call.meta,
        "traceparent": call.traceparent,
        "deadline": rfc3339(granted.deadline),
    }


def _time(until: float, context: Context) -> dict[str, Any]:
    """The end of a lease as a time of day, and for agents whose clock is off as what is left of it."""
    return {"lease_until": rfc3339(until), "lease_s": round(max(0.0, until - context.system.now()), 3)}
