"""JSON web tokens (RFC 7519), verified by the rules of RFC 8725: what a token says of itself decides nothing."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any

import jwt
import msgspec
from jwt.exceptions import PyJWTError

from orchestrator.domain.errors import Unauthenticated
from orchestrator.domain.identity import Principal, Subject, scopes_of
from orchestrator.kernel.clock import MOST_BEHIND_S
from orchestrator.web.identity.key_set import BadKeys, KeySet, VerificationKey, kid_of

MOST_CACHED = 10_000
_TYPES = ("jwt", "at+jwt", "application/jwt", "application/at+jwt")
_OURS = {f"verify_{check}": False for check in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
"""What we check by ourselves: with the clock that we are given, and strictly."""


class Rules(msgspec.Struct, frozen=True):
    """What a token must say. Times are in seconds."""

    issuer: str
    audience: str
    leeway_s: float
    lifetime_s: float


class Claims(msgspec.Struct, frozen=True):
    """The claims that are looked at; the five without a default are required. JSON's own types: no number in a text."""

    iss: str
    aud: str | list[str]
    sub: Subject
    exp: float
    iat: float
    nbf: float | None = None
    scope: str = ""


class TokenVerifier:
    """Verifies tokens with the keys that `keys` gives, which is told the `kid` that is wanted."""

    def __init__(
        self,
        rules: Rules,
        keys: Callable[[str | None], Awaitable[KeySet]],
        now: Callable[[], float],
        behind: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`now` is the wall clock, which is known to be `behind` by so many seconds."""
        self._rules, self._keys, self._now, self._behind = rules, keys, now, behind
        self._verified: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self._verified_with: KeySet = {}

    async def principal(self, token: str) -> Principal:
        """Who the token is for. Raises Unauthenticated, with the same words for whatever is wrong with it."""
        if self._behind() > MOST_BEHIND_S:
            raise Unauthenticated("This machine's clock is wrong: no token is taken until it is set.")
        try:
            header = jwt.get_unverified_header(token)
            kid = kid_of(header)
            keys = await self._keys(kid)
            return self._cached(token, header, keys.get(kid), keys)
        except (PyJWTError, BadKeys, msgspec.ValidationError, ValueError, RecursionError):
            raise Unauthenticated("The token is not valid.") from None

    def _cached(self, token: str, header: Mapping[str, Any], key: VerificationKey | None, keys: KeySet) -> Principal:
        if keys is not self._verified_with:
            # A key that was taken away takes its tokens with it.
            self._verified.clear()
            self._verified_with = keys
        mark = sha256(token.encode()).digest()
        known = self._verified.get(mark)
        if known is not None and self._now() < known[1] + self._rules.leeway_s:
            self._verified.move_to_end(mark)
            return known[0]
        principal, expires_at = self._verify(token, header, key)
        self._verified[mark] = (principal, expires_at)
        if len(self._verified) > MOST_CACHED:
            self._verified.popitem(last=False)
        return principal

    def _verify(self, token: str, header: Mapping[str, Any], key: VerificationKey | None) -> tuple[Principal, float]:
        if key is None:
            raise BadKeys("there is no such key")
        if "crit" in header:
            raise ValueError("it asks for something that is not understood")
        if str(header.get("typ", "JWT")).lower() not in _TYPES:
            raise ValueError("it is a token for something else")
        # By the key's own algorithm, whatever the header says.
        payload = jwt.decode(token, key.material, algorithms=[key.algorithm], options=_OURS)  # pyright: ignore[reportArgumentType, reportUnknownMemberType]
        claims = msgspec.convert(payload, Claims, strict=True)
        self._check(claims)
        return Principal(claims.sub, scopes_of(claims.scope)), claims.exp

    def _check(self, claims: Claims) -> None:
        rules, now = self._rules, self._now()
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        well = (
            claims.iss == rules.issuer
            and rules.audience in audiences
            and claims.iat <= now + rules.leeway_s
            and now < claims.exp + rules.leeway_s
            and 0 < claims.exp - claims.iat <= rules.lifetime_s
            and (claims.nbf is None or claims.nbf <= now + rules.leeway_s)
        )
        if not well:
            raise ValueError("its claims are not those of a token for us, now")
