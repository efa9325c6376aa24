"""Where a case's data went: every attempt that gave it to an agent, read from the audit's entries."""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.domain.audit import AuditEntry
from orchestrator.domain.lifecycle import State, Step

_BEGINS = frozenset({Step.LEASE.value, Step.MOVE.value})
_canonical = msgspec.json.Encoder(order="sorted").encode
_GOES_ON = frozenset({Step.EXTEND.value})
OPEN = "open"
"""The outcome of an attempt whose end is not in the audit (yet)."""


class Disclosure(Struct, frozen=True, kw_only=True):
    """One attempt: whom the data was given to, where that agent said it stands and what with, and what came of it.

    `model_version` is the one that its answer names; without one there, the one that it was registered with.
    `outcome` is the event that ended it; `reason` why, where it failed. `result_sha256` is over the result as
    compact JSON with sorted keys.
    `audit_began` and `audit_ended` name the entries that say so.
    """

    case_id: str
    task_id: str
    attempt: int
    agent_id: str
    location: str | None
    model_version: str | None = None
    consent_id: str | None
    began_at: str
    ended_at: str | None = None
    outcome: str = OPEN
    reason: str | None = None
    result_sha256: str | None = None
    audit_began: str
    audit_ended: str | None = None

    @property
    def succeeded(self) -> bool:
        return self.outcome == Step.SUCCEED.value


def result_detail(output: Any) -> str | None:
    """What the audit says of a result: a hash of its JSON. None for what is no JSON, which no ledger stores either."""
    try:
        digest = sha256(_canonical(output)).hexdigest()
    except (OverflowError, RecursionError, TypeError, ValueError):
        return None
    return f'{{"result_sha256":"{digest}"}}'


def disclosures(entries: Iterable[AuditEntry]) -> Iterator[Disclosure]:
    """The attempts of a case in the order of their beginning, from its entries in the order of their writing."""
    found: list[Disclosure] = []
    running: dict[str, int] = {}
    for entry in entries:
        if entry.task_id is None or entry.status is None or entry.event in _GOES_ON:
            continue
        if entry.task_id in running:
            place = running.pop(entry.task_id)
            found[place] = _ended(found[place], entry)
        if _begins(entry):
            running[entry.task_id] = len(found)
            found.append(_begun(entry, entry.task_id))
    return iter(found)


def _begins(entry: AuditEntry) -> bool:
    # A synchronous task is accepted and leased in one entry.
    return entry.event in _BEGINS or (entry.event == "accepted" and entry.status == State.LEASED.value)


def _begun(entry: AuditEntry, task_id: str) -> Disclosure:
    agent_id = entry.agent_id or ""
    chosen = _candidate(entry.router_decision, agent_id)
    return Disclosure(
        case_id=entry.case_id or "",
        task_id=task_id,
        attempt=entry.attempt or 0,
        agent_id=agent_id,
        location=chosen.get("location"),
        model_version=chosen.get("model_version"),
        consent_id=entry.consent_id,
        began_at=entry.created_at,
        audit_began=entry.audit_id,
    )


def _ended(begun: Disclosure, entry: AuditEntry) -> Disclosure:
    return replace(
        begun,
        model_version=entry.model_version or begun.model_version,
        ended_at=entry.created_at,
        outcome=entry.event,
        reason=entry.reason,
        result_sha256=_object(entry.detail).get("result_sha256"),
        audit_ended=entry.audit_id,
    )


def _candidate(decision: str | None, agent_id: str) -> dict[str, Any]:
    """What the decision says of the agent."""
    candidates = cast("list[dict[str, Any]]", _object(decision).get("candidates", []))
    nothing: dict[str, Any] = {}
    return next((one for one in candidates if one.get("agent_id") == agent_id), nothing)


def _object(text: str | None) -> dict[str, Any]:
    """What is no JSON object, in a trail that was tampered with, says nothing."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except msgspec.DecodeError:
        return {}
