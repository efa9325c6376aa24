"""From audit entries to the story of a task: pure functions."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from orchestrator.domain.audit import AuditEntry
from orchestrator.domain.decision import Candidate, Decision, Exclusion
from orchestrator.domain.lifecycle import State, Step

MOST_STEPS = 200

TONES = {
    State.QUEUED: "quiet", State.LEASED: "warn", State.RETRY_WAIT: "warn", State.SUCCEEDED: "good", State.DEAD: "bad",
    State.CANCELLED: "quiet", State.EXPIRED: "bad", State.DENIED: "bad",
}  # fmt: skip
_STEPS = {
    Step.SUCCEED.value: "good", Step.RETRY.value: "warn", Step.GIVE_UP.value: "bad", Step.LOSE.value: "warn",
    Step.EXPIRE.value: "bad", Step.DENY.value: "bad",
}  # fmt: skip
_WHY = {
    Exclusion.CAPABILITY: "cannot do this type of task",
    Exclusion.CONSENT: "takes raw media, for which there is no consent",
    Exclusion.RAW_MEDIA: "has no right to raw media, which the task is about",
    Exclusion.QUARANTINED: "is quarantined",
    Exclusion.STALE: "was not heard of",
    Exclusion.EJECTED: "was ejected after failures",
    Exclusion.PAUSED: "asked to be left alone",
    Exclusion.DRAINING: "gets no more work",
    Exclusion.SITE: "stands at another site",
    Exclusion.CAPACITY: "had no free slot",
}


class Judged(Struct, frozen=True):
    """A candidate of a decision: its place in the ranking, or why it has none."""

    agent_id: str
    tone: str
    verdict: str
    details: list[str]
    score: float | None


class Told(Struct, frozen=True):
    """A step of the story, so many seconds after the one before it."""

    at: str
    after: float | None
    event: str
    tone: str
    status: str | None
    attempt: int | None
    agent_id: str | None
    reason: str | None
    principal: str | None
    refused: bool
    judged: list[Judged] | None


def story(entries: Sequence[AuditEntry], *, decisions: bool) -> list[Told]:
    """The newest MOST_STEPS steps, the oldest of them first; what was decided and for whom only with `decisions`."""
    told: list[Told] = []
    before: datetime | None = None
    for entry in entries:
        at = datetime.fromisoformat(entry.created_at)
        told.append(_told(entry, None if before is None else (at - before).total_seconds(), decisions=decisions))
        before = at
    return told[-MOST_STEPS:]


def begins(entries: Iterable[AuditEntry]) -> bool:
    """Whether the story is there from its beginning on; else that was removed from the audit."""
    return any(entry.event == "accepted" for entry in entries)


def _told(entry: AuditEntry, after: float | None, *, decisions: bool) -> Told:
    decision = decision_of(entry) if decisions else None
    return Told(
        at=entry.created_at,
        after=after,
        event=entry.event,
        tone=_STEPS.get(entry.event, "quiet"),
        status=entry.status,
        attempt=entry.attempt,
        agent_id=entry.agent_id,
        reason=entry.reason,
        principal=entry.principal if decisions else None,
        refused=decision is not None and decision.refused,
        judged=None if decision is None else judged(decision),
    )


def decision_of(entry: AuditEntry) -> Decision | None:
    """The decision in an entry, where there is one that can be read."""
    try:
        return msgspec.json.decode(entry.router_decision or "", type=Decision)
    except (msgspec.DecodeError, UnicodeError):
        return None


def judged(decision: Decision) -> list[Judged]:
    """The candidates: those of the ranking in its order, those kept beside it, those left out."""
    places = {agent_id: place for place, agent_id in enumerate(decision.ranking)}
    last = len(places)
    ordered = sorted(
        decision.candidates, key=lambda c: (c.excluded is not None, places.get(c.agent_id, last), c.agent_id)
    )
    return [_judged(candidate, places.get(candidate.agent_id)) for candidate in ordered]


def _judged(candidate: Candidate, place: int | None) -> Judged:
    flags = {"edge": candidate.edge, "pulls": candidate.pulls, "not heard of yet": candidate.unknown}
    flags["failed this task before"] = candidate.avoided
    if candidate.excluded is not None:
        tone, verdict = "quiet", f"left out: {_WHY[candidate.excluded]}"
    elif place == 0:
        tone, verdict = "good", "chosen"
    elif place is None:
        tone, verdict = "warn", "kept; gets it if it asks before another is called"
    else:
        tone, verdict = "warn", f"choice {place + 1}"
    return Judged(candidate.agent_id, tone, verdict, [flag for flag, holds in flags.items() if holds], candidate.score)
