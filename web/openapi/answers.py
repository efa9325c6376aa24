"""What the calls answer, as types.

They describe only. Answers are made in `web/wire.py`, and the tests of the web hold each one that they get to its type.
"""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from orchestrator.domain.agent import AgentId, Capability
from orchestrator.domain.decision import Candidate
from orchestrator.domain.identity import Scope
from orchestrator.domain.lifecycle import State
from orchestrator.domain.task import Instant, Priority


class Receipt(Struct):
    """The place of an entry in the audit trail: who keeps it can prove later that the trail once held that entry."""

    writer: str
    seq: int
    entry_hash: str


class Accepted(Struct):
    """The task is on stable storage and will be done; or a synchronous attempt has just ended it without a result."""

    task_id: str
    status: Literal["queued", "succeeded", "dead", "cancelled", "expired", "denied"]
    queue: str
    receipt: Receipt


class Completed(Struct):
    """The task is on stable storage, and done."""

    task_id: str
    status: Literal["completed_sync"]
    result: Any
    agent_id: str
    receipt: Receipt


class Duplicate(Struct):
    """The key stands for this request already; with its result where it is done.

    There is no receipt where the entry of the task's acceptance is not kept any more.
    """

    task_id: str
    status: Literal["duplicate"]
    state: State
    queue: str
    receipt: Receipt | None
    result: Any | UnsetType = UNSET
    agent_id: str | UnsetType | None = UNSET
    erased: bool | UnsetType = UNSET
    payload_removed: bool | UnsetType = UNSET
    result_removed: bool | UnsetType = UNSET


class Explanation(Struct):
    """What would be decided: every candidate, kept or left out, and why. Nothing is stored or sent."""

    agent_id: str | None
    refused: bool
    ranking: list[str]
    candidates: list[Candidate]


class Outcome(Struct):
    """Status and body that the task alone would have been answered; `retry_after` in seconds."""

    status: int
    body: dict[str, Any]
    retry_after: int | UnsetType = UNSET


class Outcomes(Struct):
    """One for each task, in their order."""

    outcomes: list[Outcome]


class TaskStatus(Struct):
    """A task as it is now. `progress` is there while its agent tells how far it is, `result` once it has succeeded.

    `erased`, `payload_removed` and `result_removed` say what is gone, and are absent while all is there.
    """

    task_id: str
    case_id: str
    task_type: str
    priority: Priority
    status: State
    attempts: int
    failures: int
    agent_id: str | None
    reason: str | None
    created_at: Instant
    updated_at: Instant
    deadline_at: Instant
    due_at: Instant | None
    replay_of: str | None
    erased: bool | UnsetType = UNSET
    payload_removed: bool | UnsetType = UNSET
    result_removed: bool | UnsetType = UNSET
    progress: float | UnsetType | None = UNSET
    progress_note: str | UnsetType | None = UNSET
    result: Any | UnsetType = UNSET
    model_version: str | UnsetType | None = UNSET


class DeadLetters(Struct):
    """A page of them; `next` is the `after` of the next page."""

    entries: list[TaskStatus]
    next: int | None


class Revoked(Struct):
    """The consent holds no more; so many tasks were denied for it by this call."""

    consent_id: str
    status: Literal["revoked"]
    denied: int
    receipt: Receipt | None


class Erased(Struct):
    """So many tasks were erased by this call."""

    status: Literal["erased"]
    erased: int
    receipt: Receipt | None


class AgentStatus(Struct):
    """An agent, and how it is. `back_in_s` says when one that is ejected or paused gets work again."""

    agent_id: AgentId
    endpoint: str | None
    capabilities: list[Capability]
    location: str
    site: str | None
    model_version: str | None
    max_concurrency: int
    cost: float
    raw_media: bool
    mode: Literal["push", "pull"]
    state: Literal["quarantined", "ready", "trial", "unknown", "stale", "ejected", "paused", "draining"]
    back_in_s: float | None
    seen_ago_s: float | None
    in_flight: int
    failures: int
    latency_s: float | None


class AgentAnswer(AgentStatus):
    """The agent, after what was asked of it was done."""

    status: Literal["ok"]


class Agents(Struct):
    """All agents, by their ids."""

    agents: list[AgentStatus]


class AgentRemoved(Struct):
    """The agent is not known any more."""

    status: Literal["ok"]
    agent_id: AgentId


class LeasedTask(Struct):
    """A task for an agent that asked for work, and the lease by which it is held."""

    task_id: str
    attempt: int
    lease: str
    lease_until: Instant
    lease_s: float
    case_id: str
    task_type: str
    payload: dict[str, Any]
    meta: dict[str, Any]
    traceparent: str | None
    deadline: Instant


class Leased(Struct):
    """Work, as much as there was; none where the time to wait was over."""

    tasks: list[LeasedTask]


class ResultTaken(Struct):
    """What the result has made of the task."""

    task_id: str
    status: State


class Extended(Struct):
    """Until when the lease holds now."""

    task_id: str
    attempt: int
    lease_until: Instant
    lease_s: float


class Entry(Struct):
    """One entry of the audit trail. Its hash covers every field, and the hash of the entry before it."""

    writer: str
    seq: int
    audit_id: str
    event: str
    created_at: Instant
    task_id: str | None
    case_id: str | None
    router_decision: dict[str, Any] | None
    agent_id: str | None
    model_version: str | None
    consent_id: str | None
    status: str | None
    attempt: int | None
    reason: str | None
    detail: Any
    principal: str | None
    prev_hash: str
    entry_hash: str


class Entries(Struct):
    """A page of the trail, oldest first; `next` is the `after` of the next page.

    From `complete_since` on no entry is missing: those before may have been removed. It is null where none ever was.
    """

    entries: list[Entry]
    next: int | None
    complete_since: Instant | None


class Key(Struct):
    """An API key, without its secret."""

    key_id: str
    subject: str
    scopes: list[Scope]
    created_at: Instant


class Keys(Struct):
    """All API keys."""

    keys: list[Key]


class MadeKey(Key):
    """An API key and its text, which is in this answer only."""

    api_key: str


class KeyRevoked(Struct):
    """The key opens nothing any more."""

    status: Literal["ok"]
    key_id: str


class Health(Struct):
    """The process lives; `insecure` says what is unsafe about how it serves."""

    status: Literal["ok"]
    version: str
    insecure: list[str] | UnsetType = UNSET


class Readiness(Struct):
    """Whether work should be sent here, and why not."""

    ready: bool
    reasons: list[str]
