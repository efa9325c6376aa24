"""The alert rules and the dashboard: sound in themselves, and about metrics that there are."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.testing import ScriptedAgent, Service

ROOT = Path(__file__).resolve().parents[2]
PROMTOOL = shutil.which("promtool") or shutil.which("promtool", path=str(ROOT / ".tools"))
OF_PROMETHEUS = {"up": {"job", "instance"}}
OF_SCRAPING = {"job", "instance"}

needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="NOT CHECKED: the tests of the alerts need promtool (Debian: apt-get install prometheus)"
)
pytestmark = pytest.mark.anyio


@pytest.fixture
def rules(deploy: Path) -> list[dict[str, Any]]:
    return yaml.safe_load((deploy / "monitoring/alerts.yml").read_text("utf-8"))["groups"][0]["rules"]


@pytest.fixture
def panels(deploy: Path) -> list[dict[str, Any]]:
    return json.loads((deploy / "monitoring/dashboard.json").read_text("utf-8"))["panels"]


def expressions(rules: list[dict[str, Any]], panels: list[dict[str, Any]]) -> Iterator[str]:
    yield from (rule["expr"] for rule in rules)
    # Grafana puts in what a parser of PromQL cannot know.
    yield from (target["expr"].replace("$__rate_interval", "1m") for panel in panels for target in panel["targets"])


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric of the expression, and the labels that it is chosen by. ValueError where it is no PromQL."""
    text = promql.parse(expression).prettify()
    for name, matchers in re.findall(r"\b(up|orchestrator_\w+)\s*(?:\{([^}]*)\})?", text):
        yield name, set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"", matchers))


async def exposed(service: Service) -> dict[str, set[str]]:
    """The samples of the product's own /metrics, with their labels."""
    text = (await service.ask("GET", "/metrics")).body.decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


async def test_every_metric_is_one_of_the_products(rules, panels, tmp_path: Path):
    """By its name and its labels, as /metrics shows them after a task was done, one was refused, and one waits."""
    async with Service(tmp_path / "ledger.db") as service, ScriptedAgent("agent-1") as agent:
        await service.ask("POST", "/register_agent", json=agent.registration)
        task = {"case_id": "c", "task_type": "embed", "payload": {}}
        routed = await service.ask("POST", "/route_task", json=task)
        await service.ask("GET", f"/task/{routed.json['task_id']}?wait=10")
        await service.ask("POST", "/route_task", json=task | {"payload": {"image": "x"}})
        await service.ask("POST", "/route_task", json=task | {"task_type": "audit_log"})
        there = OF_PROMETHEUS | await exposed(service)
    # These count what does not happen in a good hour, so they have no sample yet.
    there |= {"orchestrator_actor_restarts_total": {"actor"}, "orchestrator_sync_attempts_total": {"outcome"}}
    seen: set[str] = set()
    for expression in expressions(rules, panels):
        for name, labels in selectors(expression):
            seen.add(name)
            assert name in there, f"{name} in {expression}"
            assert labels <= there[name] | OF_SCRAPING, f"{name}{labels} in {expression}"
    assert len(seen) >= 15


def test_each_alert_says_what_to_do(rules, deploy: Path):
    """How bad it is, what is the case, and a paragraph in the manual under its own name."""
    manual = (deploy.parent / "docs/operations.md").read_text("utf-8")
    names = [rule["alert"] for rule in rules]
    assert len(names) == len(set(names))
    for rule in rules:
        assert rule["labels"]["severity"] in {"warning", "critical"}, rule
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        paragraph = re.search(rf"^### {rule['alert']}\n(.+?)(?=\n#|\Z)", manual, re.M | re.S)
        assert paragraph is not None, rule["alert"]
        assert len(paragraph[1]) > 80, rule["alert"]
    assert re.findall(r"^### (Orchestrator\w+)$", manual, re.M) == names


def test_each_alert_has_a_test(rules, deploy: Path):
    """One in which it is raised, and one in which it is not."""
    cases = yaml.safe_load((deploy / "monitoring/alerts_test.yml").read_text("utf-8"))["tests"]
    outcomes = {rule["alert"]: set[bool]() for rule in rules}
    for check in (check for case in cases for check in case["alert_rule_test"]):
        outcomes[check["alertname"]].add(bool(check["exp_alerts"]))
    assert {name for name, both in outcomes.items() if both != {True, False}} == set()


@needs_promtool
@pytest.mark.parametrize("arguments", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml"),
                                       ("check", "config", "--syntax-only", "prometheus.yml")])  # fmt: skip
def test_with_promtool(arguments: tuple[str, ...], deploy: Path):
    """Prometheus itself takes the rules, and raises each alert over made-up series when it should and only then."""
    command = [PROMTOOL or "", *arguments]
    done = subprocess.run(command, cwd=deploy / "monitoring", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard(panels):
    """Each panel has a place of its own, a title, and lines that are named."""
    assert sorted(panel["id"] for panel in panels) == list(range(1, len(panels) + 1))
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels) >= 12
    for panel in panels:
        assert panel["title"], panel
        assert panel["datasource"]["uid"] == "${datasource}", panel
        assert all("$instance" in target["expr"] for target in panel["targets"]), panel
