"""JSON web tokens: the good one is taken, and none of the forged ones."""

import json
from pathlib import Path
from time import time
from typing import Any

import anyio
import jwt
import pytest
from aiohttp import ClientSession
from forgeries import forgeries
from issuing import ALL, AUDIENCE, ISSUER, NOW, RULES, SECRET, Issuer, b64, issuer, said

from orchestrator.domain.errors import Unauthenticated
from orchestrator.domain.identity import Scope
from orchestrator.settings import SettingsError, load
from orchestrator.testing import Service
from orchestrator.web.identity import key_set as keys_of
from orchestrator.web.identity.key_set import BadKeys, KeySet, key_set, secret_key
from orchestrator.web.identity.opening import verifier_of
from orchestrator.web.identity.tokens import TokenVerifier

pytestmark = pytest.mark.anyio

OWN, OTHER = issuer(), Issuer()
FORGED = forgeries(OWN, OTHER)


def verifier(keys: KeySet, now: float = NOW) -> TokenVerifier:
    async def given(_kid: str | None) -> KeySet:
        return keys

    return TokenVerifier(RULES, given, lambda: now)


KEYS = key_set(OWN.document, ALL)


@pytest.mark.parametrize("kid", ["ed", "ec", "rsa"])
async def test_a_good_token(kid: str) -> None:
    """Is its subject's, with the scopes that it names and that there are; dangerous headers mean nothing."""
    tokens = verifier(KEYS)
    for header in ({}, {"typ": "at+jwt"}, {"jku": "https://evil.example"}, {"jwk": OTHER.jwks[0]}, {"x5c": ["x"]}):
        token = OWN.token(kid, header, scope="tasks:read audit:read everything", aud=["other", AUDIENCE], jti="1")
        principal = await tokens.principal(token)
        assert (principal.subject, principal.scopes) == ("clinic-a", {Scope.TASKS_READ, Scope.AUDIT_READ})
    assert (await tokens.principal(OWN.token(kid, scope=...))).scopes == frozenset()


async def test_clocks_that_differ() -> None:
    """By the leeway and no more."""
    edges: list[dict[str, Any]] = [
        {"iat": NOW + 30}, {"exp": NOW - 29, "iat": NOW - 100}, {"nbf": NOW + 30}, {"iat": NOW, "exp": NOW + 900},
    ]  # fmt: skip
    for claims in edges:
        assert await verifier(KEYS).principal(OWN.token(**claims))


def test_enough_forgeries() -> None:
    """The table is as long as it was promised."""
    assert len(FORGED) >= 60


@pytest.mark.parametrize("name", FORGED)
async def test_a_forged_token(name: str) -> None:
    """Is refused, by one and the same answer, on a verifier that knows good ones already."""
    tokens = verifier(KEYS)
    await tokens.principal(OWN.token())
    with pytest.raises(Unauthenticated) as refused:
        await tokens.principal(FORGED[name])
    assert refused.value.detail == "The token is not valid."


async def test_every_character_changed() -> None:
    """Of a good token: none can be, but for the last bits of the signature that say nothing."""
    token = OWN.token("ec")
    tokens = verifier(KEYS)
    for place in range(len(token) - 1):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(Unauthenticated):
            await tokens.principal(changed)


async def test_a_token_that_was_verified_before() -> None:
    """Ends when it ends, and with the key that it was signed with, though it is remembered."""
    now, keys = NOW, KEYS

    async def given(_kid: str | None) -> KeySet:
        return keys

    tokens = TokenVerifier(RULES, given, lambda: now)
    token = OWN.token(exp=NOW + 100)
    assert await tokens.principal(token) == await tokens.principal(token)
    now = NOW + 129
    assert await tokens.principal(token)
    now = NOW + 130
    with pytest.raises(Unauthenticated):
        await tokens.principal(token)
    now, keys = NOW, key_set(OTHER.document, ALL)
    with pytest.raises(Unauthenticated):
        await tokens.principal(token)


async def test_keys_in_a_file_that_is_replaced(tmp_path: Path) -> None:
    """Count from then on: a key that was taken back ends its tokens. What is no key set leaves the last in force."""
    file = tmp_path / "keys.json"
    file.write_bytes(OWN.document)
    environ = {**SETTINGS, "ORCHESTRATOR_AUTH_JWT_KEYS": str(file)}
    make = verifier_of(load(environ=environ).auth)
    assert make
    tokens = make(lambda: NOW, lambda: 0.0)
    assert await tokens.principal(OWN.token())
    file.write_bytes(OTHER.document)
    assert await tokens.principal(OTHER.token())
    for harm in (lambda: file.write_bytes(b"{"), file.unlink):
        harm()
        assert await tokens.principal(OTHER.token())
        with pytest.raises(Unauthenticated):
            await tokens.principal(OWN.token())


