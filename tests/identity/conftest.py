"""An orchestrator that asks everybody who he is, and callers with keys of their own."""

from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.domain.identity import Scope
from orchestrator.testing import Reply, Service


@pytest.fixture
def environ() -> dict[str, str]:
    """Settings that differ from the packaged ones; a module may override it."""
    return {"ORCHESTRATOR_AUTH_API_KEYS": "true"}


@pytest.fixture
async def service(tmp_path: Path, environ: dict[str, str]) -> AsyncGenerator[Service]:
    """A running orchestrator."""
    async with Service(tmp_path / "ledger.db", environ) as service:
        yield service


class Caller:
    """Somebody with an API key."""

    def __init__(self, service: Service, subject: str, token: str) -> None:
        self._service, self.subject, self.token = service, subject, token

    async def ask(self, method: str, path: str, **options: Any) -> Reply:
        headers = {"Authorization": f"Bearer {self.token}"} | options.pop("headers", {})
        return await self._service.ask(method, path, headers=headers, **options)


@pytest.fixture
def caller(service: Service):
    """Makes callers: by name, with scopes."""

    async def make(subject: str, scopes: Iterable[Scope] = Scope) -> Caller:
        _, token = await service.orchestrator.gateway.create_key(subject, frozenset(scopes))
        return Caller(service, subject, token)

    return make
