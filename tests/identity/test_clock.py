"""A clock that was set back revives nothing that was over."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.domain.errors import ConsentRequired, Unauthenticated
from orchestrator.domain.task import Consent
from orchestrator.embedding import Orchestrator
from orchestrator.kernel.environment import Environment
from orchestrator.settings import load
from orchestrator.testing import Service, a_request
from orchestrator.web.identity.key_set import KeySet, VerificationKey
from orchestrator.web.identity.tokens import Rules, TokenVerifier

pytestmark = pytest.mark.anyio

LONG_AGO = 1_000.0


def on(file: Path, now: float, **environ: str) -> Orchestrator:
    """An orchestrator on a machine whose clock says that."""
    settings = load(environ={"DATABASE_URL": f"sqlite:///{file}", **environ})
    return Orchestrator(settings, environment=replace(Environment.real(), now=lambda: now))


async def test_consent_that_was_over(tmp_path: Path) -> None:
    """Does not hold again on a machine that starts in 1970, unless an operator says that its clock is right."""
    file, now = tmp_path / "ledger.db", 1_700_000_000.0
    request = a_request(payload={"image": "x"}, consent=Consent(True, "c", datetime.fromtimestamp(now - 60.0, UTC)))
    async with on(file, now) as system:
        with pytest.raises(ConsentRequired):
            await system.route(request)
    async with on(file, LONG_AGO) as system:
        with pytest.raises(ConsentRequired):
            await system.route(request)
        assert system.gateway.now() >= now
        assert system.gateway.clock_behind() > 1e9
    async with on(file, LONG_AGO, ORCHESTRATOR_AUTH_TRUST_CLOCK="true") as system:
        await system.route(request)


async def test_clock_set_back_while_it_runs(tmp_path: Path) -> None:
    """The same, and /health says so."""
    async with Service(tmp_path / "ledger.db") as service:
        assert "clock_behind_s" not in (await service.ask("GET", "/health")).json
        service.orchestrator._clock.not_before(service.orchestrator.environment.now() + 3_600.0)
        behind = (await service.ask("GET", "/health")).json["clock_behind_s"]
        assert 3_500 < behind <= 3_600


@pytest.mark.parametrize(("behind", "taken"), [(0.0, True), (60.0, True), (60.1, False), (1e9, False)])
async def test_tokens(behind: float, taken: bool) -> None:
    """None is taken while nobody can tell whether it is over; not even one that was taken before."""
    import jwt

    said, secret = 0.0, b"x" * 32
    claims = {"iss": "i", "aud": "a", "sub": "s", "iat": 1_000.0, "exp": 1_900.0}
    token = jwt.encode(claims, secret, "HS256")

    async def keys(_kid: str | None) -> KeySet:
        return {None: VerificationKey("HS256", secret)}

    verifier = TokenVerifier(Rules("i", "a", 30.0, 900.0), keys, lambda: 1_100.0, lambda: said)
    assert (await verifier.principal(token)).subject == "s"
    said = behind
    if taken:
        assert (await verifier.principal(token)).subject == "s"
        return
    with pytest.raises(Unauthenticated, match="clock"):
        await verifier.principal(token)
