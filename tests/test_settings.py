"""Settings: every one is explained, typed and bounded; every mistake is one line that names it; no secret is shown."""

import re
import shutil
import tomllib
from collections.abc import Iterator
from importlib import resources
from math import isclose
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orchestrator.domain.policy import TaskType, Weights
from orchestrator.domain.task import Priority
from orchestrator.settings import ALIASES, Settings, SettingsError, load, load_with_sources
from orchestrator.settings_sources import variable_of

TOML = resources.files("orchestrator").joinpath("settings.toml").read_text("utf-8")
SECRET = "canary-17"


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


DEFAULTS = dict(leaves(tomllib.loads(TOML)))


def plain(settings: Settings) -> dict[str, Any]:
    return dict(leaves(msgspec.json.decode(msgspec.json.encode(settings, enc_hook=str))))


def declared(kind: Any, prefix: str = "") -> Iterator[str]:
    """The settings that the types know; a star for any task type."""
    match kind:
        case msgspec.inspect.StructType():
            for field in kind.fields:
                yield from declared(field.type, f"{prefix}{field.name}.")
        case msgspec.inspect.DictType():
            yield from declared(kind.value_type, f"{prefix}*.")
        case _:
            yield prefix.removesuffix(".")


def starred(name: str) -> str:
    return re.sub(r"^tasks\.types\.[^.]+", "tasks.types.*", name)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "operator.toml"
    file.write_text(text, "utf-8")
    return file


OTHERS = {
    "agents.allowed": (
        "eye-1 embed raw_image raw_media=yes, agent-2 indexing model=m%2C1 location=ward%203",
        ["eye-1 embed raw_image raw_media=yes", "agent-2 indexing model=m%2C1 location=ward%203"],
    ),
    "auth.first_keys": (
        f"{'0f' * 32} root operate\n{'a1' * 32} eye-1 agents:register,",
        [f"{'0f' * 32} root operate", f"{'a1' * 32} eye-1 agents:register"],
    ),
    "auth.certificate_scopes": ("tasks:read, operate", ["tasks:read", "operate"]),
    "auth.certificates": (
        "ward-3.clinic tasks:read operate, urn:agent:1 agents:register",
        ["ward-3.clinic tasks:read operate", "urn:agent:1 agents:register"],
    ),
}
"""Of lists that are empty by default, and not of any text."""


def other(name: str) -> tuple[str, Any]:
    """Text for the variable of a setting, and what it means: another value of the same type, within any bounds."""
    if name in OTHERS:
        return OTHERS[name]
    match value := DEFAULTS[name]:
        case bool():
            return str(not value).lower(), not value
        case int():
            return str(value + 1), value + 1
        case float():
            return "3.5", 3.5
        case ["127.0.0.0/8", *_]:
            return "10.1.0.0/16, fd12::/32", ["10.1.0.0/16", "fd12::/32"]
        case ["80", *_]:
            return "443, 9000-9100", ["443", "9000-9100"]
        case ["EdDSA", *_]:
            return "ES256, EdDSA", ["ES256", "EdDSA"]
        case list():
            return "a, b,", ["a", "b"]
        case "auto":
            return "off", "off"
        case "json":
            return "console", "console"
        case "INFO":
            return "ERROR", "ERROR"
        case "ledger":
            return "memory", "memory"
        case _:
            # Long enough for a key.
            text = "another-value-of-32-characters-x"
            return text, text


# --- The file and the types.


def test_the_file_and_the_types():
    """Tell of the same settings: none is without a default, none is without a type."""
    assert {starred(name) for name in DEFAULTS} == set(declared(msgspec.inspect.type_info(Settings)))


def test_the_packaged_file():
    """Is what is loaded, to the letter, when nothing else is given."""
    settings, effective = load_with_sources()
    assert plain(settings) == DEFAULTS
    assert {it.name for it in effective} == set(DEFAULTS)
    assert {it.source for it in effective} == {"default"}
    assert load(None, {}) == settings


