"""Tokens that must not be taken, each with what is wrong with it."""

import json
from typing import Any

import jwt
from issuing import AUDIENCE, ISSUER, NOW, SECRET, Issuer, b64, by_hand, said


def forgeries(own: Issuer, other: Issuer) -> dict[str, str]:
    """Against a verifier with the keys of `own`; `other` is somebody else with keys of the same names."""
    return {
        **_algorithms(own),
        **_names_of_keys(own, other),
        **_headers(own, other),
        **_claims(own),
        **_times(own),
        **_shapes(own),
    }


def _algorithms(own: Issuer) -> dict[str, str]:
    def header(alg: Any, kid: str = "rsa") -> dict[str, Any]:
        return {"alg": alg, "typ": "JWT", "kid": kid}

    found = {f"alg {alg!r}": by_hand(header(alg), said()) for alg in ("none", "None", "NONE", "nOnE", "", None, 0, [])}
    found |= {f"alg {alg}, no signature": by_hand(header(alg), said()) for alg in ("EdDSA", "ES256", "RS256", "HS256")}
    for kid in ("ed", "ec", "rsa"):
        pem = own.pem(kid)
        found[f"HS256 with the public key {kid}"] = by_hand(header("HS256", kid), said(), pem)
        found[f"HS256 with the public key {kid}, stripped"] = by_hand(header("HS256", kid), said(), pem.strip())
    found["HS256 with an empty secret"] = by_hand(header("HS256"), said(), b"")
    found["HS256 with some secret"] = by_hand(header("HS256"), said(), SECRET)
    found["HS256 without kid"] = by_hand({"alg": "HS256"}, said(), SECRET)
    found["HS512"] = jwt.encode(said(), SECRET * 2, "HS512", {"kid": "rsa"})
    for alg in ("RS384", "RS512", "PS256", "PS512"):
        found[f"{alg} with the RSA key"] = jwt.encode(said(), own.rsa, alg, {"kid": "rsa"})
    found["ES256 said, EdDSA signed"] = _resaid(own.token("ed"), {"alg": "ES256", "kid": "ed"})
    found["EdDSA said of the EC key"] = _resaid(own.token("ec"), {"alg": "EdDSA", "kid": "ec"})
    return found


def _names_of_keys(own: Issuer, other: Issuer) -> dict[str, str]:
    found = {f"the key {kid} of somebody else": other.token(kid) for kid in ("ed", "ec", "rsa")}
    odd: list[Any] = [
        "", "unknown", "ED", "ed ", "../../etc/passwd", "ed' OR '1'='1", "http://evil.example/keys", "e" * 65, "ed\n",
        "ed\x00", 1, True, ["ed"], {"kid": "ed"}, "éd",
    ]  # fmt: skip
    found |= {f"kid {kid!r}": by_hand({"alg": "EdDSA", "kid": kid}, said(), None, _signature(own)) for kid in odd}
    found["no kid, with three keys"] = jwt.encode(said(), own.ed, "EdDSA")
    found["kid of another key"] = own.token("ed", {"kid": "ec"})
    return found


def _headers(own: Issuer, other: Issuer) -> dict[str, str]:
    jwk = other.jwks[0]
    dangerous = {
        "jku": {"jku": "https://evil.example/jwks.json"},
        "x5u": {"x5u": "https://evil.example/chain.pem"},
        "jwk": {"jwk": jwk},
        "x5c": {"x5c": [b64(other.pem("ed"))]},
    }
    found = {f"{name} of its own": other.token("ed", header) for name, header in dangerous.items()}
    found |= {f"{name}, without kid": other.token("ed", {**header, "kid": ""}) for name, header in dangerous.items()}
    found["crit"] = own.token("ed", {"crit": ["exp"]})
    # The one extension that PyJWT knows of, well declared and well signed: we know of none.
    found["crit of b64"] = _headed(own, {"crit": ["b64"], "b64": True})
    found["b64"] = by_hand({"alg": "EdDSA", "kid": "ed", "b64": False}, said(), None, _signature(own))
    found["crit of something unknown"] = own.token("ed", {"crit": ["https://evil.example"], "https://evil.example": 1})
    for typ in ("logout+jwt", "secevent+jwt", "dpop+jwt", "id", 7):
        found[f"typ {typ!r}"] = own.token("ed", {"typ": typ})
    return found


