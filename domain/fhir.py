"""Disclosures as HL7 FHIR R4 AuditEvents (https://hl7.org/fhir/R4/auditevent.html), in a Bundle of type collection."""

from collections.abc import Iterable
from typing import Any

from orchestrator.domain.disclosure import OPEN, Disclosure

_LIFECYCLE = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
_TYPES = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/extra-security-role-type"
_SYSTEM = {"system": _TYPES, "code": "2", "display": "System Object"}
_SUCCESS, _MINOR_FAILURE = "0", "4"


def bundle(found: Iterable[Disclosure], at: str) -> dict[str, Any]:
    """The Bundle, made at the instant `at` (RFC 3339)."""
    events = [{"resource": event(disclosure)} for disclosure in found]
    return {"resourceType": "Bundle", "type": "collection", "timestamp": at} | ({"entry": events} if events else {})


def event(found: Disclosure) -> dict[str, Any]:
    """The AuditEvent of one attempt."""
    failed = {} if found.succeeded else {"outcomeDesc": found.reason or found.outcome}
    ended = {} if found.ended_at is None else {"end": found.ended_at}
    return {
        "resourceType": "AuditEvent",
        "id": f"{found.task_id}-{found.attempt}",
        "type": {"system": _LIFECYCLE, "code": "disclose", "display": "Disclose Record Lifecycle Event"},
        "action": "E",
        "period": {"start": found.began_at, **ended},
        "recorded": found.began_at,
        "outcome": _SUCCESS if found.succeeded or found.outcome == OPEN else _MINOR_FAILURE,
        **failed,
        "agent": [_agent(found)],
        "source": {"observer": {"display": "Routing Orchestrator"}},
        "entity": [
            {"what": _named(found.case_id), "type": _SYSTEM, "name": "case"},
            {"what": _named(found.task_id), "type": _SYSTEM, "name": "task", "detail": _details(found)},
        ],
    }


def _agent(found: Disclosure) -> dict[str, Any]:
    where = {"location": {"display": found.location}} if found.location else {}
    role = {"system": _PARTICIPATION, "code": "dataprocessor", "display": "data processor"}
    return {"type": {"coding": [role]}, "who": _named(found.agent_id), "requestor": False, **where}


def _named(text: str) -> dict[str, Any]:
    return {"identifier": {"value": text}}


def _details(found: Disclosure) -> list[dict[str, str]]:
    known = {
        "attempt": str(found.attempt),
        "model_version": found.model_version,
        "consent_id": found.consent_id,
        "result_sha256": found.result_sha256,
        "audit_began": found.audit_began,
        "audit_ended": found.audit_ended,
    }
    return [{"type": name, "valueString": value} for name, value in known.items() if value]