def test_every_setting_has_a_comment():
    """It stands over it, or over the run of lines that it is in; a task type is explained at the first."""
    explained: set[str] = set()
    table, comment = "", False
    for line in TOML.splitlines():
        header = re.fullmatch(r"\[([a-z_.]+)\]", line)
        key = re.match(r"([a-z_0-9]+) = ", line)
        if line.startswith("#"):
            comment = True
        elif header:
            table = header[1]
            comment = comment and table.startswith("tasks.types.")
        elif key and comment:
            explained.add(starred(f"{table}.{key[1]}"))
        elif not line:
            comment = False
    assert explained == {starred(name) for name in DEFAULTS}


def test_short_names_in_the_file():
    """Each stands in brackets over its setting, and those are all there are."""
    found: dict[str, str] = {}
    table, names = "", list[str]()
    for line in TOML.splitlines():
        if header := re.fullmatch(r"\[([a-z_.]+)\]", line):
            table = header[1]
        elif line.startswith("#"):
            names += re.findall(r"\s\[([A-Z_]+)\]$", line)
        elif key := re.match(r"([a-z_0-9]+) = ", line):
            found |= dict.fromkeys(names, f"{table}.{key[1]}")
            names = []
    assert found == ALIASES


# --- The environment.


NEEDS: dict[str, dict[str, Any]] = {"retention.audit_s": {"retention.audit_short": True, "audit.signing_key": "a key"}}
"""What a setting is refused without."""


def long_name(name: str) -> str:
    return "ORCHESTRATOR_" + name.replace("tasks.types.", "tasks.").replace(".", "_").upper()


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_long_name(name):
    """Section and name, in capitals: it sets just this setting, which then says where it came from."""
    text, value = other(name)
    needed = NEEDS.get(name, {})
    environ = {long_name(name): text} | {long_name(it): str(that).lower() for it, that in needed.items()}
    settings, effective = load_with_sources(None, environ)
    assert plain(settings) == {**DEFAULTS, name: value, **needed}
    told = {it.name: it.source for it in effective if it.source != "default"}
    assert told == {it: long_name(it) for it in (name, *needed)}


@pytest.mark.parametrize(("variable", "name"), ALIASES.items())
def test_every_short_name(variable, name):
    """Sets its setting, and wins over the long name, whichever is seen first."""
    text, value = other(name)
    assert plain(load(None, {variable: text}))[name] == value
    long = variable_of(name)
    worse = "WARNING" if name == "log.level" else "9"
    assert plain(load(None, {variable: text, long: worse}))[name] == value
    assert plain(load(None, {long: worse, variable: text}))[name] == value


@pytest.mark.parametrize("variable", ["DATABASE_URL", "ORCHESTRATOR_STORAGE_DATABASE_URL", "REDIS_URL"])
def test_a_secret_from_a_file(variable, tmp_path):
    """The variable with _FILE names a file; what is in it counts, without the newline at its end."""
    (tmp_path / "secret").write_text("memory://\n", "utf-8")
    environ = {f"{variable}_FILE": str(tmp_path / "secret"), variable: "sqlite:///other.db"}
    settings, effective = load_with_sources(None, environ)
    name = ALIASES.get(variable, "storage.database_url")
    assert plain(settings)[name] == "memory://"
    assert [it.source for it in effective if it.name == name] == [f"{variable}_FILE"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_secret_that_cannot_be_read(content, tmp_path):
    """Is a mistake that names the variable, not what is in it."""
    file = tmp_path / SECRET
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"^DATABASE_URL_FILE: the file that it names cannot be read") as error:
        load(None, {"DATABASE_URL_FILE": str(file)})
    assert SECRET not in str(error.value)


