"""Headers by which proxies say who calls: anybody can send them, so they say nothing."""

from pathlib import Path

import pytest

from orchestrator.domain.identity import Scope
from orchestrator.testing import Service, a_task

pytestmark = pytest.mark.anyio

WHO = [
    "X-Remote-User", "Remote-User", "X-Forwarded-User", "X-Auth-Request-User", "X-Forwarded-Client-Cert", "Client-Cert",
    "X-Client-Cert", "Ssl-Client-Cert", "X-SSL-Client-Cert", "X-SSL-Client-S-DN", "X-SSL-Client-Verify",
    "X-ARR-ClientCert", "X-Amzn-Mtls-Clientcert-Subject", "Tailscale-User-Login", "X-Principal", "X-Scopes", "From",
]  # fmt: skip
WHERE = ["X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP"]


@pytest.mark.parametrize("name", WHO)
async def test_who_calls(service: Service, caller, name: str) -> None:
    """Nobody is let in by one, and who has a key stays who he is, with the rights that he has."""
    client, claimed = await caller("clinic-a", [Scope.TASKS_SUBMIT, Scope.AUDIT_READ]), {name: "operator operate"}
    await caller("operator")
    assert (await service.ask("GET", "/agents", headers=claimed)).status == 401
    assert (await client.ask("GET", "/keys", headers=claimed)).status == 403
    task_id = (await client.ask("POST", "/route_task", json=a_task(), headers=claimed)).json["task_id"]
    entries = (await client.ask("GET", f"/audit?task_id={task_id}", headers=claimed)).json["entries"]
    assert {entry["principal"] for entry in entries} == {"clinic-a"}


@pytest.mark.parametrize("name", WHERE)
async def test_where_from(tmp_path: Path, name: str) -> None:
    """Whatever address it names, the machine at the other end has its share, and no more."""
    environ = {"ORCHESTRATOR_LIMITS_REQUESTS_PER_S": "0.001", "ORCHESTRATOR_LIMITS_REQUESTS_BURST": "3"}
    async with Service(tmp_path / "ledger.db", environ) as service:
        replies = [await service.ask("GET", "/agents", headers={name: f"for=10.0.0.{n}"}) for n in range(4)]
        assert [reply.status for reply in replies] == [200, 200, 200, 429]
