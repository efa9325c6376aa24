"""An answer before it takes the form that the framework, or ASGI, wants."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct
from quart import Response
from werkzeug.datastructures import Headers

from orchestrator.domain.discretion import discreet

_encode = msgspec.json.Encoder().encode


class Told(Struct, frozen=True):
    """Status, body and headers of an answer."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()

    __repr__ = discreet

    def response(self) -> Response:
        """The same for the framework."""
        return Response(self.body, status=self.status, content_type=self.content_type, headers=Headers(self.headers))


async def tell(told: Told, headers: Mapping[str, str], send: Any) -> None:
    """The same straight to ASGI; `headers` are those of every answer."""
    fields = [_often("content-type", told.content_type), (b"content-length", b"%d" % len(told.body))]
    fields += [_field(name, text) for name, text in told.headers]
    fields += [_often(name, text) for name, text in headers.items()]
    await send({"type": "http.response.start", "status": told.status, "headers": fields})
    await send({"type": "http.response.body", "body": told.body, "more_body": False})


def _field(name: str, text: str) -> tuple[bytes, bytes]:
    return name.lower().encode(), text.encode("latin-1")


_often = lru_cache(maxsize=64)(_field)


def told_json(value: Any, status: int = 200, **headers: str) -> Told:
    """`value` as JSON; keyword `location` is the header Location."""
    named = tuple((name.capitalize(), text) for name, text in headers.items())
    return Told(status, _encode(value), "application/json", named)