def test_other_variables():
    """Are none of ours; where clients find us is theirs."""
    environ = {
        "PATH": "/bin",
        "LOG_LEVELS": "x",
        "MY_DATABASE_URL": "x",
        "ORCHESTRATOR_URL": "http://x",
        "A_FILE": "/x",
    }
    assert load(None, environ) == load()


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("TRUE", True), ("1", True), ("false", False), ("0", False)]
)
def test_yes_and_no(text, value):
    """May be written as most people do."""
    assert load(None, {"ORCHESTRATOR_TASKS_EMBED_SYNC": text}).tasks.types["embed"].sync is value


@pytest.mark.parametrize("text", ["info", "Info", "INFO"])
def test_log_levels(text):
    """Are written in any case by those who set them for many programs."""
    assert load(None, {"LOG_LEVEL": text}).log.level == "INFO"


# --- The operator's file.


def test_an_operators_file(tmp_path):
    """Sets what it says; the environment wins over it."""
    file = written(tmp_path, "[web]\nport = 9\nmax_wait_s = 7\n[agents]\n")
    settings, effective = load_with_sources(file, {"ORCHESTRATOR_WEB_PORT": "10"})
    assert (settings.web.port, settings.web.max_wait_s, settings.web.host) == (10, 7.0, "127.0.0.1")
    sources = {it.name: it.source for it in effective if it.source != "default"}
    assert sources == {"web.port": "ORCHESTRATOR_WEB_PORT", "web.max_wait_s": str(file)}


NEW_TYPE = (
    '[tasks.types.my-type]\ncapabilities = ["x"]\ntimeout_s = 1.0\nsync = true\nmax_retries = 0\nraw_media = false\n'
)


def test_a_new_task_type(tmp_path):
    """Is added to the others, and has its variables like them."""
    settings = load(written(tmp_path, NEW_TYPE), {"ORCHESTRATOR_TASKS_MY_TYPE_TIMEOUT_S": "2"})
    assert settings.decision_policy().task_types["my-type"] == TaskType(("x",), 2.0, True, 0)
    assert set(settings.tasks.types) > {"embed", "my-type"}


# --- Mistakes.

