"""The chart, rendered by Helm's own engine (as a library; no cluster), each switch on and off.

Every manifest is validated strictly against the schemas of Kubernetes; objects of operators, for which there are none
here, only for what we put into them.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import serving
from orchestrator.settings import load
from orchestrator.web.safety import check, dangers

helm = pytest.importorskip("helm_python", reason="NOT CHECKED: Helm's engine has no build for this platform")
kubernetes_validate = pytest.importorskip("kubernetes_validate")

KUBERNETES = ("1.30", "1.37")
OF_OPERATORS = {"ServiceMonitor", "PrometheusRule", "ExternalSecret"}
Manifest = dict[str, Any]
Values = dict[str, Any]

EXISTING: Values = {"database": {"mode": "existing", "existingSecret": "db"}}
OWN: Values = {"database": {"mode": "own"}}
BOTH_OWN: Values = {"database": {"mode": "own"}, "redis": {"mode": "own"}}
STORE = {"storeName": "store", "remoteKey": "key"}
EXTERNAL: Values = {"database": {"mode": "external", "externalSecret": STORE}}
AGENTS: Values = {
    "insecure": True,
    "agents": {"allowPlaintext": True, "embedder": {"enabled": True}, "modelreasoner": {"enabled": True}},
}
INGRESS: Values = {"ingress": {"enabled": True}}


@pytest.fixture(scope="module")
def path() -> Path:
    return Path(__file__).resolve().parents[2] / "deploy/charts/pediagents"


@pytest.fixture(scope="module")
def chart(path: Path) -> Iterator[Any]:
    with helm.Chart.load(path) as loaded:
        yield loaded


@pytest.fixture
def render(chart: Any):
    """The manifests, by kind and name, for these values."""

    def rendered(values: Values, **options: Any) -> dict[str, Manifest]:
        found: dict[str, Manifest] = {}
        chart.validate_schema(values)
        for file, text in chart.render(values, name="demo", namespace="clinic", **options).items():
            if file.endswith(".yaml"):
                for manifest in yaml.safe_load_all(text):
                    if manifest:
                        key = f"{manifest['kind']}/{manifest['metadata']['name']}"
                        assert key not in found, f"{key} is there twice"
                        found[key] = manifest
        return found

    return rendered


CASES: dict[str, tuple[Values, set[str], set[str]]] = {
    # What the values are, what there is then, and what there is not.
    "defaults": (
        {},
        {
            "Deployment/demo-pediagents",
            "PersistentVolumeClaim/demo-pediagents",
            "NetworkPolicy/demo-pediagents",
            "PodDisruptionBudget/demo-pediagents",
            "ServiceAccount/demo-pediagents",
            "Pod/demo-pediagents-smoke",
        },
        {
            "Job",
            "HorizontalPodAutoscaler",
            "Ingress",
            "ServiceMonitor",
            "PrometheusRule",
            "StatefulSet",
            "Secret",
            "ExternalSecret",
        },
    ),
    "database existing": (
        EXISTING,
        {"Job/demo-pediagents-migration"},
        {"PersistentVolumeClaim", "Secret", "StatefulSet"},
    ),
    "database external": (EXTERNAL, {"ExternalSecret/demo-pediagents-database"}, {"StatefulSet", "Secret"}),
    "database own": (
        OWN,
        {
            "StatefulSet/demo-pediagents-database",
            "Service/demo-pediagents-database",
            "Secret/demo-pediagents-database",
            "NetworkPolicy/demo-pediagents-database",
        },
        {"ExternalSecret"},
    ),
    "redis existing": ({**EXISTING, "redis": {"mode": "existing", "existingSecret": "r"}}, set(), {"StatefulSet"}),
    "redis external": (
        {**EXISTING, "redis": {"mode": "external", "externalSecret": STORE}},
        {"ExternalSecret/demo-pediagents-redis"},
        set(),
    ),
    "redis own": (BOTH_OWN, {"StatefulSet/demo-pediagents-redis", "Secret/demo-pediagents-redis"}, set()),
    "migration off": ({**OWN, "migration": {"enabled": False}}, set(), {"Job"}),
    "agents": (
        AGENTS,
        {
            f"{kind}/demo-pediagents-{name}"
            for kind in ("Deployment", "Service", "NetworkPolicy")
            for name in ("embedder", "modelreasoner")
        },
        set(),
    ),
    "one agent with images": (
        {"agents": {"embedder": {"enabled": True, "imagesClaim": "images"}}},
        {"Deployment/demo-pediagents-embedder"},
        set(),
    ),
    "ingress": (INGRESS, {"Ingress/demo-pediagents"}, set()),
    "ingress without TLS": (
        {"ingress": {"enabled": True, "tls": {"enabled": False}}},
        {"Ingress/demo-pediagents"},
        set(),
    ),
    "ingress with mTLS": (
        {"ingress": {"enabled": True, "mtls": {"enabled": True, "caSecret": "clinic/ca"}, "tls": {"issuer": "i"}}},
        {"Ingress/demo-pediagents"},
        set(),
    ),
    "autoscaling": ({**OWN, "autoscaling": {"enabled": True}}, {"HorizontalPodAutoscaler/demo-pediagents"}, set()),
    "autoscaling by CPU alone": (
        {**OWN, "autoscaling": {"enabled": True, "queueLength": 0}},
        {"HorizontalPodAutoscaler/demo-pediagents"},
        set(),
    ),
    "disruption budget off": ({"podDisruptionBudget": {"enabled": False}}, set(), {"PodDisruptionBudget"}),
    "spread off": ({"topologySpread": {"enabled": False}}, {"Deployment/demo-pediagents"}, set()),
    "network policy off": ({**BOTH_OWN, **AGENTS, "networkPolicy": {"enabled": False}}, set(), {"NetworkPolicy"}),
    "network policy with places": (
        {"networkPolicy": {"agents": [{"cidr": "10.0.0.0/8", "ports": [443]}], "clients": [{"app": "portal"}]}},
        {"NetworkPolicy/demo-pediagents"},
        set(),
    ),
    "service monitor": (
        {"serviceMonitor": {"enabled": True, "labels": {"a": "b"}}},
        {"ServiceMonitor/demo-pediagents"},
        set(),
    ),
    "rules": ({"prometheusRule": {"enabled": True, "labels": {"a": "b"}}}, {"PrometheusRule/demo-pediagents"}, set()),
    "service account of another": (
        {"serviceAccount": {"create": False, "name": "other"}},
        {"Deployment/demo-pediagents"},
        {"ServiceAccount"},
    ),
    "smoke test off": ({"smokeTest": {"enabled": False}}, set(), {"Pod"}),
    "load balancer": (
        {"service": {"type": "LoadBalancer", "annotations": {"a": "b"}}},
        {"Service/demo-pediagents"},
        set(),
    ),
    "everything of scheduling": (
        {
            **BOTH_OWN,
            **AGENTS,
            "nodeSelector": {"a": "b"},
            "tolerations": [{"operator": "Exists"}],
            "priorityClassName": "p",
            "affinity": {"nodeAffinity": {}},
            "imagePullSecrets": ["pull"],
            "podLabels": {"a": "b"},
            "podAnnotations": {"a": "b"},
        },
        set(),
        set(),
    ),
    "tokens": (
        {
            "auth": {"jwt": {"keys": "https://issuer.example/jwks", "issuer": "i", "audience": "a"}},
            "smokeTest": {"tokenSecret": "smoke"},
        },
        {"Deployment/demo-pediagents"},
        set(),
    ),
    "names": ({"fullnameOverride": "router", "image": {"digest": "sha256:" + "0" * 64}}, {"Deployment/router"}, set()),
    "more of everything": (
        {
            "extraArgs": ["--settings", "/x"],
            "credentials": ["keys"],
            "config": {"LOG_LEVEL": "DEBUG"},
            "telemetry": {"otlpEndpoint": "http://collector:4318"},
        },
        {"Deployment/demo-pediagents"},
        set(),
    ),
}


VALID: set[str] = set()
"""Manifests that were found valid, as JSON: most are the same from case to case."""


def valid(manifests: dict[str, Manifest]) -> None:
    for key, manifest in manifests.items():
        if manifest["kind"] in OF_OPERATORS:
            assert re.fullmatch(r"[a-z.-]+\.(com|io)/v1", manifest["apiVersion"]), key
            assert manifest["spec"], key
        elif (text := json.dumps(manifest)) not in VALID:
            for version in KUBERNETES:
                kubernetes_validate.validate(manifest, version, strict=True)
            VALID.add(text)


@pytest.mark.parametrize("case", CASES)
def test_a_switch(case: str, render: Any):
    """What it switches is there or is not, and all that there is is valid."""
    values, present, absent = CASES[case]
    found = render(values)
    valid(found)
    assert present <= set(found)
    assert absent.isdisjoint(key.split("/")[0] for key in found)


@pytest.mark.parametrize("file", ["values-dev.yaml", "values.prod.yaml"])
def test_the_values_that_ship(file: str, path: Path, render: Any):
    """They are valid, and so is what they make."""
    valid(render(yaml.safe_load((path / file).read_text("utf-8"))))


def test_lint(path: Path):
    """Helm's own linter has nothing to say but that there is no icon."""
    report = helm.lint(path, strict=True)
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]
    assert report["errors"] == []


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"replicas": 2}, "need PostgreSQL"),
        ({"autoscaling": {"enabled": True}}, "need PostgreSQL"),
        ({"database": {"mode": "existing"}}, "existingSecret is needed"),
        ({"database": {"mode": "external"}}, "storeName is needed"),
        ({"ingress": {"enabled": True, "mtls": {"enabled": True}}}, "caSecret is needed"),
        ({"database": {"mode": "oracle"}}, "mode"),
        ({"auth": {"apiKeys": False}}, "asked who they are"),
        ({"auth": {"apiKeys": False, "jwt": {"keys": "https://issuer.example/jwks"}}}, "issuer is needed"),
        ({"agents": {"allowPlaintext": True, "embedder": {"enabled": True}}}, "plain http"),
        ({"replica": 2}, "replica"),
        ({"streams": {"urgent": "two words"}}, "urgent"),
        ({"config": {"lower": "x"}}, "lower"),
    ],
)
def test_values_that_cannot_be(values: Values, why: str, render: Any):
    """They are refused by what is wrong with them, before anything is made."""
    with pytest.raises(helm.HelmError, match=why):
        render(values)


