"""What every route needs."""

from typing import Any

import msgspec
from msgspec import Struct
from quart import Response

from orchestrator.actors.gateway import Gateway
from orchestrator.domain.strict_json import Bounds
from orchestrator.settings import Settings
from orchestrator.telemetry import Telemetry
from orchestrator.web.rates import Rates

_encode = msgspec.json.Encoder().encode


class Context(Struct, frozen=True):
    """The system behind the routes."""

    gateway: Gateway
    telemetry: Telemetry
    settings: Settings
    rates: Rates

    @property
    def bounds(self) -> Bounds:
        """Those of the JSON in requests."""
        return self.settings.json_bounds()


def json_response(value: Any, status: int = 200, **headers: str) -> Response:
    """`value` as JSON; keyword `location` is the header Location."""
    named = {name.capitalize(): text for name, text in headers.items()}
    return Response(_encode(value), status=status, content_type="application/json", headers=named)
