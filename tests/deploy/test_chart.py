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
from chart_cases import AGENTS, BOTH_OWN, CASES, INGRESS, Values

from orchestrator import serving
from orchestrator.domain.identity import Principal, Scope
from orchestrator.settings import Settings, load
from orchestrator.web.safety import check, dangers

kubernetes_validate = pytest.importorskip("kubernetes_validate")

KUBERNETES = ("1.30", "1.37")
OF_OPERATORS = {"ServiceMonitor", "PrometheusRule", "ExternalSecret", "Certificate"}
Manifest = dict[str, Any]


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
    assert absent.isdisjoint(found)
    assert absent.isdisjoint(key.split("/")[0] for key in found)


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def test_each_switch_is_on_and_off(chart: Any):
    """The table turns every yes or no of the values both ways, and every choice to each of its ends."""
    seen = {name: {value} for name, value in leaves(chart.values) if isinstance(value, bool) or name.endswith(".mode")}
    for values, _, _ in CASES.values():
        for name, value in leaves(values):
            if name in seen:
                seen[name].add(value)
    stores = {"database.mode": 4, "redis.mode": 4}
    assert {name for name, both in seen.items() if len(both) != stores.get(name, 2)} == set()
    assert len(seen) >= 20


@pytest.mark.parametrize("file", ["values-dev.yaml", "values.prod.yaml"])
def test_the_values_that_ship(file: str, path: Path, render: Any):
    """They are valid, and so is what they make."""
    valid(render(yaml.safe_load((path / file).read_text("utf-8"))))


def test_lint(helm: Any, path: Path):
    """Helm's own linter has nothing to say but that there is no icon."""
    report = helm.lint(path, strict=True)
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]
    assert report["errors"] == []


REFUSED: list[tuple[Values, str]] = [
    ({"replicas": 2}, "need PostgreSQL"),
    ({"autoscaling": {"enabled": True}}, "need PostgreSQL"),
    ({"database": {"mode": "existing"}}, "existingSecret is needed"),
    ({"database": {"mode": "external"}}, "storeName is needed"),
    ({"redis": {"mode": "external", "externalSecret": {"storeName": "store"}}}, "remoteKey is needed"),
    ({"ingress": {"enabled": True, "mtls": {"enabled": True}}}, "caSecret is needed"),
    (
        {"insecure": True, "ingress": {"enabled": True, "tls": {"enabled": False}, "mtls": {"enabled": True}}},
        "mtls needs",
    ),
    ({"ingress": {"enabled": True, "tls": {"enabled": False}}}, "read on the way"),
    ({"auth": {"apiKeys": False, "firstKeys": {"enabled": False}}}, "asked who they are"),
    (
        {"auth": {"apiKeys": False, "firstKeys": {"enabled": False}, "certificates": ["a tasks:read"]}},
        "asked who they are",
    ),
    ({"auth": {"jwt": {"keys": "https://issuer.example/jwks"}}}, "issuer is needed"),
    ({"auth": {"jwt": {"keys": "https://issuer.example/jwks", "issuer": "i"}}}, "audience is needed"),
    ({"auth": {"jwt": {"keys": "http://issuer.example/jwks"}}}, "keys"),
    ({"auth": {"certificates": ["ward-3.clinic tasks"]}}, "certificates"),
    ({"auth": {"certificateScopes": ["everything"]}}, "certificateScopes"),
    ({"auth": {"firstKey": "secret"}}, "firstKey"),
    ({"tls": {"enabled": True}}, "secretName or tls.issuer is needed"),
    ({"tls": {"clientCASecret": "clients"}}, "needs tls.enabled"),
    ({"tls": {"secretName": "Not A Name"}}, "secretName"),
    ({"agents": {"allowPlaintext": True, "allowedHosts": ["eye"]}}, "plain http"),
    ({"agents": {"allowed": ["eye-1"]}}, "allowed"),
    ({"agents": {"allowed": ["eye-1 embed,ear-1 embed"]}}, "allowed"),
    ({"agents": {"allowedNetworks": ["ward"]}}, "allowedNetworks"),
    ({"retention": {"payloadSeconds": -1}}, "payloadSeconds"),
    ({"retention": {"payload": 1}}, "payload"),
    ({"podDisruptionBudget": {"maxUnavailable": "some"}}, "maxUnavailable"),
    ({"resources": {"limits": {"memory": "much"}}}, "memory"),
    ({"image": {"digest": "sha256:0"}}, "digest"),
    ({"service": {"port": 70000}}, "port"),
    ({"networkPolicy": {"others": [{"cidr": "10.0.0.0/8"}]}}, "others"),
    ({"database": {"mode": "oracle"}}, "mode"),
    ({"replica": 2}, "replica"),
    ({"streams": {"urgent": "two words"}}, "urgent"),
    ({"config": {"lower": "x"}}, "lower"),
]


