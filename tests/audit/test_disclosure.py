"""Where a case's data went, told from the audit alone: each attempt, each agent, each place, failed ones too."""

import csv
import hashlib
import io
import json
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.cli.disclosures import as_csv, as_fhir, as_ndjson
from orchestrator.domain.disclosure import OPEN, Disclosure, disclosures, result_detail
from orchestrator.domain.task import Consent
from orchestrator.outbound.ports import Garbled, Refused, Succeeded
from orchestrator.storage.memory import MemoryLedger
from orchestrator.testing import ScriptedAgents, a_request, an_agent, embedded

pytestmark = pytest.mark.anyio

OUTPUT = {"b": [1, "ä"], "a": None}
SECOND: dict[str, Any] = {"ORCHESTRATOR_RETRY_BASE": "0.01", "ORCHESTRATOR_RETRY_CAP_S": "0.02"}


async def of_case(ledger: MemoryLedger, case_id: str = "case-1") -> list[Disclosure]:
    return list(disclosures([e async for e in ledger.audit_chain("main") if e.case_id == case_id]))


async def a_case() -> list[Disclosure]:
    """A case with one task that failed at one agent and was done by another, and one task that nobody got."""
    agents = ScriptedAgents(edge_1=[Garbled("status_500")], cloud_1=[Succeeded(OUTPUT, "model-7")])
    ledger = MemoryLedger()
    async with embedded(agents, ledger, **SECOND) as system:
        await system.gateway.register(an_agent("edge-1", location="edge-clinic", model_version="model-6"))
        await system.gateway.register(an_agent("cloud-1", location="dc-west"))
        routed = await system.route(a_request(consent=Consent(consent_given=True, consent_id="consent-9")))
        await system.gateway.task(routed.record.task.task_id, 20)
        await system.route(a_request("indexing"))
        await system.route(a_request(case_id="case-2"))
    return await of_case(ledger)


async def test_a_task_that_was_tried_twice() -> None:
    """Both attempts are told: agent, place, version, consent, outcome, reason, and a hash of the result."""
    failed, done = await a_case()
    assert (failed.agent_id, failed.location, failed.attempt) == ("edge-1", "edge-clinic", 1)
    assert failed.model_version == "model-6"
    assert (failed.outcome, failed.reason, failed.result_sha256) == ("retry_scheduled", "status_500", None)
    assert (done.agent_id, done.location, done.attempt, done.model_version) == ("cloud-1", "dc-west", 2, "model-7")
    assert (done.outcome, done.reason) == ("succeeded", None)
    compact = json.dumps(OUTPUT, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert done.result_sha256 == hashlib.sha256(compact.encode()).hexdigest()
    assert {one.consent_id for one in (failed, done)} == {"consent-9"}
    assert failed.began_at <= str(failed.ended_at) <= done.began_at <= str(done.ended_at)


async def test_a_synchronous_task_and_one_that_moves_on() -> None:
    """An attempt that begins with the acceptance counts, and so does each agent that a task was moved to."""
    agents, ledger = ScriptedAgents(away=[Refused()], light=[Succeeded(1)]), MemoryLedger()
    async with embedded(agents, ledger) as system:
        for name, location in (("away", "edge-a"), ("light", "b")):
            await system.gateway.register(an_agent(name, "analyze_light", location=location, model_version=f"m-{name}"))
        await system.route(a_request("analyze_monitor"))
    first, second = await of_case(ledger)
    assert [(one.agent_id, one.outcome) for one in (first, second)] == [("away", "moved"), ("light", "succeeded")]
    assert [(one.location, one.model_version) for one in (first, second)] == [("edge-a", "m-away"), ("b", "m-light")]
    assert first.audit_ended == second.audit_began


async def test_an_attempt_that_still_runs() -> None:
    """Is told as open: the data is with the agent already."""
    found = (await a_case())[0]
    entries = MemoryLedger()
    async with embedded(ScriptedAgents(agent_1=[Garbled("x")]), entries) as system:
        await system.gateway.register(an_agent())
        routed = await system.route(a_request())
        await system.gateway.task(routed.record.task.task_id, 0.2)
    trail = [e async for e in entries.audit_chain("main") if e.case_id]
    begun = next(place for place, entry in enumerate(trail) if entry.event == "leased")
    (running,) = disclosures(trail[: begun + 1])
    assert (running.outcome, running.ended_at, running.audit_ended) == (OPEN, None, None)
    assert found.outcome != OPEN


async def test_the_same_in_every_format() -> None:
    """NDJSON and CSV hold every field of every attempt."""
    found = await a_case()
    lines = [json.loads(line) for line in as_ndjson(found).splitlines()]
    rows = list(csv.DictReader(io.StringIO(as_csv(found).decode())))
    assert [line["agent_id"] for line in lines] == ["edge-1", "cloud-1"]
    assert set(lines[0]) == set(rows[0]) == set(Disclosure.__struct_fields__)
    for line, row in zip(lines, rows, strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in line.items()}


async def test_the_bundle_is_valid_fhir() -> None:
    """As fhir.resources reads R4; an attempt that failed says so, a result is named by its hash only."""
    from fhir.resources.R4B.bundle import Bundle

    made = as_fhir(await a_case())
    bundle = Bundle.model_validate_json(made)
    assert bundle.entry is not None
    events: list[Any] = [entry.resource for entry in bundle.entry]
    assert [event.outcome for event in events] == ["4", "0"]
    assert events[0].outcomeDesc == "status_500"
    assert events[1].agent[0].who.identifier.value == "cloud-1"
    assert events[1].agent[0].location.display == "dc-west"
    details = {detail.type: detail.valueString for detail in events[1].entity[1].detail}
    assert set(details) == {"attempt", "model_version", "consent_id", "result_sha256", "audit_began", "audit_ended"}
    assert b"private" not in made
    empty = Bundle.model_validate_json(as_fhir([]))
    assert not empty.entry


async def test_names_that_a_spreadsheet_would_run() -> None:
    """Are text in the CSV."""
    (first, *_) = await a_case()
    hostile = replace(first, location="=1+1")
    (row,) = csv.DictReader(io.StringIO(as_csv([hostile]).decode()))
    assert row["location"] == "'=1+1"


def test_what_no_ledger_stores() -> None:
    """Has no hash, and breaks nothing."""
    assert result_detail(object()) is None
