"""Audit, health, readiness, metrics, and the description of the API."""

import re
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator import __version__
from orchestrator.testing import ScriptedAgent, Service, a_task
from orchestrator.web.app import build_app
from orchestrator.web.rights import PAGES

pytestmark = pytest.mark.anyio

METRICS = {
    "orchestrator_tasks": {"task_type", "priority"},
    "orchestrator_tasks_queued": {"queue"},
    "orchestrator_tasks_failed": {"reason"},
    "orchestrator_queue_size": {"queue"},
    "orchestrator_sync_attempts": {"outcome"},
}
ENTRY = {
    "writer", "seq", "audit_id", "event", "created_at", "task_id", "case_id", "router_decision", "agent_id",
    "model_version", "consent_id", "status", "attempt", "reason", "detail", "principal", "prev_hash", "entry_hash",
}  # fmt: skip


async def test_health_and_readiness(service: Service) -> None:
    """Say so."""
    health, ready = await service.ask("GET", "/health"), await service.ask("GET", "/ready")
    assert (health.status, health.json) == (200, {"status": "ok", "version": __version__})
    assert (ready.status, ready.json) == (200, {"ready": True, "reasons": []})


async def test_the_audit_of_a_task(service: Service) -> None:
    """Every decision has its entry, chained to the one before, with the decision as an object."""
    async with ScriptedAgent("agent-1", {"success": True, "output": 1, "model_version": "m7"}) as agent:
        await agent.register(service)
        consent = {"consent_given": True, "consent_id": "consent-7"}
        task_id = (await service.route({"case_id": "case-7", "consent": consent})).json["task_id"]
        await service.ended(task_id)
    entries = await service.audit(task_id=task_id)
    assert [(e["event"], e["status"], e["attempt"]) for e in entries] == [
        ("accepted", "queued", 0),
        ("leased", "leased", 1),
        ("succeeded", "succeeded", 1),
    ]
    assert all(set(entry) == ENTRY for entry in entries)
    assert {(e["case_id"], e["consent_id"]) for e in entries} == {("case-7", "consent-7")}
    assert entries[0]["router_decision"]["ranking"] == ["agent-1"]
    assert entries[-1]["model_version"] == "m7"
    everything = await service.audit()
    assert [e["seq"] for e in everything] == [1, 2, 3, 4]
    assert all(b["prev_hash"] == a["entry_hash"] for a, b in pairwise(everything))


async def test_the_audit_page_by_page(service: Service) -> None:
    """Pages join without gap or overlap, for every filter."""
    for number in range(7):
        await service.route({"case_id": f"case-{number % 2}"})
    events = ("&event=accepted", "&event=accepted&case_id=case-0")
    instants = ("&since=2000-01-01T00:00:00Z", "&since=2000-01-01T00:00:00%2B02:00")
    for query in ("", "&case_id=case-0", *events, *instants):
        whole = (await service.ask("GET", f"/audit?limit=1000{query}")).json
        assert whole["next"] is None
        found, after = [], 0
        while after is not None:
            page = (await service.ask("GET", f"/audit?limit=3&after={after}{query}")).json
            assert set(page) == {"entries", "next", "complete_since"}
            assert len(page["entries"]) <= 3
            found += page["entries"]
            after = page["next"]
        assert found == whole["entries"]
        assert len(found) == (4 if "case_id" in query else 7)
    nothing = {"entries": [], "next": None, "complete_since": None}
    assert (await service.ask("GET", "/audit?since=2999-01-01T00:00:00Z")).json == nothing
    assert (await service.ask("GET", "/audit?task_id=none")).json["entries"] == []
    assert (await service.ask("GET", "/audit?event=leased")).json["entries"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/audit?limit=0", "/audit?limit=1001", "/audit?limit=-1", "/audit?limit=1e3", "/audit?limit=",
        "/audit?limit=%D9%A3",
        "/audit?limit=1&limit=2", "/audit?after=-1", "/audit?after=99999999999999999999", "/audit?after=x",
        "/audit?since=yesterday", "/audit?since=2024-01-01", "/audit?since=2024-01-01T00:00:00", "/audit?since=",
        "/audit?since=0001-01-01T00:00:00%2B23:59", "/audit?since=9999-12-31T23:59:59-23:59", "/audit?since=1&since=2",
        "/audit?task_id=a&task_id=b", "/audit?event=a&event=b",
        "/dlq?limit=x", "/dlq?limit=0", "/dlq?after=-1", "/task/x?wait=x",
        "/task/x?wait=-1",
        "/task/x?wait=nan", "/task/x?wait=inf", "/task/x?wait=1_0", "/task/x?wait=", "/task/x?wait=1e400",
        "/task/x?wait=1&wait=2", "/task/x?wait=%D9%A3",
    ],
)  # fmt: skip
async def test_bad_numbers_and_dates(service: Service, path: str) -> None:
    """422, which names the parameter."""
    reply = await service.ask("GET", path)
    assert (reply.status, reply.json["code"]) == (422, "E_VALIDATION"), reply
    assert reply.json["detail"].startswith(re.split(r"[?=]", path)[1] + ":")