def test_every_value_has_its_words_and_its_type(path: Path, chart: Any):
    """The schema knows exactly the values that there are, and each block of them is explained."""

    def paths(tree: Any, prefix: str = "") -> Iterator[str]:
        for key, value in tree.items():
            yield prefix + key
            if isinstance(value, dict) and value:
                yield from paths(value, f"{prefix}{key}.")

    def declared(schema: Any, prefix: str = "") -> Iterator[str]:
        for key, value in schema.get("properties", {}).items():
            yield prefix + key
            yield from declared(value, f"{prefix}{key}.")

    free = re.compile(r"\.(requests|limits)\.|^affinity\.")
    known = set(declared(chart.schema))
    assert {one for one in paths(chart.values) if not free.search(one)} <= known
    values = set(paths(chart.values))
    assert {one for one in known if "." not in one and one != "global"} <= values
    lines = (path / "values.yaml").read_text("utf-8").splitlines()
    blocks = [number for number, line in enumerate(lines) if re.match(r"[a-z]\w+:", line)]
    assert len(blocks) == len(chart.values)


def environment(found: dict[str, Manifest], name: str = "demo-pediagents") -> dict[str, str]:
    return found[f"ConfigMap/{name}"]["data"]


@pytest.mark.parametrize("case", ["defaults", "database own", "agents", "tokens", "more of everything"])
def test_the_settings_are_settings(case: str, render: Any):
    """The orchestrator reads what the ConfigMap tells it; streams, retries and agents come out as the values say."""
    found = render(CASES[case][0])
    settings = load(environ=environment(found))
    check(settings)
    assert dangers(settings) == (["plaintext agents beyond this machine"] if case == "agents" else [])
    assert settings.queue.stream_urgent == "tasks:urgent"
    assert (settings.retry.max_retries, settings.queue.stream_maxlen) == (3, 10_000)
    if case == "agents":
        assert settings.agents.allowed_hosts == ("demo-pediagents-embedder", "demo-pediagents-modelreasoner")