IN_FILES = {
    "unknown section": ("[weeb]\nport = 1", "weeb.port"),
    "unknown key": ("[web]\nprot = 1", "web.prot"),
    "unknown key, no section": ("port = 1", "port"),
    "unknown key of a type": ("[tasks.types.embed]\ntimeout = 1", "tasks.types.embed.timeout"),
    "too deep": ("[web.port]\nvalue = 1", "web.port.value"),
    "too deep in a list": ("[policy.raw_media_keys]\nvalue = 1", "policy.raw_media_keys.value"),
    "too deep in a choice": ("[log.format]\nvalue = 1", "log.format.value"),
    "too shallow": ("web = 1", "web"),
    "list of tables": ("[[web]]\nport = 1", "web"),
    "wrong type": ('[web]\nport = "8080"', "web.port"),
    "yes for a number": ("[web]\nport = true", "web.port"),
    "fraction for a number": ("[web]\nport = 8080.5", "web.port"),
    "number for a yes": ("[tasks.types.embed]\nsync = 1", "tasks.types.embed.sync"),
    "text for a list": ('[policy]\nraw_media_keys = "image"', "policy.raw_media_keys"),
    "number in a list": ("[policy]\nraw_media_keys = [1]", "policy.raw_media_keys"),
    "date": ("[web]\nport = 2030-01-01", "web.port"),
    "out of range": ("[web]\nport = 65536", "web.port"),
    "below range": ("[agents]\nttl_s = 0", "agents.ttl_s"),
    "NaN": ("[agents]\nttl_s = nan", "agents.ttl_s"),
    "infinity": ("[agents]\nttl_s = inf", "agents.ttl_s"),
    "no choice": ('[log]\nformat = "xml"', "log.format"),
    "no log level": ('[log]\nlevel = "LOUD"', "log.level"),
    "no name": ('[queue]\nstream_low = "a b"', "queue.stream_low"),
    "newline at the end of a name": ('[queue]\nstream_low = "low\\n"', "queue.stream_low"),
    "no network": ('[agents]\nallowed_networks = ["10.0.0.0/8", "10.1.2.3/16"]', "agents.allowed_networks"),
    "number for a network": ("[agents]\nallowed_networks = [10]", "agents.allowed_networks"),
    "no ports": ('[agents]\nallowed_ports = ["80-79"]', "agents.allowed_ports"),
    "no scope": ('[auth]\ncertificate_scopes = ["tasks"]', "auth.certificate_scopes"),
    "an agent without capabilities": ('[agents]\nallowed = ["eye-1 model=1"]', "agents.allowed"),
    "an agent that may what nobody knows": ('[agents]\nallowed = ["eye-1 embed media=yes"]', "agents.allowed"),
    "a key in the clear": (f'[auth]\nfirst_keys = ["rok_{16 * "0"}_{64 * "0"} root operate"]', "auth.first_keys"),
    "a key of nobody": (f'[auth]\nfirst_keys = ["{64 * "0"} operate"]', "auth.first_keys"),
    "a key with another scope": (f'[auth]\nfirst_keys = ["{64 * "0"} root everything"]', "auth.first_keys"),
    "a caller without scopes": ('[auth]\ncertificates = ["ward-3.clinic"]', "auth.certificates"),
    "a caller with another scope": ('[auth]\ncertificates = ["ward-3.clinic tasks"]', "auth.certificates"),
    "scopes without a caller": ('[auth]\ncertificates = [" tasks:read"]', "auth.certificates"),
    "address for a name": ('[agents]\nallowed_hosts = ["10.0.0.1"]', "agents.allowed_hosts"),
    "no capabilities": ("[tasks.types.embed]\ncapabilities = []", "tasks.types.embed.capabilities"),
    "half a type": (
        '[tasks.types.new]\ncapabilities = ["x"]\ntimeout_s = 1.0\nsync = true',
        "tasks.types.new.max_retries",
    ),
    "no name for a type": (NEW_TYPE.replace("my-type", '"my type"'), "tasks.types.my type.capabilities"),
}


@pytest.mark.parametrize(("text", "name"), IN_FILES.values(), ids=IN_FILES)
def test_a_mistake_in_a_file(text, name, tmp_path):
    """Is told in one line: the setting, what is wrong, and which file."""
    file = written(tmp_path, text)
    with pytest.raises(SettingsError) as error:
        load(file)
    assert re.fullmatch(rf"{re.escape(name)}: [a-z].+ \(from {re.escape(str(file))}\)", str(error.value))


def test_an_agent_that_stands_in_the_list_twice(tmp_path):
    """Each line is good; together they are told to be none, in one line."""
    with pytest.raises(SettingsError, match=r"^settings: eye-1 stands in it twice"):
        load(written(tmp_path, '[agents]\nallowed = ["eye-1 embed", "eye-1 indexing"]'))