async def test_the_metrics(service: Service) -> None:
    """Have the published names and labels, count what happened, and hold no id of a task, case, consent or agent."""
    async with ScriptedAgent("agent-canary", capabilities=["embed", "analyze_light"]) as agent:
        await agent.register(service)
        ids = ["agent-canary", "case-canary", "consent-canary", "key-canary"]
        task = {"case_id": ids[1], "consent": {"consent_given": True, "consent_id": ids[2]}, "idempotency_key": ids[3]}
        for kind in ("embed", "analyze_monitor"):
            reply = await service.route({**task, "task_type": kind, "idempotency_key": f"{ids[3]}-{kind}"})
            ids.append(reply.json["task_id"])
            await service.ended(ids[-1])
        await service.route({"payload": {"image": 1}, "case_id": ids[1]})
    reply = await service.ask("GET", "/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = reply.body.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, labels in METRICS.items():
        assert all(set(sample.labels) == labels for sample in families[name].samples), name
        assert families[name].samples, name
    assert 'orchestrator_tasks_total{priority="normal",task_type="embed"} 1.0' in text
    assert 'orchestrator_tasks_queued_total{queue="tasks:normal"} 1.0' in text
    assert 'orchestrator_tasks_failed_total{reason="E_CONSENT_REQUIRED"} 1.0' in text
    assert 'orchestrator_sync_attempts_total{outcome="completed"} 1.0' in text
    assert 'orchestrator_queue_size{queue="tasks:urgent"} 0.0' in text
    for name in (
        "queue_oldest_age_seconds", "decision_seconds", "dispatch_seconds", "mailbox_depth", "actor_restarts", "agents",
        "agent_ejections", "audit_lag_seconds", "event_loop_lag_seconds",
    ):  # fmt: skip
        assert f"orchestrator_{name}" in families
    assert not [canary for canary in ids if canary in text]


async def test_the_description_of_the_api(service: Service) -> None:
    """Describes every call of the application and no other, each by the rules of OpenAPI 3.1."""
    reply = await service.ask("GET", "/openapi.json")
    document = reply.json
    assert reply.headers["Content-Type"] == "application/json"
    assert document["openapi"].startswith("3.1.")
    assert document["info"] == {"title": "Routing Orchestrator", "version": __version__}
    app = build_app(service.orchestrator.gateway, service.orchestrator.telemetry, service.settings)
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if f"{method} {rule.rule}" not in PAGES
    }
    described = {
        (path, method): operation for path, item in document["paths"].items() for method, operation in item.items()
    }
    assert set(described) == routes
    names = [operation["operationId"] for operation in described.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"\w+", name) for name in names)
    for (path, method), operation in described.items():
        assert operation["summary"]
        in_path = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path)), path
        assert all(p["required"] and "schema" in p for p in operation["parameters"] if p["in"] == "path")
        assert all(re.fullmatch(r"[1-5]\d\d|default", status) for status in operation["responses"])
        assert all("$ref" in response or response["description"] for response in operation["responses"].values())
        assert "requestBody" not in operation or method == "post"
    assert set(document["paths"]["/route_task"]["post"]["responses"]) >= {"200", "202", "default"}
    assert not list(unresolved(document, document))


def unresolved(value: Any, document: Any):
    """References that lead nowhere."""
    if isinstance(value, dict):
        if "$ref" in value:
            target = document
            for part in value["$ref"].removeprefix("#/").split("/"):
                target = target.get(part, {})
            if not target:
                yield value["$ref"]
        for item in value.values():
            yield from unresolved(item, document)
    elif isinstance(value, list):
        for item in value:
            yield from unresolved(item, document)


async def test_the_schema_of_a_task(service: Service) -> None:
    """Names the fields that are accepted, and no others are."""
    schemas = (await service.ask("GET", "/openapi.json")).json["components"]["schemas"]
    task = schemas["TaskRequest"]
    assert task["additionalProperties"] is False
    assert set(task["required"]) == set(a_task())
