from orchestrator.domain import errors
from orchestrator.domain.errors import OrchestratorError


def test_the_list():
    """It is closed: these codes, each once; clients may rely on them."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OrchestratorError)]
    assert sorted(kind.code for kind in kinds) == [
        "E_ALREADY_FINISHED",
        "E_AUDIT_UNAVAILABLE",
        "E_CONSENT_REQUIRED",
        "E_ERASED",
        "E_FORBIDDEN",
        "E_IDEMPOTENCY_KEY_REUSED",
        "E_INTERNAL",
        "E_INVALID_JSON",
        "E_INVALID_TASK_TYPE",
        "E_IN_PROGRESS",
        "E_NOT_A_PULL_AGENT",
        "E_NOT_DEAD",
        "E_NOT_FOUND",
        "E_OVERLOADED",
        "E_PAYLOAD_REMOVED",
        "E_RATE_LIMITED",
        "E_SHUTTING_DOWN",
        "E_STALE_LEASE",
        "E_UNAUTHENTICATED",
        "E_VALIDATION",
    ]
    assert all(kind.title and kind.__doc__ for kind in kinds)
