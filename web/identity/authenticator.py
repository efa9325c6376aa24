"""From what a request shows for itself to the principal behind it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from orchestrator.domain import api_key
from orchestrator.domain.api_key import ApiKey
from orchestrator.domain.errors import Unauthenticated
from orchestrator.domain.identity import ANONYMOUS, Principal
from orchestrator.settings import Auth
from orchestrator.web.asked import Asked
from orchestrator.web.identity.certificates import CertificateHolders

if TYPE_CHECKING:
    from orchestrator.web.identity.tokens import TokenVerifier

FindKey = Callable[[str], Awaitable[ApiKey | None]]
MAX_TOKEN = 8_192


class Authenticator:
    """Without authentication in the settings everybody is anonymous, with all rights."""

    def __init__(self, auth: Auth, find_key: FindKey, tokens: "TokenVerifier | None", now: Callable[[], float]) -> None:
        """`tokens` verifies JSON web tokens, where these are taken; `now` is the wall clock."""
        self._auth, self._find_key, self._tokens = auth, find_key, tokens
        self._asks = auth.configured
        self._holders = CertificateHolders(auth, now)

    async def principal(self, request: Asked) -> Principal:
        """Who sent the request. Raises Unauthenticated, or AuditUnavailable while the ledger cannot be asked."""
        if not self._asks:
            return ANONYMOUS
        return await self.showing(request, bearer(request.headers.getlist("Authorization")))

    async def showing(self, request: Asked, token: str | None) -> Principal:
        """Who is behind a request with that API key or token, whatever its headers say. Raises as `principal` does.

        A certificate is enough. A token beside it must be of the same caller, who then has the rights of both.
        """
        holder = self._holders.principal(cast("Any", request.scope).get("state", {}))
        if token is None:
            if holder is None:
                raise Unauthenticated("Send an API key or a token: Authorization: Bearer …")
            return holder
        bearing = await self._of_token(token)
        if holder is None:
            return bearing
        if bearing.subject != holder.subject:
            raise Unauthenticated("The certificate and the token are of two callers.")
        return Principal(bearing.subject, bearing.scopes | holder.scopes)

    async def _of_token(self, token: str) -> Principal:
        """Who stands behind an API key or a token. Raises Unauthenticated, or AuditUnavailable."""
        if token.startswith(api_key.PREFIX):
            first = next((key for key in self._auth.first_keys if key.matches(token)), None)
            if first is not None:
                return first.principal
            key = await self._find_key(token) if self._auth.api_keys else None
            if key is not None:
                return key.principal
        elif self._tokens is not None:
            return await self._tokens.principal(token)
        raise Unauthenticated("The token is not valid.")


def bearer(headers: Sequence[str]) -> str | None:
    """The token of the header Authorization (RFC 6750 §2.1); None where there is none. Raises Unauthenticated."""
    if not headers:
        return None
    scheme, _, token = headers[0].partition(" ")
    token = token.strip(" ")
    if len(headers) > 1 or scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
        raise Unauthenticated("The header Authorization must be one bearer token.")
    return token
