"""What an auditor gets out of a database that nobody serves any more, with the command alone, in each form."""

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orchestrator.testing import PATIENCE_S, ScriptedAgent, Service

pytestmark = pytest.mark.anyio

KEY = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
OUTPUT = {"finding": "sinus rhythm", "at": [1, 2.5, None]}
DONE = {"success": True, "output": OUTPUT, "model_version": "m-7"}
SETTINGS = {"ORCHESTRATOR_RETRY_BASE": "0.01", "ORCHESTRATOR_RETRY_CAP_S": "0.02"}
CONSENT = {"consent_given": True, "consent_id": "consent-9"}


class Left(NamedTuple):
    """A database without its process: its folder, and the task of the case that was tried twice."""

    folder: Path
    task_id: str

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "DATABASE_URL": f"sqlite:///{self.folder / 'ledger.db'}"}
        command = [sys.executable, "-m", "orchestrator", "audit", *words]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)

    def export(self, form: str) -> str:
        file = self.folder / f"case.{form}"
        self.run("export", "--case", "case-1", "--format", form, "--output", str(file))
        return file.read_text("utf-8")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def left(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Left:
    """Of one case: an attempt that failed at one agent, and one that another one did. Another case beside it."""
    folder = tmp_path_factory.mktemp("box")
    async with Service(folder / "ledger.db", SETTINGS) as service:
        first = ScriptedAgent("edge-1", 500, location="edge-clinic", model_version="m-6")
        second = ScriptedAgent("cloud-1", DONE, DONE, location="dc-west", model_version="m-6")
        async with first, second:
            await first.register(service)
            await second.register(service)
            sent = {"case_id": "case-1", "consent": CONSENT, "payload": {"text": "private"}}
            task_id = (await service.route(sent)).json["task_id"]
            assert (await service.ended(task_id))["result"] == OUTPUT
            await service.ended((await service.route({"case_id": "case-2"})).json["task_id"])
    return Left(folder, task_id)


def expected(task_id: str) -> list[dict[str, Any]]:
    """Each agent, where it stands, its version, the attempt, the consent, how it ended; of a result its hash."""
    compact = json.dumps(OUTPUT, sort_keys=True, separators=(",", ":"))
    common = {"case_id": "case-1", "task_id": task_id, "consent_id": "consent-9"}
    return [
        {
            **common, "attempt": 1, "agent_id": "edge-1", "location": "edge-clinic", "model_version": "m-6",
            "outcome": "retry_scheduled", "reason": "status_500", "result_sha256": None,
        },
        {
            **common, "attempt": 2, "agent_id": "cloud-1", "location": "dc-west", "model_version": "m-7",
            "outcome": "succeeded", "reason": None, "result_sha256": hashlib.sha256(compact.encode()).hexdigest(),
        },
    ]  # fmt: skip


async def test_as_ndjson(left: Left) -> None:
    """Both attempts, each with when it was and which entries say so; these are in the trail, which holds."""
    lines = [json.loads(line) for line in left.export("ndjson").splitlines()]
    wanted = expected(left.task_id)
    assert [{name: line[name] for name in wanted[0]} for line in lines] == wanted
    trail = {(e := json.loads(line))["audit_id"]: e for line in left.run("export").stdout.splitlines()}
    assert left.run("verify").stdout.splitlines()[-1] == "the chain holds"
    for line in lines:
        began, ended = trail[line["audit_began"]], trail[line["audit_ended"]]
        assert (began["task_id"], began["agent_id"], began["created_at"]) == (
            left.task_id, line["agent_id"], line["began_at"],
        )  # fmt: skip
        assert (ended["event"], ended["created_at"]) == (line["outcome"], line["ended_at"])


async def test_as_csv(left: Left) -> None:
    """The same, as a spreadsheet reads it."""
    rows = list(csv.DictReader(io.StringIO(left.export("csv"))))
    whole = expected(left.task_id)
    wanted = [{name: "" if value is None else str(value) for name, value in one.items()} for one in whole]
    assert [{name: row[name] for name in wanted[0]} for row in rows] == wanted


async def test_as_fhir(left: Left) -> None:
    """The same as AuditEvents that an independent reader of FHIR takes, of the type that says: disclosed."""
    from fhir.resources.R4B.bundle import Bundle

    bundle = Bundle.model_validate_json(left.export("fhir"))
    assert bundle.entry is not None
    seen: list[dict[str, Any]] = []
    for entry in bundle.entry:
        event: Any = entry.resource
        assert (event.get_resource_type(), event.type.code) == ("AuditEvent", "disclose")
        (agent,), (case, task) = event.agent, event.entity
        details = {detail.type: detail.valueString for detail in task.detail}
        seen.append({
            "case_id": case.what.identifier.value, "task_id": task.what.identifier.value,
            "consent_id": details["consent_id"], "attempt": int(details["attempt"]),
            "agent_id": agent.who.identifier.value, "location": agent.location.display,
            "model_version": details["model_version"], "outcome": event.outcome, "reason": event.outcomeDesc,
            "result_sha256": details.get("result_sha256"),
        })  # fmt: skip
    codes = {"retry_scheduled": "4", "succeeded": "0"}
    assert seen == [{**one, "outcome": codes[one["outcome"]]} for one in expected(left.task_id)]


@pytest.mark.parametrize("form", ["ndjson", "csv", "fhir"])
async def test_what_is_in_none(left: Left, form: str) -> None:
    """Payload, result, and the other case."""
    text = left.export(form)
    assert "case-1" in text
    assert not [word for word in ("private", "sinus rhythm", "case-2") if word in text]


async def test_where_the_beginning_of_the_trail_was_removed(left: Left, tmp_path: Path) -> None:
    """Whoever looks at the case is told since when nothing is missing; where all is there, nothing."""
    kept = {
        "ORCHESTRATOR_AUDIT_SIGNING_KEY": KEY,
        "ORCHESTRATOR_RETENTION_AUDIT_SHORT": "true",
        "ORCHESTRATOR_RETENTION_AUDIT_S": "1",
        "ORCHESTRATOR_RETENTION_EVERY_S": "1",
    }
    async with Service(tmp_path / "ledger.db", kept) as service, ScriptedAgent("edge-1", DONE) as agent:
        await agent.register(service)
        task_id = (await service.route({"case_id": "case-1"})).json["task_id"]
        await service.ended(task_id)
        with anyio.fail_after(PATIENCE_S):
            while (await service.ask("GET", "/audit")).json["complete_since"] is None:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.05)
    cut = Left(tmp_path, task_id)
    for words in (("show",), ("export", "--format", "csv", "--output", str(tmp_path / "case.csv"))):
        said = cut.run(*words, "--case", "case-1").stderr
        assert "were removed; what they said is not in it" in said
        assert "removed" not in left.run(*words, "--case", "case-1").stderr
    assert "entries up to" in cut.run("verify").stdout