@pytest.mark.parametrize(("values", "why"), REFUSED)
def test_values_that_cannot_be(values: Values, why: str, render: Any, helm: Any):
    """They are refused by what is wrong with them, before anything is made."""
    with pytest.raises(helm.HelmError, match=why):
        render(values)


OPEN_TO_ALL: Values = {**INGRESS, "insecure": True, "auth": {"apiKeys": False, "firstKeys": {"enabled": False}}}


def test_by_which_names_it_is_called(render: Any):
    """Where nobody is asked who he is, by those of its service and its ingress; otherwise by any."""

    def hosts(values: Values) -> str | None:
        return render(values)["ConfigMap/demo-pediagents"]["data"].get("ORCHESTRATOR_WEB_HOSTS")

    service = "demo-pediagents,demo-pediagents.clinic,demo-pediagents.clinic.svc"
    assert hosts(OPEN_TO_ALL) == f"{service},orchestrator.example.org"
    assert hosts({**OPEN_TO_ALL, "ingress": {"enabled": False}}) == service
    assert hosts(INGRESS) is hosts({"insecure": True}) is None
    assert hosts({**OPEN_TO_ALL, "config": {"ORCHESTRATOR_WEB_HOSTS": "box"}}) == "box"


def test_every_value_has_its_words_and_its_type(path: Path, chart: Any):
    """The schema knows exactly the values there are; beside or above each line of them stands what it means."""

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
    assert {one for one in known if not free.search(one) and one != "global"} <= values
    lines = (path / "values.yaml").read_text("utf-8").splitlines()
    named = [number for number, line in enumerate(lines) if re.match(r" *[a-zA-Z]+:", line)]
    assert len(named) >= len(list(paths(chart.values))) - len([one for one in paths(chart.values) if free.search(one)])
    unexplained = [lines[n] for n in named if "  # " not in lines[n] and not lines[n - 1].lstrip().startswith("# ")]
    assert unexplained == []


def environment(found: dict[str, Manifest], name: str = "demo-pediagents") -> dict[str, str]:
    return found[f"ConfigMap/{name}"]["data"]


@pytest.mark.parametrize("case", CASES)
def test_the_settings_are_settings(case: str, render: Any):
    """The orchestrator starts with what the ConfigMap tells it, and keys: streams, retries, drain as the values say."""
    found = render(CASES[case][0])
    (config,) = (data for key, data in configs(found) if not key.endswith("-smoke"))
    keys = [one["stringData"] for key, one in found.items() if key.endswith("-keys")]
    first = {name: secret[name] for secret in keys for name in secret if name.startswith("ORCHESTRATOR_")}
    settings = load(environ={**config, **first})
    check(settings)
    assert dangers(settings) == (["plaintext agents beyond this machine"] if case == "agents that are called" else [])
    assert settings.queue.stream_urgent == "tasks:urgent"
    assert (settings.retry.max_retries, settings.queue.stream_maxlen) == (3, 10_000)