def _claims(own: Issuer) -> dict[str, str]:
    found = {f"without {name}": _signed(own, said(**{name: ...})) for name in ("iss", "aud", "sub", "exp", "iat")}
    wrong: dict[str, list[Any]] = {
        "iss": ["", "https://issuer.example/", "https://evil.example", ISSUER.upper()],
        "aud": ["", "other", f"{AUDIENCE} ", AUDIENCE[:-1], [], ["other"], [[AUDIENCE]]],
        "sub": ["", "a b", "a\n", "é", "x" * 201],
        "scope": [["operate"]],
    }
    for name, values in wrong.items():
        found |= {f"{name} {str(value)[:30]!r}": _signed(own, said(**{name: value})) for value in values}
    for name in ("sub", "aud", "exp", "iat", "nbf", "iss"):
        for value in (7, True, {}, None) if name in ("sub", "aud", "iss") else ("x", True, {}, [NOW]):
            if not (name in ("nbf",) and value is None):
                found[f"{name} as {value!r}"] = _signed(own, said(**{name: value}))
    return found


def _times(own: Issuer) -> dict[str, str]:
    cases: dict[str, dict[str, Any]] = {
        "expired": {"iat": NOW - 400, "exp": NOW - 31},
        "expired just now": {"iat": NOW - 400, "exp": NOW - 30},
        "expired in 1970": {"iat": 0, "exp": 300},
        "issued in the future": {"iat": NOW + 31, "exp": NOW + 300},
        "not yet": {"nbf": NOW + 31},
        "lives too long": {"iat": NOW - 10, "exp": NOW + 891},
        "lives for ever": {"exp": 1e300},
        "ends before it begins": {"iat": NOW + 20, "exp": NOW + 10},
        "exp is infinite": {"exp": float("inf")},
        "exp is no number": {"exp": float("nan")},
        "iat is minus infinite": {"iat": float("-inf")},
        "exp as text": {"exp": str(NOW + 300)},
        "iat as text": {"iat": str(NOW)},
    }
    return {name: _signed(own, said(**claims)) for name, claims in cases.items()}


def _shapes(own: Issuer) -> dict[str, str]:
    good = own.token()
    head, body, signature = good.split(".")
    return {
        "nothing": "",
        "dots": "..",
        "one part": head,
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.{signature}",
        "five parts (JWE)": f"{head}.{body}.{signature}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "half a signature": f"{head}.{body}.{signature[: len(signature) // 2]}",
        "signature of zeros": f"{head}.{body}.{b64(bytes(64))}",
        "another payload": f"{head}.{b64(b'{}')}.{signature}",
        "payload is no object": by_hand({"alg": "EdDSA", "kid": "ed"}, [], None, signature),
        "payload is no JSON": by_hand({"alg": "EdDSA", "kid": "ed"}, b"\xff", None, signature),
        "header is no object": by_hand([], said(), None, signature),
        "header is no JSON": by_hand(b"{", said(), None, signature),
        "header is deep": by_hand(b'{"a":' * 3_000, said(), None, signature),
        "unsigned, deep": by_hand({"alg": "EdDSA", "kid": "ed"}, b"[" * 5_000, None, signature),
        "a space within": f"{head} .{body}.{signature}",
        "not ASCII": f"{head}.{body}.{signature}é",
    }


def _signature(own: Issuer) -> str:
    return own.token().rsplit(".", 1)[1]


def _signed(own: Issuer, payload: Any) -> str:
    """Well signed, whatever it says: what an issuer gone wrong could give out."""
    return jwt.api_jws.encode(json.dumps(payload).encode(), own.ed, "EdDSA", {"kid": "ed", "typ": "JWT"})


def _headed(own: Issuer, header: dict[str, Any]) -> str:
    """A good token but for what its header says, with its signature over that."""
    token = by_hand({"alg": "EdDSA", "kid": "ed", **header}, said(), None, "")
    return token + b64(own.ed.sign(token.removesuffix(".").encode()))


def _resaid(token: str, header: dict[str, Any]) -> str:
    """The token with another header, and the signature that it had."""
    _, body, signature = token.split(".")
    return f"{b64(json.dumps(header).encode())}.{body}.{signature}"