async def test_a_shared_secret() -> None:
    """HS256 works with it and with nothing else; a short one is refused."""
    long = SECRET * 2
    tokens = verifier(secret_key(long))
    assert await tokens.principal(jwt.encode(said(), long, "HS256"))
    for algorithm in ("HS384", "HS512"):
        with pytest.raises(Unauthenticated):
            await tokens.principal(jwt.encode(said(), long, algorithm))
    tokens = verifier(secret_key(SECRET))
    assert await tokens.principal(jwt.encode(said(), SECRET, "HS256"))
    for token in (jwt.encode(said(), SECRET + b"x", "HS256"), jwt.encode(said(), SECRET * 2, "HS512"), OWN.token()):
        with pytest.raises(Unauthenticated):
            await tokens.principal(token)
    with pytest.raises(BadKeys):
        secret_key(b"x" * 31)


def jwks(*keys: Any) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def test_keys_that_are_passed_over() -> None:
    """Weak, secret, private and odd ones, those for other uses or algorithms; the good one among them stays."""
    ed, ec, rsa = OWN.jwks
    weak = {**rsa, "n": b64(((1 << 1_023) + 7).to_bytes(128))}
    bad = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "oct", "alg": "HS256"}, {**ec, "alg": "RS256"}, {**ec, "use": "enc"},
        {**ec, "kid": "a b"}, {**ec, "kid": 7}, {**ec, "crv": "P-384"}, {**ec, "x": "AAAA"}, {**ec, "d": "AAAA"},
        {**weak, "kid": "weak"}, {"kty": "new"}, {}, 7, None, {**rsa, "alg": "PS256"},
    ]  # fmt: skip
    found = key_set(jwks(*bad, ed), ALL)
    assert set(found) == {"ed", None}
    assert set(key_set(OWN.document, ["ES256"])) == {"ec", None}
    assert "<VerificationKey EdDSA>" in repr(found)


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[]", b"{}", b'{"keys": 7}', b'{"keys": []}', b'{"keys": [{}]}', b"[" * 10_000, b"\xff", b"null",
     jwks(OWN.jwks[0], OWN.jwks[0]), jwks(*[{}] * (keys_of.MOST_KEYS + 1))],
    ids=range(12),
)  # fmt: skip
def test_what_is_no_key_set(document: bytes) -> None:
    """Says so in words of ours."""
    with pytest.raises(BadKeys):
        key_set(document, ALL)


SETTINGS = {"ORCHESTRATOR_AUTH_JWT_ISSUER": ISSUER, "ORCHESTRATOR_AUTH_JWT_AUDIENCE": AUDIENCE}


async def test_over_http(tmp_path: Path) -> None:
    """A token opens what its scopes open, for its subject; nothing of it stands in the log or the answers."""
    from orchestrator.kernel.environment import Environment

    (tmp_path / "keys.json").write_bytes(OWN.document)
    environ = {**SETTINGS, "ORCHESTRATOR_AUTH_JWT_KEYS": str(tmp_path / "keys.json")}
    now = Environment.real().now()
    async with Service(tmp_path / "ledger.db", environ) as service:
        good = OWN.token(iat=now - 5, exp=now + 60, scope="tasks:read tasks:submit")
        headers = {"Authorization": f"Bearer {good}"}
        sent = await service.route({}, headers=headers)
        assert sent.status == 202
        assert (await service.ask("GET", f"/task/{sent.json['task_id']}", headers=headers)).status == 200
        assert (await service.ask("GET", "/agents", headers=headers)).status == 403
        for bad in (OWN.token(), OTHER.token(iat=now - 5, exp=now + 60), FORGED["alg 'none'"], "x"):
            reply = await service.ask("GET", "/agents", headers={"Authorization": f"Bearer {bad}"})
            assert (reply.status, reply.json["detail"]) == (401, "The token is not valid.")
        metrics = (await service.ask("GET", "/metrics")).body
        assert b"orchestrator_authentication_failures_total 4.0" in metrics
        document = (await service.ask("GET", "/openapi.json")).json
        assert document["paths"]["/agents"]["get"]["security"][0] == {"bearer": ["agents:read"]}