def configs(found: dict[str, Manifest]) -> Iterator[tuple[str, dict[str, str]]]:
    return ((key, one["data"]) for key, one in found.items() if key.startswith("ConfigMap/"))


def settings_of(case: str, render: Any) -> Settings:
    return load(environ=environment(render(CASES[case][0])))


def test_who_is_let_in(render: Any):
    """Agents of the chart by their lines, beside those of the values; callers by certificate as the values say."""
    lines = {line.split(" ")[0]: line for line in settings_of("agents", render).agents.allowed}
    assert set(lines) == {"embedder-1", "modelreasoner-1"}
    called = settings_of("agents that are called", render).agents
    assert (called.allowed_hosts, called.allowed_networks) == (("eye",), ("10.0.0.0/8",))
    assert [line.split(" ")[0] for line in called.allowed] == ["eye-1", "ear-1"]
    auth = settings_of("client certificates", render).auth
    assert (auth.certificate_ca_file, auth.certificate_required) == ("/run/client-ca/ca.crt", False)
    assert (len(auth.certificates), auth.certificate_scopes) == (2, (Scope.AGENTS_READ,))
    tokens = settings_of("tokens", render).auth
    assert (tokens.jwt_keys, tokens.jwt_issuer, tokens.jwt_audience) == ("https://issuer.example/jwks", "i", "a")


def test_what_is_kept(render: Any):
    """As long as the values say, and for ever where they say nothing."""
    kept = settings_of("retention", render).retention
    assert (kept.payload_s, kept.result_s, kept.task_s, kept.dead_letter_s) == (86_400, 3_600, 315_360_000, 0)


def test_each_key_is_another(render: Any):
    """Made at random at each installation, each for one holder; the operator's opens everything."""
    secrets = [render(AGENTS, again=True)["Secret/demo-pediagents-keys"]["stringData"] for _ in range(2)]
    holders = {"operator", "smoke", "embedder", "modelreasoner"}
    assert all(set(secret) == {*holders, "ORCHESTRATOR_AUTH_FIRST_KEYS"} for secret in secrets)
    assert len({secret[holder] for secret in secrets for holder in holders}) == 2 * len(holders)
    auth = load(environ={"ORCHESTRATOR_AUTH_FIRST_KEYS": secrets[0]["ORCHESTRATOR_AUTH_FIRST_KEYS"]}).auth
    of = {name: next(key.principal for key in auth.first_keys if key.matches(secrets[0][name])) for name in holders}
    assert of["operator"] == Principal("operator", frozenset(Scope))
    assert of["embedder"] == Principal("embedder-1", frozenset({Scope.AGENTS_REGISTER}))
    assert Scope.OPERATE not in of["smoke"].scopes


def test_secrets_reach_the_process_as_files(render: Any):
    """Each under the name of its variable; what is secret stands in Secrets alone."""
    found = render({**BOTH_OWN, **AGENTS})
    pod = found["Deployment/demo-pediagents"]["spec"]["template"]["spec"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "credentials"]
    items = [source["secret"]["items"][0]["path"] for source in volume["projected"]["sources"] if "secret" in source]
    assert items == ["DATABASE_URL", "REDIS_URL", "ORCHESTRATOR_AUTH_FIRST_KEYS"]
    secret = found["Secret/demo-pediagents-database"]["stringData"]
    assert len(secret["password"]) >= 32
    assert secret["password"] in secret["DATABASE_URL"]
    keys = {text for name, text in found["Secret/demo-pediagents-keys"]["stringData"].items() if name.islower()}
    for key, one in found.items():
        if not key.startswith("Secret/"):
            assert not [text for text in {*keys, secret["password"]} if text in json.dumps(one)], key


