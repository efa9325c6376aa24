"""An answer before it takes the form that the framework, or ASGI, wants."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from quart import Response
from werkzeug.datastructures import Headers

_encode = msgspec.json.Encoder().encode


class Told(Struct, frozen=True):
    """Status, body and headers of an answer."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()

    def response(self) -> Response:
        """The same for the framework."""
        return Response(self.body, status=self.status, content_type=self.content_type, headers=Headers(self.headers))


async def tell(told: Told, headers: Mapping[str, str], send: Any) -> None:
    """The same straight to ASGI; `headers` are those of every answer."""
    said = (*told.headers, *headers.items())
    fields = [
        (b"content-type", told.content_type.encode("latin-1")),
        (b"content-length", b"%d" % len(told.body)),
        *((name.lower().encode(), text.encode("latin-1")) for name, text in said),
    ]
    await send({"type": "http.response.start", "status": told.status, "headers": fields})
    await send({"type": "http.response.body", "body": told.body, "more_body": False})


def told_json(value: Any, status: int = 200, **headers: str) -> Told:
    """`value` as JSON; keyword `location` is the header Location."""
    named = tuple((name.capitalize(), text) for name, text in headers.items())
    return Told(status, _encode(value), "application/json", named)
