"""What the values of the chart are, what there is then, and what there is not: the table of its switches."""

from typing import Any

Values = dict[str, Any]

EXISTING: Values = {"database": {"mode": "existing", "existingSecret": "db"}}
OWN: Values = {"database": {"mode": "own"}}
BOTH_OWN: Values = {"database": {"mode": "own"}, "redis": {"mode": "own"}}
STORE = {"storeName": "store", "remoteKey": "key"}
EXTERNAL: Values = {"database": {"mode": "external", "externalSecret": STORE}}
AGENTS: Values = {"agents": {"embedder": {"enabled": True}, "modelreasoner": {"enabled": True}}}
INGRESS: Values = {"ingress": {"enabled": True}}
TLS: Values = {"tls": {"enabled": True, "secretName": "inner-tls"}}

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
            "Secret/demo-pediagents-keys",
        },
        {
            "Job",
            "HorizontalPodAutoscaler",
            "Ingress",
            "ServiceMonitor",
            "PrometheusRule",
            "StatefulSet",
            "Secret/demo-pediagents-database",
            "Secret/demo-pediagents-redis",
            "ExternalSecret",
            "Certificate",
        },
    ),
    "database existing": (
        EXISTING,
        {"Job/demo-pediagents-migration"},
        {"PersistentVolumeClaim", "Secret/demo-pediagents-database", "StatefulSet"},
    ),
    "database external": (
        EXTERNAL,
        {"ExternalSecret/demo-pediagents-database"},
        {"StatefulSet", "Secret/demo-pediagents-database"},
    ),
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
            for kind in ("Deployment", "NetworkPolicy")
            for name in ("embedder", "modelreasoner")
        },
        {"Service/demo-pediagents-embedder"},
    ),
    "one agent with images": (
        {"agents": {"embedder": {"enabled": True, "imagesClaim": "images"}}},
        {"Deployment/demo-pediagents-embedder"},
        set(),
    ),
    "ingress": (INGRESS, {"Ingress/demo-pediagents"}, set()),
    "ingress without TLS": (
        {"insecure": True, "ingress": {"enabled": True, "tls": {"enabled": False}}},
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
    "keys of one's own": (
        {"auth": {"firstKeys": {"existingSecret": "mine"}}, **AGENTS},
        {"Pod/demo-pediagents-smoke"},
        {"Secret"},
    ),
    "no first keys": ({"auth": {"firstKeys": {"enabled": False}}, **AGENTS}, {"Pod/demo-pediagents-smoke"}, {"Secret"}),
    "first keys alone": ({"auth": {"apiKeys": False}}, {"Secret/demo-pediagents-keys"}, set()),
    "TLS by a Secret": ({**TLS, **AGENTS, **INGRESS}, {"Pod/demo-pediagents-smoke"}, {"Certificate"}),
    "TLS by cert-manager": (
        {**OWN, "tls": {"enabled": True, "issuer": "inner"}, "serviceMonitor": {"enabled": True}},
        {"Certificate/demo-pediagents", "Job/demo-pediagents-migration"},
        set(),
    ),
    "client certificates": (
        {
            "tls": {**TLS["tls"], "clientCASecret": "clients"},
            "auth": {
                "apiKeys": False,
                "firstKeys": {"enabled": False},
                "certificates": ["ward-3.clinic tasks:submit tasks:read", "urn:clinic:embedder-1 agents:register"],
                "certificateScopes": ["agents:read"],
            },
        },
        {"Deployment/demo-pediagents"},
        {"Secret"},
    ),
    "retention": (
        {"retention": {"payloadSeconds": 86400, "resultSeconds": 3600.0, "taskSeconds": 315360000}},
        {"Deployment/demo-pediagents"},
        set(),
    ),
    "agents that are called": (
        {
            "insecure": True,
            "agents": {
                "allowPlaintext": True,
                "allowedNetworks": ["10.0.0.0/8"],
                "allowedHosts": ["eye"],
                "allowed": ["eye-1 embed raw_image raw_media=yes", "ear-1 analyze_light"],
            },
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
