"""Many tasks in one request: each is answered for itself, all are stored with one commit."""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any

import anyio.lowlevel
from msgspec import UNSET, Struct, UnsetType, ValidationError, convert
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from orchestrator.actors.messages import Routed
from orchestrator.domain.discretion import discreet
from orchestrator.domain.errors import InvalidRequest, OrchestratorError, RateLimited
from orchestrator.domain.strict_json import decode_together, plain
from orchestrator.domain.task import PlainRequest, TaskRequest
from orchestrator.web import wire
from orchestrator.web.asked import DirectRequest
from orchestrator.web.bodies import Gate
from orchestrator.web.context import Context
from orchestrator.web.direct import Handler
from orchestrator.web.problems import fields_of
from orchestrator.web.told import Told, told_json

SHARE = 32
"""Tasks that are decoded at once before others get their turn."""

Refusal = OrchestratorError | HTTPException


class Outcome(Struct, frozen=True):
    """What became of one task: what a call of its own would have been answered."""

    status: int
    body: Any
    retry_after: int | UnsetType = UNSET

    __repr__ = discreet


def accepting(context: Context) -> Handler:
    """`POST /route_tasks`, which is served directly."""
    bounds, streams, most = context.bounds, context.settings.streams(), context.settings.web.max_body_bytes
    gate = Gate(context.settings.web.max_batches)

    async def route_tasks(asked: DirectRequest) -> Told:
        async with gate.turn():
            return await read_and_routed(asked)

    async def read_and_routed(asked: DirectRequest) -> Told:
        if asked.headers.getlist("Idempotency-Key"):
            raise InvalidRequest("idempotency_key: each task of a batch has its own.")
        texts, read = await wire.read_batch(asked), list[TaskRequest | Refusal]()
        for begin in range(0, len(texts), SHARE):
            share = texts[begin : begin + SHARE]
            read += [admitted(asked, verdict) for verdict in verdicts(share)]
            await anyio.lowlevel.checkpoint()
        good = [item for item in read if isinstance(item, TaskRequest)]
        routed = iter(await context.gateway_for(asked).route_all(good) if good else [])
        outcomes = [outcome(next(routed) if isinstance(item, TaskRequest) else item) for item in read]
        return told_json({"outcomes": outcomes}, 207)

    def verdicts(share: Sequence[bytes]) -> Iterable[TaskRequest | Refusal]:
        """What the texts ask for, or what is wrong with them."""
        values = decode_together(share, bounds) if max(map(len, share)) <= most else None
        try:
            kind = PlainRequest if plain(b"".join(share)) else TaskRequest
            together = None if values is None else convert(values, list[kind])
        except ValidationError:
            together = None
        return map(verdict, share) if together is None else together

    def verdict(text: bytes) -> TaskRequest | Refusal:
        if len(text) > most:
            return RequestEntityTooLarge()
        try:
            return wire.task_of(text, bounds)
        except OrchestratorError as error:
            return error

    def admitted(asked: DirectRequest, verdict: TaskRequest | Refusal) -> TaskRequest | Refusal:
        try:
            if isinstance(verdict, TaskRequest):
                context.rates.admit_task(asked, verdict)
        except RateLimited as error:
            return error
        return verdict

    def outcome(verdict: Routed | Refusal) -> Outcome:
        if isinstance(verdict, Routed):
            return Outcome(*wire.routed(verdict, streams[verdict.record.task.priority]))
        status, problem = fields_of(verdict)
        wait = None if isinstance(verdict, HTTPException) else verdict.retry_after
        return Outcome(status, problem, UNSET if wait is None else ceil(wait))

    return route_tasks
