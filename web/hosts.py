"""By which names this server lets itself be called.

A page of a foreign site may have its own name lead to this machine once it is loaded (DNS rebinding). To the browser
our answers are then that site's, and origins that agree with their host say nothing. But the host is the site's name.
"""

import re
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any

import msgspec

from orchestrator.settings import Settings
from orchestrator.web.asked import headers_of
from orchestrator.web.problems import CONTENT_TYPE, HTTP_CODES, fields
from orchestrator.web.safety import is_local
from orchestrator.web.site import ASGI

ANY = "*"
_HOST = re.compile(r"(?:\[(?P<ip>[0-9a-f:.]+)\]|(?P<name>[a-z0-9_.-]+))(?::[0-9]*)?")
_REFUSED = 421
_UNNAMED = (None, None)
_DETAIL = "Nothing here is called by that name; web.hosts lists the names that it has."


class Hosts:
    """In front of all that is served over HTTP, whichever server reads it."""

    def __init__(self, app: ASGI, settings: Settings) -> None:
        self._app, names = app, names_of(settings)
        # Clients send the same header again and again; what strangers make up has no room beyond this.
        self._ours: Callable[[str], bool] = lru_cache(maxsize=256)(partial(ours, names=names))

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        """One connection of ASGI. 421 (RFC 9110 §15.5.20) for a host that is none of ours."""
        # No browser sends a request without a host, nor to a socket file, which has no port.
        if scope["type"] == "http" and (scope.get("server") or _UNNAMED)[1]:
            for host in headers_of(scope).getlist("Host"):
                if not self._ours(host):
                    return _refuse(send)
        return self._app(scope, receive, send)


def names_of(settings: Settings) -> frozenset[str] | None:
    """The names that we have beside our addresses; None where any will do.

    Where callers show who they are, and other machines reach us, a foreign page gets no more from a browser than any
    device gets by itself: a browser keeps no key of ours for it.
    """
    web = settings.web
    if ANY in web.hosts or (not web.hosts and settings.auth.configured and not is_local(web.host)):
        return None
    return frozenset(name.lower().removesuffix(".") for name in ("localhost", *web.hosts))


def ours(host: str, names: frozenset[str] | None) -> bool:
    """Whether a request for that host is for us. An address is never somebody's name, so that none is foreign."""
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return names is None
    name = found["ip"] or found["name"].removesuffix(".")
    return names is None or name in names or _is_address(name)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


async def _refuse(send: Any) -> None:
    body = msgspec.json.encode(fields(_REFUSED, HTTP_CODES[_REFUSED], HTTPStatus(_REFUSED).phrase, _DETAIL))
    headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    # What else comes on the connection was meant for somebody else as well.
    await send({"type": "http.response.start", "status": _REFUSED, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
