"""Public keys of an issuer of tokens (JWKS, RFC 7517), each with the one algorithm that it is for (RFC 8725 §3.1)."""

import re
from collections.abc import Collection, Mapping
from typing import Any, cast

import jwt
import msgspec
from jwt.exceptions import PyJWKError, PyJWTError

SECRET_BYTES = 32
RSA_BITS = 2_048
MOST_KEYS = 64
_KID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_ALGORITHMS: Mapping[tuple[Any, Any], str] = {
    ("OKP", "Ed25519"): "EdDSA",
    ("EC", "P-256"): "ES256",
    ("RSA", None): "RS256",
}


class BadKeys(ValueError):
    """What should be keys is none; its message is ours, and quotes nothing."""


class VerificationKey(msgspec.Struct, frozen=True):
    """A key, and the only algorithm that a token signed with it may name."""

    algorithm: str
    material: Any

    def __repr__(self) -> str:
        return f"<VerificationKey {self.algorithm}>"


KeySet = Mapping[str | None, VerificationKey]
"""By `kid`. Under None stands the key of tokens that name none: the secret, or the only one there is."""


def secret_key(secret: bytes) -> KeySet:
    """The key of HS256. Raises BadKeys for a short one."""
    if len(secret) < SECRET_BYTES:
        raise BadKeys(f"the secret has less than {SECRET_BYTES} bytes")
    return {None: VerificationKey("HS256", secret)}


def key_set(document: bytes, algorithms: Collection[str]) -> KeySet:
    """The usable keys of a JWKS. Raises BadKeys where there is none, or where two have one name.

    Passed over, as RFC 7517 §5 has it: keys of other kinds, for other uses, weak ones, secret or private ones.
    """
    found: dict[str | None, VerificationKey] = {}
    for jwk in _listed(document):
        key = _usable(jwk, algorithms)
        if key is None:
            continue
        kid = jwk.get("kid")
        if kid in found:
            raise BadKeys("two keys have the same name")
        found[kid] = key
    if not found:
        raise BadKeys("there is no key in it that may be used")
    if len(found) == 1:
        found[None] = next(iter(found.values()))
    return found


def _listed(document: bytes) -> list[dict[str, Any]]:
    try:
        keys: Any = msgspec.json.decode(document)["keys"]
        listed = [cast("dict[str, Any]", jwk) for jwk in keys if isinstance(jwk, dict)]
    except (msgspec.DecodeError, KeyError, TypeError, IndexError, RecursionError):
        raise BadKeys("it is no JSON Web Key Set") from None
    if len(listed) > MOST_KEYS:
        raise BadKeys(f"there are more than {MOST_KEYS} keys in it")
    return listed


def _usable(jwk: Mapping[str, Any], algorithms: Collection[str]) -> VerificationKey | None:
    kid, kind, curve = jwk.get("kid"), jwk.get("kty"), jwk.get("crv")
    algorithm = _ALGORITHMS.get((str(kind), str(curve) if "crv" in jwk else None))
    named = jwk.get("alg", algorithm)
    fits = algorithm in algorithms and named == algorithm and jwk.get("use", "sig") == "sig" and "d" not in jwk
    if not fits or not (kid is None or (isinstance(kid, str) and _KID.fullmatch(kid))):
        return None
    try:
        material: Any = jwt.PyJWK({**jwk}, algorithm=algorithm).key
    except (PyJWKError, PyJWTError, ValueError, TypeError):
        return None
    if algorithm == "RS256" and material.key_size < RSA_BITS:
        return None
    return VerificationKey(cast("str", algorithm), material)


def kid_of(header: Mapping[str, Any]) -> str | None:
    """The name of the key that a token says it was signed with: only ever looked up. Raises BadKeys for an odd one."""
    kid = header.get("kid")
    if kid is not None and not (isinstance(kid, str) and _KID.fullmatch(kid)):
        raise BadKeys("the name of its key is none")
    return kid
