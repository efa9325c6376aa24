"""Typed settings. Types and ranges are here; every default, with its meaning and unit, stands in `settings.toml`.

Three layers, later ones win: the packaged `settings.toml`, a file of the operator's, the environment.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from orchestrator.credentials import TLS_VARIABLES, VARIABLES
from orchestrator.domain.allowance import Allowance, Gate, Line, listed
from orchestrator.domain.api_key import FirstKey
from orchestrator.domain.identity import Grant, Scope
from orchestrator.domain.policy import Policy, TaskType, Weights
from orchestrator.domain.raw_media import plain
from orchestrator.domain.reach import Network, Ports, Reach, ports_of
from orchestrator.domain.strict_json import Bounds
from orchestrator.domain.task import Priority
from orchestrator.settings_keeping import Audit, Retention
from orchestrator.settings_sources import (
    Effective,
    SettingsError,
    assembled,
    checked,
    from_environment,
    masked,
    packaged,
    read,
    read_text,
)
from orchestrator.settings_types import Count, Host, Level, Name, NotNegative, OwnHost, Positive, Section, Weight

__all__ = ["Effective", "Settings", "SettingsError", "load", "load_with_sources"]

ALIASES = {
    "DATABASE_URL": "storage.database_url",
    "REDIS_URL": "storage.redis_url",
    "ORCHESTRATOR_AGENT_TTL": "agents.ttl_s",
    "ORCHESTRATOR_SYNC_TIMEOUT": "sync.timeout_s",
    "ORCHESTRATOR_STREAM_MAXLEN": "queue.stream_maxlen",
    "ORCHESTRATOR_TASK_MAX_RETRIES": "retry.max_retries",
    "ORCHESTRATOR_RETRY_BASE": "retry.base_s",
    "LOG_LEVEL": "log.level",
}
"""Short names of environment variables."""
NOT_SETTINGS = frozenset(
    {"ORCHESTRATOR_URL", *VARIABLES, *TLS_VARIABLES, *(f"{name}_FILE" for name in VARIABLES)},
)
"""Where clients and agents find the orchestrator, and what they show it: theirs, not ours."""

_BASE64 = r"([A-Za-z0-9+/]{4}){8,}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
SIGNING_KEY = rf"^(|whsec_{_BASE64}|(?!whsec_)[^\x00-\x20]{{24,}})$(?!\n)"
"""Empty, or 24 bytes at least: Base64 after `whsec_`, or as they are."""

_SECRETS = frozenset(
    {"storage.database_url", "storage.redis_url", "storage.encryption_key", "audit.signing_key", "webhooks.secret"}
)
_ADDRESSES = frozenset({"auth.jwt_keys", "tracing.otlp_endpoint"})
"""What may be a URL, in which there may be a password."""


class Storage(Section, frozen=True):
    """Shows no password of its own accord, wherever it may be printed."""

    database_url: Annotated[str, Meta(min_length=1)]
    redis_url: str
    max_bytes: Annotated[int, Meta(ge=0, le=2**46)]
    min_free_bytes: Annotated[int, Meta(ge=0, le=2**46)]
    writer: Annotated[str, Meta(max_length=100)]
    idempotency_expiry_s: NotNegative
    encryption_key: str

    def __repr__(self) -> str:
        fields = msgspec.structs.asdict(self).items()
        shown = [f"{name}={_shown(f'storage.{name}', value)!r}" for name, value in fields]
        return f"Storage({', '.join(shown)})"


class Web(Section, frozen=True):
    host: Annotated[str, Meta(min_length=1, max_length=255)]
    hosts: tuple[OwnHost, ...]
    insecure: bool
    port: Annotated[int, Meta(ge=0, le=65_535)]
    watch_host: Annotated[str, Meta(max_length=255)]
    watch_port: Annotated[int, Meta(ge=0, le=65_535)]
    tls_certificate_file: str
    tls_key_file: str
    max_body_bytes: Annotated[int, Meta(ge=1_024, le=64 * 2**20)]
    max_batch_bytes: Annotated[int, Meta(ge=1_024, le=64 * 2**20)]
    max_batches: Annotated[int, Meta(ge=1, le=1_000)]
    body_timeout_s: Positive
    answer_timeout_s: Positive
    max_wait_s: Annotated[float, Meta(ge=0, le=300)]
    max_streams: Annotated[int, Meta(ge=0, le=10_000)]

    def __post_init__(self) -> None:
        if self.watch_port and self.watch_port == self.port:
            raise ValueError("web.watch_port is web.port: it needs a port of its own")

    @property
    def watch_address(self) -> str:
        """The host of the second listener."""
        return self.watch_host or self.host


class Limits(Section, frozen=True):
    connections: Annotated[int, Meta(ge=1, le=100_000)]
    connections_per_peer: Annotated[int, Meta(ge=1, le=100_000)]
    idle_s: Annotated[float, Meta(gt=0, le=3_600)]
    header_bytes: Annotated[int, Meta(ge=1_024, le=2**20)]
    headers: Annotated[int, Meta(ge=8, le=1_000)]
    target_bytes: Annotated[int, Meta(ge=256, le=65_536)]
    json_depth: Annotated[int, Meta(ge=4, le=200)]
    json_keys: Annotated[int, Meta(ge=16, le=1_000_000)]
    requests_per_s: Annotated[float, Meta(ge=0, le=1_000_000)]
    requests_burst: Count
    urgent_per_s: Annotated[float, Meta(ge=0, le=1_000_000)]
    urgent_burst: Count
    callers: Annotated[int, Meta(ge=16, le=1_000_000)]


class Auth(Section, frozen=True):
    api_keys: bool
    first_keys: tuple[FirstKey, ...]
    jwt_keys: str
    jwt_keys_cache_file: str
    jwt_secret_file: str
    jwt_issuer: str
    jwt_audience: str
    jwt_algorithms: tuple[Literal["EdDSA", "ES256", "RS256", "HS256"], ...]
    jwt_leeway_s: Annotated[float, Meta(ge=0, le=60)]
    jwt_lifetime_s: Annotated[float, Meta(gt=0, le=86_400)]
    trust_clock: bool
    certificate_ca_file: str
    certificate_crl_file: str
    certificate_required: bool
    certificate_scopes: tuple[Scope, ...]
    certificates: tuple[Grant, ...]

    @property
    def tokens(self) -> bool:
        """Whether JSON web tokens are taken."""
        return bool(self.jwt_keys or self.jwt_secret_file)

    @property
    def configured(self) -> bool:
        """Whether callers are asked who they are."""
        return self.api_keys or self.tokens or bool(self.first_keys or self.certificate_ca_file)


class Registry(Section, frozen=True):
    backend: Literal["ledger", "redis", "memory"]
    redis_key: Name


class Agents(Section, frozen=True):
    def __post_init__(self) -> None:
        self.listed()

    def listed(self) -> dict[str, Allowance]:
        """What the operator's list says of each agent. Raises ValueError for one that stands in it twice."""
        return listed(line.allowance() for line in self.allowed)

    ttl_s: Positive
    max_agents: Count
    max_answer_bytes: Annotated[int, Meta(ge=1_024, le=256 * 2**20)]
    connect_timeout_s: Positive
    allowed_networks: tuple[Network, ...]
    allowed_hosts: tuple[Host, ...]
    allowed_ports: tuple[Ports, ...]
    allow_plaintext: bool
    allow_new: Literal["auto", "on", "off"]
    quarantine_changes: Literal["auto", "on", "off"]
    allowed: tuple[Line, ...]
    tls_ca_file: str
    tls_certificate_file: str
    tls_key_file: str


