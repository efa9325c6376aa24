"""What was kept for long enough is removed, and clients are told so: without an error, and without a lie."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from described import DescribedService

from orchestrator import auditing
from orchestrator.crypto.signing import Signer
from orchestrator.domain.evidence import receipt_of
from orchestrator.testing import PATIENCE_S, ScriptedAgent, Service

pytestmark = pytest.mark.anyio

KEY = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PUBLIC = Signer(KEY).public_key


@pytest.fixture
def environ(request: pytest.FixtureRequest) -> dict[str, str]:
    """What a test is about is kept for a second, and all else for ever."""
    kept = getattr(request, "param", "audit")
    return {
        "ORCHESTRATOR_AUDIT_SIGNING_KEY": KEY,
        "ORCHESTRATOR_RETENTION_AUDIT_SHORT": "true",
        "ORCHESTRATOR_RETENTION_EVERY_S": "1",
        f"ORCHESTRATOR_RETENTION_{kept.upper()}_S": "1",
    }


async def until(holds: Any) -> None:
    """Looks again and again, since nobody is told of what retention does."""
    with anyio.fail_after(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110 - it happens in an actor that tells nobody
            await anyio.sleep(0.05)


@asynccontextmanager
async def before(ledger: dict[str, str]) -> AsyncGenerator[Service]:
    """An orchestrator on the same stores that keeps all: what is done in it takes its time, and none of it vanishes."""
    async with Service(ledger, {"ORCHESTRATOR_AUDIT_SIGNING_KEY": KEY}) as service, ScriptedAgent() as agent:
        await agent.register(service)
        yield service


async def done(service: Service, **task: Any) -> str:
    """The id of a task that was done."""
    task_id = (await service.route(task)).json["task_id"]
    assert (await service.ended(task_id))["status"] == "succeeded"
    return task_id


async def audit(service: Service, **query: str) -> Any:
    return (await service.ask("GET", "/audit", params=query)).json


async def test_entries_of_a_case(ledger: dict[str, str], environ: dict[str, str]) -> None:
    """They vanish; the trail holds and names the anchor; whatever shows the case says that something was removed."""
    async with before(ledger) as service:
        task_id = await done(service, case_id="case-old", idempotency_key="key-1")
        receipt = (await service.route({"case_id": "case-old", "idempotency_key": "key-1"})).json["receipt"]
        assert receipt is not None
        whole = await audit(service, case_id="case-old")
        assert (len(whole["entries"]), whole["complete_since"]) == (3, None)
    async with DescribedService(ledger, environ) as service:

        async def gone() -> bool:
            return (await audit(service, case_id="case-old"))["entries"] == []

        await until(gone)
        after = await audit(service)
        assert after["complete_since"] > whole["entries"][-1]["created_at"]
        assert "anchor" in {entry["event"] for entry in after["entries"]}
        status = (await service.ask("GET", f"/task/{task_id}")).json
        assert (status["status"], status["result"]) == ("succeeded", {"done": True})
        again = (await service.route({"case_id": "case-old", "idempotency_key": "key-1"})).json
        assert (again["status"], again["task_id"], again["receipt"]) == ("duplicate", task_id, None)
        page = (await service.ask("GET", f"/ui/task/{task_id}")).body.decode()
        assert "All steps were removed from the audit" in page
        assert "were removed, since they had been kept" in (await service.ask("GET", "/ui/audit")).body.decode()
        events = (await service.ask("GET", f"/task/{task_id}/events")).body.decode()
        assert "event: end" in events
        erased = (await service.ask("POST", "/cases/case-old/erase")).json
        assert erased["erased"] == 1
    url = ledger["DATABASE_URL"]
    found = await auditing.verify(
        url, public_keys=[PUBLIC], receipts=[("a receipt", receipt_of(json.dumps(receipt).encode()))]
    )
    assert found.flaws == []
    (removed,) = found.removed.values()
    assert removed.place.seq >= receipt["seq"]
    attempts, since = await auditing.case(url, case_id="case-old")
    assert (attempts, since is not None) == ([], True)


@pytest.mark.parametrize("environ", ["payload"], indirect=True)
async def test_payload(ledger: dict[str, str], environ: dict[str, str]) -> None:
    """The task says so, its duplicate too; the result is there as before."""
    async with before(ledger) as service:
        task_id = await done(service, idempotency_key="key-1")
    async with DescribedService(ledger, environ) as service:

        async def gone() -> bool:
            return (await service.ask("GET", f"/task/{task_id}")).json.get("payload_removed", False)

        await until(gone)
        status = await service.ended(task_id)
        assert (status["result"], "result_removed" in status) == ({"done": True}, False)
        again = (await service.route({"idempotency_key": "key-1"})).json
        assert (again["status"], again["result"], again["payload_removed"]) == ("duplicate", {"done": True}, True)
        assert again["receipt"] is not None


@pytest.mark.parametrize("environ", ["result"], indirect=True)
async def test_result(ledger: dict[str, str], environ: dict[str, str]) -> None:
    """The task is still done, without what came of it, and says so; its duplicate too."""
    async with before(ledger) as service:
        task_id = await done(service, idempotency_key="key-1")
    async with DescribedService(ledger, environ) as service:

        async def gone() -> bool:
            return (await service.ask("GET", f"/task/{task_id}")).json.get("result_removed", False)

        await until(gone)
        status = await service.ended(task_id)
        assert (status["status"], "result" in status, "payload_removed" in status) == ("succeeded", False, False)
        again = (await service.route({"idempotency_key": "key-1"})).json
        assert (again["status"], "result" in again, again["result_removed"]) == ("duplicate", False, True)


@pytest.mark.parametrize("environ", ["task"], indirect=True)
async def test_task(ledger: dict[str, str], environ: dict[str, str]) -> None:
    """It is not found any more, but in the audit; one with a key stays as a bare row, which its duplicate finds."""
    async with before(ledger) as service:
        keyed = await done(service, idempotency_key="key-1")
        task_id = await done(service)
    async with DescribedService(ledger, environ) as service:

        async def gone() -> bool:
            return (await service.ask("GET", f"/task/{task_id}")).status == 404

        await until(gone)
        assert [entry["event"] for entry in await service.audit(task_id=task_id)] == ["accepted", "leased", "succeeded"]
        again = (await service.route({"idempotency_key": "key-1"})).json
        marks = (again["payload_removed"], again["result_removed"])
        assert (again["status"], again["task_id"], marks) == ("duplicate", keyed, (True, True))