IN_VARIABLES = [
    ("ORCHESTRATOR_WEB_PROT", "1", "ORCHESTRATOR_WEB_PROT"),
    ("ORCHESTRATOR_WEB", "1", "ORCHESTRATOR_WEB"),
    ("ORCHESTRATOR_TASKS_NEW_SYNC", "1", "ORCHESTRATOR_TASKS_NEW_SYNC"),
    ("ORCHESTRATOR_AGENT_TTL_S", "1", "ORCHESTRATOR_AGENT_TTL_S"),
    ("ORCHESTRATOR_NOTHING_FILE", "/x", "ORCHESTRATOR_NOTHING_FILE"),
    ("ORCHESTRATOR_WEB_PORT", "http", "web.port"),
    ("ORCHESTRATOR_WEB_PORT", "", "web.port"),
    ("ORCHESTRATOR_WEB_PORT", "65536", "web.port"),
    ("ORCHESTRATOR_WEB_PORT", "1_000", "web.port"),
    ("ORCHESTRATOR_WEB_PORT", "9" * 5_000, "web.port"),
    ("ORCHESTRATOR_AGENT_TTL", "nan", "agents.ttl_s"),
    ("ORCHESTRATOR_AGENT_TTL", "Infinity", "agents.ttl_s"),
    ("ORCHESTRATOR_AGENT_TTL", "-1", "agents.ttl_s"),
    ("ORCHESTRATOR_AGENT_TTL", "1e999", "agents.ttl_s"),
    ("ORCHESTRATOR_SYNC_TIMEOUT", "soon", "sync.timeout_s"),
    ("ORCHESTRATOR_SYNC_TIMEOUT", "61", "sync.timeout_s"),
    ("ORCHESTRATOR_STREAM_MAXLEN", "0", "queue.stream_maxlen"),
    ("ORCHESTRATOR_TASK_MAX_RETRIES", "-1", "retry.max_retries"),
    ("ORCHESTRATOR_RETRY_BASE", "0", "retry.base_s"),
    ("ORCHESTRATOR_TASKS_EMBED_SYNC", "maybe", "tasks.types.embed.sync"),
    ("ORCHESTRATOR_TASKS_EMBED_CAPABILITIES", " , ", "tasks.types.embed.capabilities"),
    ("LOG_LEVEL", "LOUD", "log.level"),
    ("DATABASE_URL", "", "storage.database_url"),
]


@pytest.mark.parametrize(("variable", "text", "name"), IN_VARIABLES)
def test_a_mistake_in_a_variable(variable, text, name):
    """Is told in one line: the setting, what is wrong, and which variable; where there is no setting, the variable."""
    with pytest.raises(SettingsError) as error:
        load(None, {variable: text})
    source = "the environment" if name == variable else variable
    assert re.fullmatch(rf"{re.escape(name)}: [a-z].+ \(from {source}\)", str(error.value))


@pytest.mark.parametrize("name", [name for name, value in DEFAULTS.items() if isinstance(value, float)])
@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_numbers_that_are_none(name, text, tmp_path):
    """No setting takes them, from wherever."""
    table, _, key = name.rpartition(".")
    with pytest.raises(SettingsError, match=re.escape(name)):
        load(written(tmp_path, f"[{table}]\n{key} = {text}"))
    with pytest.raises(SettingsError, match=re.escape(name)):
        load(None, {variable_of(name): text})