class Sync(Section, frozen=True):
    timeout_s: Annotated[float, Meta(gt=0, le=60)]
    max_concurrent: Annotated[int, Meta(ge=0, le=10_000)]


class Queue(Section, frozen=True):
    stream_urgent: Name
    stream_high: Name
    stream_normal: Name
    stream_low: Name
    stream_dlq: Name
    group: Name
    stream_maxlen: Count
    payload_in_stream: bool
    claim_s: Annotated[float, Meta(ge=1, le=86_400)]
    max_open: Count
    max_open_urgent: Annotated[int, Meta(ge=0, le=10_000_000)]
    max_open_high: Annotated[int, Meta(ge=0, le=10_000_000)]
    max_open_normal: Annotated[int, Meta(ge=0, le=10_000_000)]
    max_open_low: Annotated[int, Meta(ge=0, le=10_000_000)]
    aging_s: Positive


class Dispatch(Section, frozen=True):
    consumers: Annotated[int, Meta(ge=1, le=64)]
    slots: Annotated[int, Meta(ge=2, le=1_024)]
    drain_s: Annotated[float, Meta(ge=0, le=3_600)]


class Retry(Section, frozen=True):
    max_retries: Annotated[int, Meta(ge=0, le=100)]
    base_s: Positive
    cap_s: Positive


class TaskTypeSettings(Section, frozen=True):
    capabilities: Annotated[tuple[Name, ...], Meta(min_length=1)]
    timeout_s: Positive
    sync: bool
    max_retries: Annotated[int, Meta(ge=-1, le=100)]
    raw_media: bool


class Tasks(Section, frozen=True):
    deadline_s: Annotated[float, Meta(gt=0, le=30 * 86_400)]
    types: Annotated[dict[Name, TaskTypeSettings], Meta(min_length=1)]


class PolicySettings(Section, frozen=True):
    raw_media_keys: tuple[str, ...]
    raw_media_capabilities: tuple[Name, ...]
    breakglass_s: Annotated[float, Meta(gt=0, le=86_400)]
    weight_capability: Weight
    weight_latency: Weight
    weight_load: Weight
    weight_cost: Weight


class Webhooks(Section, frozen=True):
    """Shows no secret of its own accord."""

    secret: Annotated[str, Meta(pattern=SIGNING_KEY)]
    timeout_s: Annotated[float, Meta(gt=0, le=60)]
    max_attempts: Annotated[int, Meta(ge=1, le=100)]
    base_s: Positive
    cap_s: Positive
    at_once: Annotated[int, Meta(ge=1, le=256)]
    include_result: bool

    def __repr__(self) -> str:
        return f"Webhooks(on={bool(self.secret)})"


