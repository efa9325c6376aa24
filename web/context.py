"""What every route needs."""

from typing import Any

from msgspec import Struct
from quart import Response, request

from orchestrator.actors.gateway import Gateway
from orchestrator.domain.strict_json import Bounds
from orchestrator.domain.trace import checked
from orchestrator.settings import Settings
from orchestrator.telemetry import Telemetry
from orchestrator.web.asked import Asked
from orchestrator.web.flow import Flow, flow
from orchestrator.web.rates import Rates
from orchestrator.web.rights import principal_of
from orchestrator.web.told import told_json


class Context(Struct, frozen=True):
    """What every route needs of the system."""

    system: Gateway
    telemetry: Telemetry
    settings: Settings
    rates: Rates
    dangers: list[str]
    """What is unsafe about how this serves: every page says so."""

    @property
    def bounds(self) -> Bounds:
        """Those of the JSON in requests."""
        return self.settings.json_bounds()

    @property
    def gateway(self) -> Gateway:
        """The system as the caller of the request that is being served may see and change it. Not for other moments."""
        return self.gateway_for(request)

    def flow(self) -> Flow:
        """How work goes now."""
        in_flight = sum(view.in_flight for view in self.system.agents().values())
        return flow(self.telemetry.history.points, self.telemetry.now(self.system.now()), in_flight)

    def gateway_for(self, asked: Asked) -> Gateway:
        """The system as who sent that request may see and change it."""
        return self.system.acting_for(principal_of(asked), checked(asked.headers.get("traceparent", "")))


def json_response(value: Any, status: int = 200) -> Response:
    """`value` as JSON."""
    return told_json(value, status).response()