@pytest.mark.parametrize(
    ("content", "what"), [(b"[web\n", "not valid TOML"), (b"\xff", "not valid TOML"), (None, "cannot be read")]
)
def test_a_file_that_cannot_be_read(content, what, tmp_path):
    """Is told in one line that names it."""
    file = tmp_path / "operator.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=what) as error:
        load(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


# --- Secrets.

URLS = [
    (f"redis://:{SECRET}@cache:6379/0", "redis://***@cache:6379/0"),
    (f"postgresql://user:{SECRET}@db/name", "postgresql://***@db/name"),
    (f"postgresql+asyncpg://user:{SECRET}@db:5432/name", "postgresql+asyncpg://***@db:5432/name"),
    (f"redis://user:a@{SECRET}@cache", "redis://***@cache"),
    (f"redis://user:a/{SECRET}@cache", "redis://***@cache"),
    (f"redis://:{SECRET}#x@cache", "redis://***"),
    (f"redis://:#{SECRET}@cache", "redis://***"),
    (f"redis://:?{SECRET}@cache", "redis://***"),
    (f"redis://:[{SECRET}@cache", "redis://***@cache"),
    (f"redis://:{SECRET}@[::1", "redis://***@[::1"),
    (f"redis://:{SECRET}@cache:port", "redis://***@cache:port"),
    (f"redis://:{SECRET}\n@cache", "redis://***@cache"),
    (f"postgresql://db/name?user=u&password={SECRET}", "postgresql://***"),
    (f"postgresql://db/name?password=a@{SECRET}", "postgresql://***"),
    (f"user:{SECRET}@cache", "***"),
    (f"host=db password={SECRET}", "***"),
    (f":{SECRET}@", "***"),
    ("sqlite:///./file.db", "sqlite:///./file.db"),
    ("memory://", "memory://"),
]


@pytest.mark.parametrize(("url", "shown"), URLS)
@pytest.mark.parametrize(("variable", "name"), [("DATABASE_URL", "database_url"), ("REDIS_URL", "redis_url")])
def test_a_password_in_a_url(url, shown, variable, name):
    """Is used but never shown: not among the settings in force, nor where they are printed, however odd the URL."""
    settings, effective = load_with_sources(None, {variable: url})
    assert getattr(settings.storage, name) == url
    assert [it.value for it in effective if it.name == f"storage.{name}"] == [shown]
    assert SECRET not in repr(effective) + repr(settings) + str(settings.storage)


@pytest.mark.parametrize("name", ["auth.jwt_keys", "tracing.otlp_endpoint"])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://box:{SECRET}@keys.clinic/jwks", "https://***@keys.clinic/jwks"),
        (f"https://keys.clinic/jwks?token={SECRET}", "https://***"),
        ("https://keys.clinic/jwks", "https://keys.clinic/jwks"),
        ("/etc/orchestrator/jwks.json", "/etc/orchestrator/jwks.json"),
    ],
)
def test_a_password_in_what_may_be_an_address(name, text, shown):
    """Is not shown among the settings in force; what has none is shown as it is."""
    _, effective = load_with_sources(None, {f"ORCHESTRATOR_{name.replace('.', '_').upper()}": text})
    assert [it.value for it in effective if it.name == name] == [shown]
    settings, _ = load_with_sources(None, {"ORCHESTRATOR_TRACING_OTLP_ENDPOINT": text})
    assert SECRET not in repr(settings)


@pytest.mark.parametrize("where", ["variable", "file", "secret file"])
def test_a_password_and_a_mistake_elsewhere(where, tmp_path):
    """The error tells of the mistake alone."""
    url = f"postgresql://user:{SECRET}@db"
    (tmp_path / "secret").write_text(url, "utf-8")
    environ = {
        "variable": {"DATABASE_URL": url, "REDIS_URL": url},
        "file": {},
        "secret file": {"DATABASE_URL_FILE": str(tmp_path / "secret")},
    }[where]
    for text in ("[web]\nport = 0.5", "[web]\nx = 1", "[web", '[storage]\nmax_bytes = "x"', "[storage]\nredis_url = 1"):
        file = written(tmp_path, f'[storage]\ndatabase_url = "{url}"\n{text}' if where == "file" else text)
        with pytest.raises(SettingsError) as error:
            load(file, environ)
        assert SECRET not in str(error.value)
        assert error.value.__cause__ is None


@pytest.mark.parametrize("value", [f'["{SECRET}"]', f'{{url = "{SECRET}"}}', f'"{SECRET}'])
def test_a_secret_of_the_wrong_type(value, tmp_path):
    """Is not quoted either."""
    with pytest.raises(SettingsError) as error:
        load(written(tmp_path, f"[storage]\nredis_url = {value}"))
    assert SECRET not in str(error.value)


# --- What is made of them.


