"""An issuer of tokens: its keys, its JWKS, and tokens put together by hand, good and bad."""

import base64
import hashlib
import hmac
import json
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from orchestrator.web.identity.tokens import Rules

NOW = 1_800_000_000.0
ISSUER, AUDIENCE = "https://issuer.example", "orchestrator"
RULES = Rules(ISSUER, AUDIENCE, leeway_s=30.0, lifetime_s=900.0)
SECRET = b"a secret of thirty-two bytes, and more"
ALL = ("EdDSA", "ES256", "RS256")


class Issuer:
    """Has a key of each kind, under the names ed, ec and rsa."""

    def __init__(self) -> None:
        self.ed = ed25519.Ed25519PrivateKey.generate()
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.rsa = rsa.generate_private_key(65_537, 2_048)

    @property
    def jwks(self) -> list[dict[str, Any]]:
        keys = [
            (OKPAlgorithm.to_jwk(self.ed.public_key(), as_dict=True), "ed", "EdDSA"),
            (ECAlgorithm.to_jwk(self.ec.public_key(), as_dict=True), "ec", "ES256"),
            (RSAAlgorithm.to_jwk(self.rsa.public_key(), as_dict=True), "rsa", "RS256"),
        ]
        for jwk, _, _ in keys:
            jwk.pop("key_ops", None)
        return [{**jwk, "kid": kid, "alg": alg, "use": "sig"} for jwk, kid, alg in keys]

    @property
    def document(self) -> bytes:
        return json.dumps({"keys": self.jwks}).encode()

    def token(self, kid: str = "ed", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A good token but for what is said otherwise; a claim that is `...` is left out."""
        algorithm = {"ed": "EdDSA", "ec": "ES256", "rsa": "RS256"}[kid]
        headers = {"kid": kid, **(header or {})}
        return jwt.encode(said(**claims), getattr(self, kid), algorithm, headers)

    def pem(self, kid: str) -> bytes:
        """The public key as text, which everybody has."""
        return getattr(self, kid).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@cache
def issuer() -> Issuer:
    """Making keys takes a while."""
    return Issuer()


def said(**claims: Any) -> dict[str, Any]:
    """The claims of a good token but for these."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "clinic-a", "iat": NOW - 10, "exp": NOW + 300, "scope": "tasks:read"}
    return {name: value for name, value in {**good, **claims}.items() if value is not ...}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header: Any, payload: Any, secret: bytes | None = None, signature: str | None = None) -> str:
    """A token of any header and payload, signed by HMAC with `secret`, or not at all."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = ".".join(b64(part) for part in parts)
    if signature is None:
        signature = b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest()) if secret is not None else ""
    return f"{signed}.{signature}"