def test_tls_is_spoken_by_everybody(render: Any):
    """Where the orchestrator serves https, so do probes, agents, Prometheus, proxy and smoke test ask."""
    found = render({**AGENTS, **INGRESS, "tls": {"enabled": True, "issuer": "i"}, "serviceMonitor": {"enabled": True}})
    (container,) = found["Deployment/demo-pediagents"]["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["scheme"] == "HTTPS", probe
    (endpoint,) = found["ServiceMonitor/demo-pediagents"]["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["tlsConfig"]["serverName"]) == ("https", "demo-pediagents")
    annotations = found["Ingress/demo-pediagents"]["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/backend-protocol"] == "HTTPS"
    made = found["Certificate/demo-pediagents"]["spec"]
    assert "demo-pediagents" in made["dnsNames"]
    text = json.dumps(found)
    assert "http://demo-pediagents:" not in text
    assert text.count("https://demo-pediagents:8080") == 3
    mounted = {
        v["secret"]["secretName"] for _, pod in pods(found) for v in pod["volumes"] if v["name"] in ("tls", "authority")
    }
    assert mounted == {made["secretName"]}


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
    assert out({**BOTH_OWN, **AGENTS}) == {53, 5432, 6379}
    agent = render(AGENTS)["NetworkPolicy/demo-pediagents-embedder"]["spec"]
    assert (agent["ingress"], [port["port"] for rule in agent["egress"] for port in rule["ports"]]) == (
        [],
        [53, 53, "http"],
    )
    assert out(CASES["network policy with places"][0]) == {53, 443}


def test_who_watches_has_a_port_of_its_own(render: Any):
    """Probes and Prometheus ask there, and only there: what opens the calls to the world does not open it."""
    values = {"service": {"type": "LoadBalancer"}, "serviceMonitor": {"enabled": True}}
    found = render(values)
    (container,) = found["Deployment/demo-pediagents"]["spec"]["template"]["spec"]["containers"]
    assert {container[probe]["httpGet"]["port"] for probe in container if probe.endswith("Probe")} == {"watch"}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    web = load(environ=environment(found)).web
    assert ports == {"http": web.port, "watch": web.watch_port}
    services = {key: one["spec"] for key, one in found.items() if key.startswith("Service/")}
    assert {key: (spec["type"], [port["targetPort"] for port in spec["ports"]]) for key, spec in services.items()} == {
        "Service/demo-pediagents": ("LoadBalancer", ["http"]),
        "Service/demo-pediagents-watch": ("ClusterIP", ["watch"]),
    }
    monitor = found["ServiceMonitor/demo-pediagents"]["spec"]
    labels = found["Service/demo-pediagents-watch"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert [endpoint["port"] for endpoint in monitor["endpoints"]] == ["watch"]
    calls, watching = found["NetworkPolicy/demo-pediagents"]["spec"]["ingress"]
    name = {"kubernetes.io/metadata.name": "monitoring"}
    source = {"namespaceSelector": {"matchLabels": name}}
    assert (watching["ports"], watching["from"]) == ([{"port": "watch"}], [source])
    assert calls["ports"] == [{"port": "http"}]
    assert name not in [source.get("namespaceSelector", {}).get("matchLabels") for source in calls["from"]]
    unwatched = render({"networkPolicy": {"prometheusNamespaces": []}})["NetworkPolicy/demo-pediagents"]["spec"]
    assert [rule["ports"] for rule in unwatched["ingress"]] == [[{"port": "http"}]]


def test_the_smoke_test_and_the_rules_are_the_ones_that_ship(render: Any, path: Path):
    """Not copies that could differ."""
    found = render({"prometheusRule": {"enabled": True}})
    script = (path.parents[2] / "scripts/smoke_test.sh").read_text("utf-8")
    assert found["ConfigMap/demo-pediagents-smoke"]["data"]["smoke_test.sh"].strip() == script.strip()
    rules = yaml.safe_load((path.parents[1] / "monitoring/alerts.yml").read_text("utf-8"))
    assert found["PrometheusRule/demo-pediagents"]["spec"] == rules
