"""Every server that can be started here, not just one of a kind."""

import postgres_server
import pytest
import redis_server

pytest.register_assert_rewrite(
    *("conformance", "conformance_consents", "conformance_outbox", "conformance_retention", "conformance_webhooks"),
    *("conformance_anchors", "ledger_builders", "ledger_faults", "ledger_lives"),
)


@pytest.fixture(scope="session", params=postgres_server.installations())
def postgres(request):
    """Every PostgreSQL server that there is here, one for the session."""
    with postgres_server.running(request.param) as server:
        yield server


@pytest.fixture(scope="session", params=redis_server.programs())
def redis_process(request):
    """Every server that speaks Redis here, one for the session."""
    with redis_server.running(request.param) as server:
        yield server