class Log(Section, frozen=True):
    level: Level
    format: Literal["json", "console"]


class TracingSettings(Section, frozen=True):
    """Shows no password of its own accord."""

    otlp_endpoint: Annotated[str, Meta(max_length=1_000)]

    def __repr__(self) -> str:
        return f"TracingSettings(otlp_endpoint={_shown('tracing.otlp_endpoint', self.otlp_endpoint)!r})"


class Settings(Section, frozen=True):
    """All settings, checked. Make one with `load`."""

    storage: Storage
    retention: Retention
    audit: Audit
    web: Web
    limits: Limits
    auth: Auth
    registry: Registry
    agents: Agents
    sync: Sync
    queue: Queue
    dispatch: Dispatch
    retry: Retry
    tasks: Tasks
    policy: PolicySettings
    webhooks: Webhooks
    tracing: TracingSettings
    log: Log

    def __post_init__(self) -> None:
        if self.retention.audit_s and not self.audit.signing_key:
            raise ValueError("retention.audit_s needs audit.signing_key: what is removed has to be testified to")

    def gate(self) -> Gate:
        """How agents are let in."""
        agents, asked = self.agents, self.auth.configured
        return Gate(
            agents.listed(),
            frozenset(self.policy.raw_media_capabilities),
            strangers=not asked if agents.allow_new == "auto" else agents.allow_new == "on",
            changes=not asked if agents.quarantine_changes == "auto" else agents.quarantine_changes == "off",
        )

    def decision_policy(self) -> Policy:
        """The part that decisions depend on."""
        policy = self.policy
        return Policy(
            task_types={name: self._task_type(kind) for name, kind in self.tasks.types.items()},
            raw_media_capabilities=frozenset(policy.raw_media_capabilities),
            raw_media_keys=self.raw_media_keys(),
            agent_ttl_s=self.agents.ttl_s,
            weights=Weights(
                capability=policy.weight_capability,
                latency=policy.weight_latency,
                load=policy.weight_load,
                cost=policy.weight_cost,
            ),
        )

    def raw_media_keys(self) -> frozenset[str]:
        """The keys that mark raw media, in plain spelling."""
        return frozenset(plain(key) for key in self.policy.raw_media_keys) - {""}

    def streams(self) -> dict[Priority, str]:
        """The name of each class's stream."""
        names = self.queue
        in_order = (names.stream_urgent, names.stream_high, names.stream_normal, names.stream_low)
        return dict(zip(Priority, in_order, strict=True))

    def reach(self) -> Reach:
        """Where agents may be called."""
        agents, storage = self.agents, self.storage
        return replace(
            Reach.of(agents.allowed_networks, agents.allowed_hosts, agents.allowed_ports),
            closed_ports=ports_of(storage.database_url) | ports_of(storage.redis_url),
            own_ports=frozenset({self.web.port, self.web.watch_port}),
            plaintext=agents.allow_plaintext,
        )

    def most_open(self) -> dict[Priority, int]:
        """How many unfinished tasks each class may hold."""
        queue = self.queue
        own = (queue.max_open_urgent, queue.max_open_high, queue.max_open_normal, queue.max_open_low)
        return {priority: most or queue.max_open for priority, most in zip(Priority, own, strict=True)}

    def json_bounds(self) -> Bounds:
        """The bounds of the JSON that clients send."""
        return Bounds(self.limits.json_depth, self.limits.json_keys)

    def _task_type(self, kind: TaskTypeSettings) -> TaskType:
        retries = self.retry.max_retries if kind.max_retries < 0 else kind.max_retries
        return TaskType(kind.capabilities, kind.timeout_s, kind.sync, retries, kind.raw_media)


def load(file: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings from the packaged defaults, `file` and `environ`. Raises SettingsError."""
    return load_with_sources(file, environ)[0]


def load_with_sources(
    file: Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Settings, list[Effective]]:
    """The settings, and for each where it came from. Raises SettingsError."""
    found = {name: checked(Settings, name, value, "default") for name, value in packaged().items()}
    if file is not None:
        found |= {name: checked(Settings, name, value, str(file)) for name, value in read(file).items()}
    for name, text, variable in from_environment(environ or {}, found, ALIASES, NOT_SETTINGS):
        found[name] = checked(Settings, name, text, variable, as_text=True)
    try:
        settings = msgspec.convert(assembled(Settings, found), Settings, dec_hook=read_text)
    except msgspec.ValidationError as error:
        # What is wrong with several lines or settings together; each by itself was checked where it stood.
        raise SettingsError("settings", str(error), "all of them") from None
    return settings, [Effective(name, _shown(name, it.value), it.source) for name, it in sorted(found.items())]


def _shown(name: str, value: Any) -> Any:
    secret = name in _SECRETS or (name in _ADDRESSES and "://" in value)
    return masked(value) if secret and value else value
