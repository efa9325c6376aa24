"""An example of each thing that is told or answered; a test holds them to their schemas."""

from typing import Any

from orchestrator.domain.agent import Registration
from orchestrator.domain.task import TaskRequest
from orchestrator.web.flow import Flow
from orchestrator.web.openapi import answers
from orchestrator.web.pulling import AgentResult, Ask, Word
from orchestrator.web.wire import Allow, Beat, NewKey

TASK_ID = "task-0123456789abcdef0123456789abcdef"
LEASE = "fedcba9876543210fedcba9876543210"
NOON, LATER = "2026-03-01T12:00:00.000000Z", "2026-03-01T12:00:10.000000Z"
VECTOR = {"vector": [0.12, -0.5]}
RECEIPT = {"writer": "main", "seq": 7, "entry_hash": "5f" * 32}

TASK = {
    "case_id": "case-42",
    "task_type": "audit_log",
    "payload": {"note": "hello"},
    "priority": "normal",
    "idempotency_key": "visit-7",
}
STATUS = {
    "task_id": TASK_ID, "case_id": "case-42", "task_type": "embed", "priority": "normal", "status": "succeeded",
    "attempts": 1, "failures": 0, "agent_id": "embedder-1", "reason": None, "created_at": NOON, "updated_at": LATER,
    "deadline_at": "2026-03-08T12:00:00.000000Z", "due_at": None, "replay_of": None, "result": VECTOR,
    "model_version": "embedder-3",
}  # fmt: skip
DEAD = {
    **{name: value for name, value in STATUS.items() if name not in ("result", "model_version")},
    "status": "dead", "attempts": 4, "failures": 4, "reason": "agent_error",
}  # fmt: skip
AGENT = {
    "agent_id": "embedder-1", "endpoint": "http://127.0.0.1:9001", "capabilities": ["embed", "raw_image"],
    "location": "edge-clinic-1", "site": None, "model_version": "embedder-3", "max_concurrency": 8, "cost": 0.0,
}  # fmt: skip
SEEN = {
    **AGENT, "raw_media": True, "mode": "push", "state": "ready", "back_in_s": None, "seen_ago_s": 1.5, "in_flight": 2,
    "failures": 0, "latency_s": 0.041,
}  # fmt: skip
CANDIDATES = [
    {"agent_id": "embedder-1", "edge": True, "score": 0.08, "location": "edge-clinic-1"},
    {"agent_id": "embedder-2", "excluded": "ejected"},
]
ENTRY = {
    "writer": "main", "seq": 7, "audit_id": "audit-main-7", "event": "accepted", "created_at": NOON,
    "task_id": TASK_ID, "case_id": "case-42", "router_decision": {"ranking": ["embedder-1"], "candidates": CANDIDATES},
    "agent_id": "embedder-1", "model_version": None, "consent_id": "consent-9", "status": "queued", "attempt": 0,
    "reason": None, "detail": None, "principal": "clinic-a", "prev_hash": "00" * 32, "entry_hash": "5f" * 32,
}  # fmt: skip
LEASED = {
    "task_id": TASK_ID, "attempt": 1, "lease": LEASE, "lease_until": LATER, "lease_s": 10.0, "case_id": "case-42",
    "task_type": "embed", "payload": {"text": "hello"}, "meta": {}, "traceparent": None,
    "deadline": "2026-03-08T12:00:00.000000Z",
}  # fmt: skip
KEY = {"key_id": "0123456789abcdef", "subject": "clinic-a", "scopes": ["tasks:submit"], "created_at": NOON}

EXAMPLES: dict[type[Any], Any] = {
    TaskRequest: TASK,
    Registration: AGENT,
    Beat: {"load": 0.25},
    Allow: {"raw_media": False},
    Ask: {"max": 4, "wait": 30.0},
    AgentResult: {"agent_id": "embedder-1", "attempt": 1, "lease": LEASE, "success": True, "output": VECTOR},
    Word: {"agent_id": "embedder-1", "attempt": 1, "lease": LEASE, "progress": 0.4, "note": "reading"},
    NewKey: {"subject": "clinic-a", "scopes": ["tasks:submit", "tasks:read"]},
    answers.Accepted: {"task_id": TASK_ID, "status": "queued", "queue": "tasks:normal", "receipt": RECEIPT},
    answers.Completed: {
        "task_id": TASK_ID, "status": "completed_sync", "result": VECTOR, "agent_id": "embedder-1", "receipt": RECEIPT,
    },
    answers.Duplicate: {
        "task_id": TASK_ID, "status": "duplicate", "state": "queued", "queue": "tasks:normal", "receipt": RECEIPT,
    },
    answers.Explanation: {
        "agent_id": "embedder-1", "refused": False, "ranking": ["embedder-1"], "candidates": CANDIDATES,
    },
    answers.Outcomes: {
        "outcomes": [
            {
                "status": 202,
                "body": {"task_id": TASK_ID, "status": "queued", "queue": "tasks:normal", "receipt": RECEIPT},
            },
        ]
    },
    answers.TaskStatus: STATUS,
    answers.DeadLetters: {"entries": [DEAD], "next": None},
    answers.Revoked: {"consent_id": "consent-9", "status": "revoked", "denied": 2, "receipt": RECEIPT},
    answers.Erased: {"status": "erased", "erased": 1, "receipt": RECEIPT},
    answers.AgentAnswer: {"status": "ok", **SEEN},
    answers.Agents: {"agents": [SEEN]},
    answers.AgentRemoved: {"status": "ok", "agent_id": "embedder-1"},
    answers.Leased: {"tasks": [LEASED]},
    answers.ResultTaken: {"task_id": TASK_ID, "status": "succeeded"},
    answers.Extended: {"task_id": TASK_ID, "attempt": 1, "lease_until": LATER, "lease_s": 10.0},
    answers.Entries: {"entries": [ENTRY], "next": None, "complete_since": None},
    answers.Keys: {"keys": [KEY]},
    answers.MadeKey: {**KEY, "api_key": "rok_0123456789abcdef_…"},
    answers.KeyRevoked: {"status": "ok", "key_id": "0123456789abcdef"},
    Flow: {
        "ready": 3, "oldest_s": 4.2, "in_flight": 2, "accepted_per_min": 12.4, "succeeded_per_min": 11.8,
        "queues": [{"priority": "urgent", "ready": 3, "oldest_s": 4.2, "most_ready": 40, "most_oldest_s": 31.5}],
        "latencies": [{"of": "call", "p50_s": 0.041, "p95_s": 0.22, "p99_s": None}],
        "last_hour": {"succeeded": 640, "failures": 3, "retries": 2, "dead": 1, "refused": 0},
    },
    answers.Health: {"status": "ok", "version": "0.1.0"},
    answers.Readiness: {"ready": True, "reasons": []},
}  # fmt: skip