async def test_stream_of_a_token_that_runs_out(tmp_path: Path) -> None:
    """Ends by itself when the token does, although nothing happens, and tells nothing that comes afterwards."""
    (tmp_path / "keys.json").write_bytes(OWN.document)
    environ = {**SETTINGS, "ORCHESTRATOR_AUTH_JWT_KEYS": str(tmp_path / "keys.json")}
    environ["ORCHESTRATOR_AUTH_JWT_LEEWAY_S"] = "0"
    now = time()
    async with Service(tmp_path / "ledger.db", environ) as service:
        tokens = [OWN.token(iat=now - 5, exp=now + lasts, scope="tasks:read tasks:submit") for lasts in (3, 60)]
        short, long = ({"Authorization": f"Bearer {token}"} for token in tokens)
        task_id = (await service.route({}, headers=long)).json["task_id"]
        url = f"http://127.0.0.1:{service.port}/task/{task_id}/events"
        async with ClientSession(headers=short) as session, session.get(url) as reply:
            assert b"retry" in await reply.content.readuntil(b"\n\n")
            assert b"event: state" in await reply.content.readuntil(b"\n\n")
            with anyio.fail_after(20):
                left = await reply.content.read()
        assert time() >= now + 3
        assert b"event:" not in left
        assert (await service.ask("GET", f"/task/{task_id}", headers=short)).status == 401


async def test_failures_are_told_now_and_then(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line of the log for many, and no token in it."""
    async with Service(tmp_path / "ledger.db", {"ORCHESTRATOR_AUTH_API_KEYS": "true"}) as service:
        for _ in range(20):
            await service.ask("GET", "/agents", headers={"Authorization": "Bearer canary-token"})
    said = capsys.readouterr()
    assert (said.out + said.err).count("authentication_failed") == 1
    assert "canary" not in said.out + said.err


async def test_guessing_costs_the_machine_its_share(tmp_path: Path) -> None:
    """Wrong tokens are counted like other requests of that machine; who has a right one is served beside it."""
    environ = {"ORCHESTRATOR_AUTH_API_KEYS": "true", "ORCHESTRATOR_LIMITS_REQUESTS_PER_S": "0.001",
               "ORCHESTRATOR_LIMITS_REQUESTS_BURST": "5"}  # fmt: skip
    async with Service(tmp_path / "ledger.db", environ) as service:
        _, token = await service.orchestrator.gateway.create_key("clinic-a", {Scope.AGENTS_READ})
        statuses = [(await service.ask("GET", "/agents")).status for _ in range(8)]
        assert statuses == [401] * 5 + [429] * 3
        headers = {"Authorization": f"Bearer {token}"}
        assert [(await service.ask("GET", "/agents", headers=headers)).status for _ in range(6)] == [200] * 5 + [429]


@pytest.mark.parametrize(
    "environ",
    [
        {"JWT_KEYS": "keys.json", "JWT_ISSUER": ""}, {"JWT_KEYS": "keys.json", "JWT_AUDIENCE": ""},
        {"JWT_KEYS": "missing.json"}, {"JWT_KEYS": "secret"}, {"JWT_SECRET_FILE": "short"},
        {"JWT_KEYS": "keys.json", "JWT_SECRET_FILE": "secret"}, {"JWT_KEYS": "http://issuer.example/keys"},
        {"JWT_KEYS": "file:///etc/passwd"}, {"JWT_KEYS": "keys.json", "JWT_ALGORITHMS": "HS256"},
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Are named before anything serves."""
    monkeypatch.chdir(tmp_path)
    Path("keys.json").write_bytes(OWN.document)
    Path("secret").write_bytes(SECRET)
    Path("short").write_bytes(b"short")
    named = {f"ORCHESTRATOR_AUTH_{name}": value for name, value in environ.items()}
    settings = load(environ=SETTINGS | named)
    with pytest.raises(SettingsError, match=r"^auth\.jwt_"):
        verifier_of(settings.auth)


def test_a_leeway_that_is_too_large() -> None:
    """More than a minute is no setting."""
    with pytest.raises(SettingsError):
        load(environ={"ORCHESTRATOR_AUTH_JWT_LEEWAY_S": "61"})


async def test_many_tokens_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of verified tokens has a bound, and what fell out of it is verified again."""
    from orchestrator.web.identity import tokens as module

    monkeypatch.setattr(module, "MOST_CACHED", 3)
    tokens = verifier(KEYS)
    made = [OWN.token(jti=str(number)) for number in range(6)]
    for token in [*made, *made]:
        assert await tokens.principal(token)
    assert len(tokens._verified) == 3
    await anyio.lowlevel.checkpoint()
