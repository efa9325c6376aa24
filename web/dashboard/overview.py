"""`GET /`: the queues, the agents and the actors, live."""

from typing import Any

import msgspec
from quart import Blueprint, Response

from orchestrator.domain.identity import Principal, Scope
from orchestrator.kernel.monotonic import monotonic
from orchestrator.web.dashboard import views
from orchestrator.web.dashboard.live import Parts, live
from orchestrator.web.dashboard.pages import Pages, rights_of
from orchestrator.web.rights import asked_again, caller
from orchestrator.web.streaming import Streams


def add(blueprint: Blueprint, pages: Pages, streams: Streams) -> None:
    """The page and its events."""
    context = pages.context

    def shown(principal: Principal) -> dict[str, Any]:
        telemetry = context.telemetry
        found: dict[str, Any] = {
            "flow": context.flow(),
            "actors": views.actors(telemetry.sampled().actors),
            "reasons": context.system.unready(),
            "agents": [],
            "may": rights_of(principal),
        }
        if Scope.AGENTS_READ in principal.scopes:
            gateway, ttl = context.system.acting_for(principal), context.settings.agents.ttl_s
            found["agents"] = views.agents(
                gateway.agents(), monotonic(), ttl, telemetry.history, gateway.under_way(), principal
            )
        return found

    def plots() -> str:
        return msgspec.json.encode(views.plots(context.telemetry.history.points)).decode()

    @blueprint.get("/")
    async def overview() -> Response:
        return pages.page("overview.html", **shown(caller()), plots=plots())

    @blueprint.get("/ui/live")
    async def overview_live() -> Response:
        principal, still = caller(), asked_again()

        async def take() -> Parts:
            values = shown(principal)
            names = ("state", "flow", "agents", "actors")
            return {name: pages.text(f"part_{name}.html", values) for name in names} | {"plots": plots()}

        return live(streams, take, still, lambda: context.system.closing)
