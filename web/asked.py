"""A request as what decides about it sees it: Quart's own, or one that came straight from ASGI."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import anyio
from quart import Request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout
from werkzeug.http import parse_options_header

from orchestrator.web.site import AT_ONCE, AtOnce

_NO_ARGS: MultiDict[str, str] = MultiDict()
_TO_COME: Any = {"body": b"", "more_body": True}
"""Of a body from which nothing was read yet."""


HEADERS = "orchestrator.headers"
"""Where `headers_of` finds those of a scope: our own server leaves them there as long as a client sends the same."""


class DirectHeaders:
    """Headers as ASGI has them, with their names in lower case; decoded when somebody asks for the first time."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self.pairs, self._found = pairs, dict[str, tuple[str, ...]]()
        # Most of what is asked for was not sent.
        self._names = {key for key, _ in pairs}

    def getlist(self, name: str) -> tuple[str, ...]:
        """All values of a header, in their order."""
        found = self._found.get(name)
        if found is None:
            wanted = name.lower().encode()
            values = [value for key, value in self.pairs if key == wanted] if wanted in self._names else ()
            found = self._found[name] = tuple([value.decode("latin-1") for value in values])
        return found

    def get(self, name: str, default: str) -> str:
        """Its first value."""
        found = self._found.get(name)
        if found is None:
            found = self.getlist(name)
        return found[0] if found else default


def headers_of(scope: Any) -> DirectHeaders:
    """Those of a scope of ASGI."""
    found: DirectHeaders | None = scope.get(HEADERS)
    # Whatever stands in front of us may have others in their place.
    if found is None or found.pairs is not scope["headers"]:
        found = scope[HEADERS] = DirectHeaders(scope["headers"])
    return found


class ClientGone(Exception):
    """The client left, or is to be seen as gone, before its request was whole: there is nobody to answer."""


class DirectRequest:
    """What a server hands over, read without the framework: the same names for the same things."""

    def __init__(self, scope: Any, receive: Any, send: Any, *, most: int, within_s: float) -> None:
        """Its body has at most so many bytes, and so many seconds to arrive."""
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query_string: bytes = scope["query_string"]
        self.at_once = _at_once(scope, receive, send)
        self.headers = headers_of(scope)
        self._receive, self._most, self._within = receive, most, within_s

    @property
    def args(self) -> MultiDict[str, str]:
        """The parameters of the query."""
        if not self.query_string:
            return _NO_ARGS
        return MultiDict(parse_qsl(self.query_string.decode("latin-1"), keep_blank_values=True))

    @property
    def mimetype(self) -> str:
        """The media type, without its parameters."""
        return media_type(self.headers.get("content-type", ""))[0]

    async def get_data(self) -> bytes:
        """The whole body. Raises ClientGone, and what Quart raises for one that is too large or too slow."""
        # Most bodies are there when they are asked for, and then no time is taken.
        body = None if self.at_once is None else self.at_once.take()
        if body is None:
            body = await self._received()
        if len(body) > self._most:
            raise RequestEntityTooLarge
        return body

    async def _received(self) -> bytes:
        message = _there(await self._receive()) if _arrived(self._receive) else _TO_COME
        if not message.get("more_body", False):
            return message.get("body", b"")
        length = self.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._most:
            raise RequestEntityTooLarge
        with anyio.move_on_after(self._within):
            return await self._rest(message.get("body", b""))
        raise RequestTimeout

    async def _rest(self, body: bytes) -> bytes:
        pieces, size = [body], len(body)
        while True:
            message = _there(await self._receive())
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > self._most:
                raise RequestEntityTooLarge
            if not message.get("more_body", False):
                return b"".join(pieces)


def _at_once(scope: Any, receive: Any, send: Any) -> AtOnce | None:
    """The shorter way of our own server, unless something stands in front of us that is to see what passes."""
    found: AtOnce | None = scope.get(AT_ONCE)
    return found if found is not None and found.receive == receive and found.send == send else None


def _there(message: Any) -> Any:
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


def _arrived(receive: Any) -> bool:
    """Whether `receive` would return at once. Of other servers uvicorn can be asked (checked with 0.54)."""
    event = getattr(getattr(receive, "__self__", None), "message_event", None)
    return isinstance(event, asyncio.Event) and event.is_set()


def media_type(text: str) -> tuple[str, Mapping[str, str]]:
    """The media type that a header names, in lower case, and its parameters."""
    named, parameters = parse_options_header(text)
    return named.lower(), parameters


Asked = Request | DirectRequest
