"""Who is signed in to the page. A session holds what its owner showed, so it ends with the key or token behind it; one
that was opened by a certificate holds nothing, and is good where that certificate is shown again.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import sha256

from msgspec import Struct
from werkzeug.http import parse_cookie

from orchestrator.domain.errors import Unauthenticated
from orchestrator.domain.identity import ANONYMOUS, Principal
from orchestrator.web.asked import Asked

COOKIE = "orchestrator_session"
LASTS_S = 8 * 3_600.0
IDLE_S = 3_600.0
MOST = 1_000

Identify = Callable[[Asked, str | None], Awaitable[Principal]]
"""Who is behind a request with a key or token, or with its certificate alone. Raises Unauthenticated."""


class _Session(Struct):
    subject: str
    credential: str | None
    opened_at: float
    used_at: float

    def over(self, now: float) -> bool:
        return now - self.opened_at > LASTS_S or now - self.used_at > IDLE_S


class Sessions:
    """In memory only, by the hash of the cookie: a restart signs everybody out. Of too many the least used one goes.

    Not for several processes: who is sent to another replica signs in there.
    """

    def __init__(self, identify: Identify, now: Callable[[], float], token: Callable[[], str], *, needed: bool) -> None:
        """`now` is in seconds, `token` gives unguessable text; not `needed`, everybody is anonymous with all rights."""
        self._identify, self._now, self._token = identify, now, token
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self.needed = needed

    async def open(self, request: Asked, credential: str | None) -> str:
        """Signs in with a key or token, or by the certificate; returns the cookie for it. Raises Unauthenticated."""
        principal = await self._identify(request, credential)
        cookie, now = self._token(), self._now()
        self._sessions[_mark(cookie)] = _Session(principal.subject, credential, now, now)
        while len(self._sessions) > MOST:
            self._sessions.popitem(last=False)
        return cookie

    def close(self, cookie: str) -> None:
        """Signs out. Twice is safe."""
        self._sessions.pop(_mark(cookie), None)

    async def principal(self, request: Asked) -> Principal:
        """Who is signed in. Asks anew each time whether what he showed still holds. Raises Unauthenticated."""
        if not self.needed:
            return ANONYMOUS
        mark, now = _mark(cookie_of(request)), self._now()
        session = self._sessions.get(mark)
        if session is None or session.over(now):
            self._sessions.pop(mark, None)
            raise Unauthenticated("Sign in first.")
        session.used_at = now
        self._sessions.move_to_end(mark)
        try:
            principal = await self._identify(request, session.credential)
        except Unauthenticated:
            self._sessions.pop(mark, None)
            raise
        if principal.subject != session.subject:
            raise Unauthenticated("The session is another caller's.")
        return principal

    async def certified(self, request: Asked) -> Principal | None:
        """Who could sign in by the certificate of the connection."""
        try:
            return await self._identify(request, None)
        except Unauthenticated:
            return None


def cookie_of(request: Asked) -> str:
    """What the browser shows; empty where it shows none."""
    return parse_cookie(";".join(request.headers.getlist("Cookie"))).get(COOKIE, "")


def _mark(cookie: str) -> bytes:
    """Under which a session is kept: looking it up tells nothing of the cookies of others by the time it takes."""
    return sha256(cookie.encode("utf-8", "replace")).digest()
