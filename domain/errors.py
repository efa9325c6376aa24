"""The closed list of what can go wrong for a caller. Each has a stable code; HTTP statuses are in `web/problems.py`."""

from typing import ClassVar


class OrchestratorError(Exception):
    """Base of all errors that a caller may see.

    `detail` is written by us and holds nothing of a payload, of an agent's answer or of a secret;
    `retry_after` is in seconds, and set where trying again makes sense.
    """

    code: ClassVar[str] = "E_INTERNAL"
    title: ClassVar[str] = "Something went wrong inside"

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class InvalidJSON(OrchestratorError):
    """The body is not strict JSON: UTF-8, no duplicate keys, no NaN, bounded depth and numbers."""

    code = "E_INVALID_JSON"
    title = "The body is not valid JSON"


class InvalidTaskType(OrchestratorError):
    """The task names a type that the settings do not know."""

    code = "E_INVALID_TASK_TYPE"
    title = "Unknown task type"


class InvalidRequest(OrchestratorError):
    """A field is missing, unknown, of the wrong type or out of range."""

    code = "E_VALIDATION"
    title = "The request does not fit its schema"


class ConsentRequired(OrchestratorError):
    """The payload carries raw media and consent is not given, or no longer holds."""

    code = "E_CONSENT_REQUIRED"
    title = "Consent is required"


class InProgress(OrchestratorError):
    """A request under the same idempotency key is being answered at this moment."""

    code = "E_IN_PROGRESS"
    title = "The same request is still being answered"


class KeyReused(OrchestratorError):
    """The idempotency key belongs to another body."""

    code = "E_IDEMPOTENCY_KEY_REUSED"
    title = "The idempotency key was used for another request"


class RateLimited(OrchestratorError):
    """This caller asks for more than its share; nothing was stored."""

    code = "E_RATE_LIMITED"
    title = "Too many requests"


class Overloaded(OrchestratorError):
    """A bound is reached; nothing was stored."""

    code = "E_OVERLOADED"
    title = "Too much work at the moment"


class AuditUnavailable(OrchestratorError):
    """The decision could not be confirmed to be on stable storage. Under the same key the request is safe to repeat."""

    code = "E_AUDIT_UNAVAILABLE"
    title = "The ledger cannot be written"


class ShuttingDown(OrchestratorError):
    """The process is being stopped and takes no new work."""

    code = "E_SHUTTING_DOWN"
    title = "The orchestrator is shutting down"


class Unauthenticated(OrchestratorError):
    """Who asks has shown no valid token, key or certificate."""

    code = "E_UNAUTHENTICATED"
    title = "Who are you?"


class Forbidden(OrchestratorError):
    """Who asks is known, and has no right to this."""

    code = "E_FORBIDDEN"
    title = "Not allowed"


class NotFound(OrchestratorError):
    """There is no such task, agent or page."""

    code = "E_NOT_FOUND"
    title = "Not found"


class AlreadyFinished(OrchestratorError):
    """The task has reached a final state, which never changes."""

    code = "E_ALREADY_FINISHED"
    title = "The task is finished"


class StaleLease(OrchestratorError):
    """The task is not held by that lease: it lapsed, the task ended otherwise, or it was never this agent's."""

    code = "E_STALE_LEASE"
    title = "The task is not held by this lease"


class NotPulling(OrchestratorError):
    """The agent registered with an endpoint: it is called there, and takes no work by itself."""

    code = "E_NOT_A_PULL_AGENT"
    title = "Only agents without an endpoint ask for work"


class PayloadRemoved(OrchestratorError):
    """The payload that this would need was removed, since it was kept for as long as it should be."""

    code = "E_PAYLOAD_REMOVED"
    title = "The payload is not kept any more"


class NotDead(OrchestratorError):
    """Only a dead letter can be replayed."""

    code = "E_NOT_DEAD"
    title = "The task is not a dead letter"


class DataErased(OrchestratorError):
    """What the task held was destroyed at somebody's request, and cannot be had back."""

    code = "E_ERASED"
    title = "The task was erased"