def test_the_policy():
    """Decisions follow the settings: each weight in its place, retries of a type or the common ones."""
    names = ("capability", "latency", "load", "cost")
    environ = {f"ORCHESTRATOR_POLICY_WEIGHT_{name.upper()}": str(n) for n, name in enumerate(names)}
    environ |= {"ORCHESTRATOR_AGENT_TTL": "9", "ORCHESTRATOR_TASK_MAX_RETRIES": "5"}
    environ |= {"ORCHESTRATOR_TASKS_EMBED_MAX_RETRIES": "0"}
    policy = load(None, environ).decision_policy()
    assert policy.weights == Weights(capability=0.0, latency=1.0, load=2.0, cost=3.0)
    assert isclose(policy.agent_ttl_s, 9.0)
    assert policy.task_types["embed"] == TaskType(("embed",), 10.0, False, 0, True)
    assert policy.task_types["indexing"] == TaskType(("indexing",), 60.0, False, 5)
    assert policy.raw_media_capabilities == {"raw_image", "raw_media", "raw_video", "raw_audio"}


def test_the_task_types_of_the_contract():
    """Each needs any one of its capabilities, the first fits best; only one runs synchronously."""
    types = load().decision_policy().task_types
    assert {name: (kind.capabilities, kind.timeout_s) for name, kind in types.items()} == {
        "embed": (("embed",), 10.0),
        "analyze_monitor": (("analyze_light", "analyze_monitor"), 10.0),
        "analyze_refer": (("analyze_heavy", "analyze_refer"), 30.0),
        "audit_log": (("audit",), 10.0),
        "indexing": (("indexing",), 60.0),
    }
    assert [name for name, kind in types.items() if kind.sync] == ["analyze_monitor"]


def test_raw_media_keys():
    """Are compared by their letters and digits, in lower case; one without any marks nothing."""
    settings = load(None, {"ORCHESTRATOR_POLICY_RAW_MEDIA_KEYS": "Scan_Ref , MRI, --"})
    assert settings.raw_media_keys() == {"scanref", "mri"}


def test_streams():
    """Each class has its own."""
    assert load().streams() == {priority: f"tasks:{priority.value}" for priority in Priority}


def test_settings_of_another_checkout(tmp_path, monkeypatch):
    """The packaged file counts, not one of the same name that happens to lie where the process starts."""
    shutil.copy(written(tmp_path, "[web]\nport = 1"), tmp_path / "settings.toml")
    monkeypatch.chdir(tmp_path)
    assert load().web.port == DEFAULTS["web.port"]


@pytest.mark.parametrize(
    "secret", ["short", "whsec_", "whsec_QUJD", "whsec_" + "QUJD" * 8 + "Q", "with a blank in it " * 3]
)
def test_a_weak_signing_key(secret):
    """Is refused at the start, and not shown."""
    with pytest.raises(SettingsError) as refused:
        load(None, {"ORCHESTRATOR_WEBHOOKS_SECRET": secret})
    assert secret not in str(refused.value) or secret == "whsec_"


KEY = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
"""


@pytest.mark.parametrize("seconds", ["1", "86400", "31535999.9"])
def test_audit_that_is_kept_for_a_short_time(seconds):
    """Less than a year is refused, unless it is said that it is meant."""
    environ = {"ORCHESTRATOR_RETENTION_AUDIT_S": seconds, "ORCHESTRATOR_AUDIT_SIGNING_KEY": KEY}
    with pytest.raises(SettingsError, match="audit_short"):
        load(None, environ)
    assert load(None, environ | {"ORCHESTRATOR_RETENTION_AUDIT_SHORT": "true"}).retention.audit_s == float(seconds)


def test_audit_that_is_kept_for_a_year():
    """That is taken; by default it is kept for ever."""
    environ = {"ORCHESTRATOR_RETENTION_AUDIT_S": "31536000", "ORCHESTRATOR_AUDIT_SIGNING_KEY": KEY}
    assert (load(None, environ).retention.audit_s, load().retention.audit_s) == (31_536_000.0, 0.0)


def test_audit_that_nobody_could_testify_to():
    """Without a key that signs, nothing of the audit is removed: it is refused at the start."""
    with pytest.raises(SettingsError, match=r"audit\.signing_key"):
        load(None, {"ORCHESTRATOR_RETENTION_AUDIT_S": "31536000"})
