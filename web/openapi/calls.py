"""The table of calls: what each is told, what it answers, and what of it is refused."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from orchestrator.domain import errors
from orchestrator.domain.agent import Registration
from orchestrator.domain.task import TaskRequest
from orchestrator.web.flow import Flow
from orchestrator.web.openapi import answers
from orchestrator.web.pulling import AgentResult, Ask, Word
from orchestrator.web.wire import FORM, JSON, NDJSON, Allow, Beat, NewKey

Errors = tuple[type[errors.OrchestratorError], ...]


class Text(Struct, frozen=True):
    """An answer that is no JSON: its media types, and an example."""

    kinds: tuple[str, ...]
    example: str = ""


Answers = Mapping[int, tuple[Any, ...]]
"""By status: the types of JSON that it may be, or one Text."""


class Call(Struct, frozen=True):
    """One method of one path. `refuses` names what is its own; what any call may be refused for is added to it."""

    method: str
    path: str
    summary: str
    answers: Answers
    body: Any = None
    kinds: tuple[str, ...] = (JSON,)
    """The media types in which the body may come."""
    optional: bool = False
    """Whether the body may be left out."""
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    refuses: Errors = ()


EVENTS = Text(
    ("text/event-stream",),
    """retry: 2000

event: state
id: 1
data: {"task_id": "task-…", "status": "queued", …}

event: transition
id: 2
data: {"event": "leased", "status": "leased", "attempt": 1, "agent_id": "embedder-1", …}

event: progress
id: 2
data: {"attempt": 1, "agent_id": "embedder-1", "progress": 0.4, "progress_note": "reading"}

event: transition
id: 3
data: {"event": "succeeded", "status": "succeeded", …}

event: end
id: 3
data: {"task_id": "task-…", "status": "succeeded", "result": …, …}

""",
)
METRICS = Text(("text/plain",), 'orchestrator_queue_size{queue="tasks:low"} 0.0\n')
PAGE = Text(("text/html",))
FILE = Text(("text/javascript", "text/css"))

TAKES: Errors = (
    errors.InvalidTaskType,
    errors.ConsentRequired,
    errors.Forbidden,
    errors.InProgress,
    errors.KeyReused,
)
"""Why a task is not accepted."""

CALLS: tuple[Call, ...] = (
    Call(
        "post", "/route_task", "Accept a task; or say where it would go (dry_run)",
        {200: (answers.Completed, answers.Duplicate, answers.Explanation), 202: (answers.Accepted,)},
        body=TaskRequest, query=("dry_run",), headers=("Idempotency-Key",), refuses=TAKES,
    ),
    Call(
        "post", "/route_tasks", "Accept up to 500 tasks with one commit", {207: (answers.Outcomes,)},
        body=list[TaskRequest], kinds=(JSON, NDJSON),
    ),
    Call(
        "get", "/task/{task_id}", "A task's status, attempts and result; with wait, at its end",
        {200: (answers.TaskStatus,)}, query=("wait",),
    ),
    Call(
        "get", "/task/{task_id}/events", "A task's changes as they happen (server-sent events)", {200: (EVENTS,)},
        headers=("Last-Event-ID",),
    ),
    Call(
        "delete", "/task/{task_id}", "Cancel a task", {200: (answers.TaskStatus,)}, refuses=(errors.AlreadyFinished,),
    ),
    Call("post", "/task/{task_id}/erase", "Destroy what a task holds", {200: (answers.Erased,)}),
    Call("post", "/cases/{case_id}/erase", "Destroy what all tasks of a case hold", {200: (answers.Erased,)}),
    Call("get", "/dlq", "Dead letters", {200: (answers.DeadLetters,)}, query=("after", "limit")),
    Call(
        "post", "/dlq/{task_id}/replay", "Make a new task of a dead one",
        {200: (answers.Completed, answers.Duplicate), 202: (answers.Accepted,)},
        refuses=(*TAKES, errors.NotDead, errors.DataErased),
    ),
    Call("post", "/consents/{consent_id}/revoke", "End a consent for ever", {200: (answers.Revoked,)}),
    Call(
        "post", "/register_agent", "Register an agent: JSON, a form, or the query", {200: (answers.AgentAnswer,)},
        body=Registration, kinds=(JSON, FORM), optional=True, refuses=(errors.Forbidden,),
    ),
    Call("get", "/agents", "All agents, with their health", {200: (answers.Agents,)}),
    Call(
        "post", "/agents/{agent_id}/heartbeat", "An agent lives", {200: (answers.AgentAnswer,)},
        body=Beat, optional=True,
    ),
    Call(
        "post", "/agents/{agent_id}/lease", "Take work, for agents that are not called", {200: (answers.Leased,)},
        body=Ask, optional=True, refuses=(errors.NotPulling, errors.Forbidden),
    ),
    Call(
        "post", "/task/{task_id}/result", "How an attempt that an agent leased ended", {200: (answers.ResultTaken,)},
        body=AgentResult, refuses=(errors.StaleLease,),
    ),
    Call(
        "post", "/task/{task_id}/extend", "An agent is still at it, and how far", {200: (answers.Extended,)},
        body=Word, refuses=(errors.StaleLease,),
    ),
    Call(
        "post", "/agents/{agent_id}/allow", "Allow an agent to be what it is now", {200: (answers.AgentAnswer,)},
        body=Allow, optional=True,
    ),
    Call("post", "/agents/{agent_id}/drain", "Send an agent no more work", {200: (answers.AgentAnswer,)}),
    Call("delete", "/agents/{agent_id}", "Forget an agent", {200: (answers.AgentRemoved,)}),
    Call(
        "get", "/audit", "Audit entries", {200: (answers.Entries,)},
        query=("task_id", "case_id", "event", "since", "after", "limit"),
    ),
    Call("get", "/keys", "All API keys, without their secrets", {200: (answers.Keys,)}),
    Call(
        "post", "/keys", "Make an API key; its text is in this answer only", {201: (answers.MadeKey,)}, body=NewKey,
    ),
    Call("delete", "/keys/{key_id}", "Revoke an API key", {200: (answers.KeyRevoked,)}),
    Call("get", "/health", "Whether the process lives", {200: (answers.Health,)}),
    Call(
        "get", "/ready", "Whether to send work here", {200: (answers.Readiness,), 503: (answers.Readiness,)},
    ),
    Call("get", "/queues", "What waits, what is in hand, what was done lately", {200: (Flow,)}),
    Call("get", "/metrics", "Metrics in Prometheus' text format", {200: (METRICS,)}),
    Call("get", "/openapi.json", "This document", {200: (dict,)}),
    Call("get", "/docs", "This document as a page", {200: (PAGE,)}),
    Call("get", "/docs/{name}", "A file of that page", {200: (FILE,)}),
)  # fmt: skip
