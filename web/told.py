"""An answer before it takes the form that the framework, or ASGI, wants."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from quart import Response
from werkzeug.datastructures import Headers

from orchestrator.domain.discretion import discreet
from orchestrator.web.heads import checked

_encode = msgspec.json.Encoder().encode


class Told(Struct, frozen=True):
    """Status, body and headers of an answer."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()

    __repr__ = discreet

    def lines(self) -> bytes:
        """Its headers as they stand in a head. Raises ValueError for one that would be two."""
        text = f"content-type: {self.content_type}\r\ncontent-length: {len(self.body)}\r\n"
        for name, value in self.headers:
            text += f"{name}: {value}\r\n"
        return checked(text.encode("latin-1"), 2 + len(self.headers))

    def response(self) -> Response:
        """The same for the framework."""
        return Response(self.body, status=self.status, content_type=self.content_type, headers=Headers(self.headers))


async def tell(told: Told, always: Sequence[tuple[bytes, bytes]], send: Any) -> None:
    """The same straight to ASGI; `always` are the fields of every answer."""
    own = [(b"content-type", told.content_type.encode()), (b"content-length", b"%d" % len(told.body))]
    headers = [*own, *fields(told.headers), *always]
    await send({"type": "http.response.start", "status": told.status, "headers": headers})
    await send({"type": "http.response.body", "body": told.body, "more_body": False})


def fields(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    return [(name.lower().encode(), text.encode("latin-1")) for name, text in headers]


def told_json(value: Any, status: int = 200, location: str | None = None) -> Told:
    """`value` as JSON; `location` is the header Location."""
    headers = () if location is None else (("Location", location),)
    return Told(status, _encode(value), "application/json", headers)
