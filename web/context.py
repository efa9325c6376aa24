"""What every route needs."""

from typing import Any

import msgspec
from msgspec import Struct
from quart import Response

from orchestrator.actors.gateway import Gateway
from orchestrator.settings import Settings
from orchestrator.telemetry import Telemetry

_encode = msgspec.json.Encoder().encode


class Context(Struct, frozen=True):
    """The system behind the routes."""

    gateway: Gateway
    telemetry: Telemetry
    settings: Settings


def json_response(value: Any, status: int = 200, **headers: str) -> Response:
    """`value` as JSON; keyword `location` is the header Location."""
    named = {name.capitalize(): text for name, text in headers.items()}
    return Response(_encode(value), status=status, content_type="application/json", headers=named)
