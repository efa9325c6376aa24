"""A request as what decides about it sees it: Quart's own, or one that came straight from ASGI."""

from typing import Any

import anyio
from quart import Request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, RequestTimeout
from werkzeug.sansio.request import Request as Head


class DirectRequest(Head):
    """What a server hands over, read without the framework: the same names for the same things."""

    def __init__(self, scope: Any, receive: Any, *, most: int, within_s: float) -> None:
        """Its body has at most so many bytes, and so many seconds to arrive."""
        headers = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]])
        super().__init__(
            scope["method"], scope["scheme"], scope.get("server"), scope.get("root_path", ""), scope["path"],
            scope["query_string"], headers, None,
        )  # fmt: skip
        self.scope = scope
        self._receive, self._most, self._within = receive, most, within_s

    async def get_data(self, **_: Any) -> bytes:
        """The whole body. Raises what Quart raises for one that is too large, too slow, or never comes to its end."""
        if (self.content_length or 0) > self._most:
            raise RequestEntityTooLarge
        message = await self._first()
        if not message.get("more_body", False):
            return self._within_bounds(message.get("body", b""))
        with anyio.move_on_after(self._within):
            return await self._rest(message.get("body", b""))
        raise RequestTimeout

    async def _first(self) -> Any:
        """Most bodies are there when they are asked for, so that their time need not be taken."""
        with anyio.move_on_after(self._within):
            return await self._received()
        raise RequestTimeout

    async def _rest(self, body: bytes) -> bytes:
        pieces, size = [body], len(body)
        while True:
            message = await self._received()
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > self._most:
                raise RequestEntityTooLarge
            if not message.get("more_body", False):
                return self._within_bounds(b"".join(pieces))

    def _within_bounds(self, body: bytes) -> bytes:
        if len(body) > self._most:
            raise RequestEntityTooLarge
        return body

    async def _received(self) -> Any:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise BadRequest
        return message


Asked = Request | DirectRequest
