"""A task: what a client asks for, what is accepted, and the part of it that routing looks at."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace

from orchestrator.domain.discretion import discreet

Identifier = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)")]
"""An identifier from outside: 1 to 200 characters, none of them a control character.

Python's `$` matches before a last newline as well; the pattern's end excludes that, and means the same in JSON Schema.
"""

_Plain = Annotated[str, Meta(min_length=1, max_length=200)]

Instant = Annotated[datetime, Meta(tz=True)]
"""A point in time with its offset (RFC 3339)."""

MAX_DEADLINE_S = 30 * 86_400.0


class Priority(StrEnum):
    """The four classes, most pressing first."""

    URGENT = "urgent"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Override(Struct, frozen=True, forbid_unknown_fields=True):
    """Who breaks the glass, and why: an emergency does not wait for consent. Both stand in the audit."""

    reason: Identifier
    requested_by: Identifier


class Consent(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the patient or a guardian allowed. Only the JSON literal `true` gives consent.

    An `override` counts as consent for a short time. It does not bring back a consent that was revoked: it names none.
    """

    consent_given: bool = False
    consent_id: Identifier | None = None
    expires_at: Instant | None = None
    override: Override | None = None

    def holds(self, now: float) -> bool:
        """Whether consent is given, or overridden, and has not expired at `now` (seconds since the epoch)."""
        unexpired = self.expires_at is None or now < self.expires_at.timestamp()
        return (self.consent_given is True or self.override is not None) and unexpired

    def until(self, end: datetime) -> "Consent":
        """The same, holding no longer than to `end`."""
        return replace(self, expires_at=end if self.expires_at is None else min(end, self.expires_at))


class TaskRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a client sends to have something done.

    `deadline_s` bounds all attempts together, in seconds from acceptance; `not_before` delays the first one. At
    `callback_url` the sender is told when the task has ended.
    """

    case_id: Identifier
    task_type: Identifier
    payload: dict[str, Any]
    priority: Priority = Priority.NORMAL
    idempotency_key: Identifier | None = None
    consent: Consent = Consent()
    meta: dict[str, Any] = {}
    deadline_s: Annotated[float, Meta(gt=0, le=MAX_DEADLINE_S)] | None = None
    not_before: Instant | None = None
    callback_url: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None

    __repr__ = discreet


class PlainRequest(TaskRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The same from JSON in which no control character can be: to look for them takes longer than all the rest."""

    case_id: _Plain
    task_type: _Plain
    idempotency_key: _Plain | None = None


class Task(Struct, frozen=True, kw_only=True):
    """A task as it was accepted; nothing of it ever changes. Times are seconds since the epoch."""

    task_id: str
    case_id: str
    task_type: str
    payload: dict[str, Any]
    priority: Priority
    consent: Consent
    meta: dict[str, Any]
    raw_media: bool
    created_at: float
    deadline_at: float
    replay_of: str | None = None
    principal: str = "anonymous"
    """Whose it is: the subject that sent it."""
    traceparent: str | None = None
    """The trace of the request that brought it, as in W3C Trace Context."""

    __repr__ = discreet

    @property
    def site(self) -> str | None:
        """The site the task names in `meta.site`, if it does."""
        return site_of(self.meta)


class Demand(Struct, frozen=True):
    """The part of a task that routing looks at: nothing of the payload but whether it carries raw media.

    `avoid` are agents that failed this task before; `key` only breaks ties, so that equal inputs decide equally.
    """

    task_type: str
    consented: bool
    raw_media: bool
    site: str | None = None
    urgent: bool = False
    avoid: frozenset[str] = frozenset()
    key: str = ""

    @property
    def refused(self) -> bool:
        """Whether no agent at all may see the task: it carries raw media and has no consent."""
        return self.raw_media and not self.consented

    @property
    def lane(self) -> str:
        """Tasks of one lane and one class find the same agents, so they wait in one line."""
        return _lane(self.task_type, self.consented, self.raw_media, self.site)


def _lane(task_type: str, consented: bool, raw_media: bool, site: str | None) -> str:
    return f"{task_type}|{'c' if consented else '-'}{'m' if raw_media else '-'}|{site or ''}"


def site_of(meta: Mapping[str, Any]) -> str | None:
    """`meta.site` where it is a string of at most 200 characters."""
    site = meta.get("site")
    return site if isinstance(site, str) and 0 < len(site) <= 200 else None


def demand_of(task: Task, now: float, avoid: frozenset[str] = frozenset()) -> Demand:
    """What `task` asks of an agent at `now` (seconds since the epoch)."""
    return Demand(
        task_type=task.task_type,
        consented=task.consent.holds(now),
        raw_media=task.raw_media,
        site=task.site,
        urgent=task.priority is Priority.URGENT,
        avoid=avoid,
        key=task.task_id,
    )


def lane_of(task: Task, now: float) -> str:
    """The lane of what `task` asks at `now`."""
    return _lane(task.task_type, task.consent.holds(now), task.raw_media, site_of(task.meta))


def demand_of_lane(lane: str, *, urgent: bool) -> Demand:
    """The demand that every task of `lane` makes, apart from whom it has met before."""
    task_type, flags, site = lane.split("|", 2)
    return Demand(
        task_type=task_type, consented=flags[0] == "c", raw_media=flags[1] == "m", site=site or None, urgent=urgent
    )