def test_secrets_reach_the_process_as_files(render: Any):
    """Of the chart's own stores, each under the name of its variable, and the password is in no ConfigMap."""
    found = render(BOTH_OWN)
    pod = found["Deployment/demo-pediagents"]["spec"]["template"]["spec"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "credentials"]
    items = [source["secret"]["items"][0]["path"] for source in volume["projected"]["sources"] if "secret" in source]
    assert items == ["DATABASE_URL", "REDIS_URL"]
    password = found["Secret/demo-pediagents-database"]["stringData"]["password"]
    assert len(password) >= 32
    assert password in found["Secret/demo-pediagents-database"]["stringData"]["DATABASE_URL"]
    assert not [key for key, one in found.items() if password in json.dumps(one) and not key.startswith("Secret/")]


def pods(found: dict[str, Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, manifest in found.items():
        if manifest["kind"] == "Pod":
            yield key, manifest["spec"]
        elif "template" in manifest["spec"] if isinstance(manifest.get("spec"), dict) else False:
            yield key, manifest["spec"]["template"]["spec"]


def test_what_a_pod_may_do(render: Any):
    """None is root, writes to its file system, talks to the API server, or has a capability or no limit."""
    seen: list[str] = []
    for key, pod in pods(render({**BOTH_OWN, **AGENTS})):
        seen.append(key)
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, key
        assert security["runAsUser"] > 0, key
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, key
        assert pod["automountServiceAccountToken"] is False, key
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True, key
            assert own["allowPrivilegeEscalation"] is False, key
            assert own["capabilities"] == {"drop": ["ALL"]}, key
            assert container["resources"]["limits"]["memory"], key
    assert len(seen) == 7


@pytest.mark.parametrize("drain", [0, 25, 300])
def test_the_drain_has_its_time(drain: int, render: Any):
    """Kubernetes is more patient than the process that drains."""
    found = render({"drainSeconds": drain})
    pod = found["Deployment/demo-pediagents"]["spec"]["template"]["spec"]
    within = load(environ=environment(found)).dispatch.drain_s + serving.HARD_STOP_MARGIN_S
    assert pod["terminationGracePeriodSeconds"] > within + 5
    (container,) = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"


def test_an_image_by_its_digest(render: Any):
    """It wins over the tag."""
    pod = render(CASES["names"][0])["Deployment/router"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "orchestrator@sha256:" + "0" * 64


def test_who_may_talk_to_whom(render: Any):
    """Out: the name service, and agents, database and Redis only where there are such."""

    def out(values: Values) -> set[int]:
        rules = render(values)["NetworkPolicy/demo-pediagents"]["spec"]["egress"]
        return {port["port"] for rule in rules for port in rule["ports"]}

    assert out({}) == {53}
    assert out({**BOTH_OWN, **AGENTS}) == {53, 9000, 5432, 6379}
    assert out(CASES["network policy with places"][0]) == {53, 443}


def test_the_smoke_test_and_the_rules_are_the_ones_that_ship(render: Any, path: Path):
    """Not copies that could differ."""
    found = render({"prometheusRule": {"enabled": True}})
    script = (path.parents[2] / "scripts/smoke_test.sh").read_text("utf-8")
    assert found["ConfigMap/demo-pediagents-smoke"]["data"]["smoke_test.sh"].strip() == script.strip()
    rules = yaml.safe_load((path.parents[1] / "monitoring/alerts.yml").read_text("utf-8"))
    assert found["PrometheusRule/demo-pediagents"]["spec"] == rules
