"""What watches over the box: its pages, and the application of a listener that has nothing else.

Whoever takes every connection of the first listener, or every place of a peer there, takes none here.
"""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from orchestrator import __version__
from orchestrator.actors.gateway import Gateway
from orchestrator.kernel.clock import MOST_BEHIND_S
from orchestrator.settings import Limits, Settings
from orchestrator.telemetry import Telemetry
from orchestrator.web.hosts import Hosts
from orchestrator.web.problems import CONTENT_TYPE, http_document
from orchestrator.web.safety import dangers, on_every_answer
from orchestrator.web.site import ASGI
from orchestrator.web.told import Told, fields, tell, told_json

Page = Callable[[], Told]
PATHS = ("/health", "/ready", "/metrics")
CONNECTIONS, CONNECTIONS_PER_PEER = 64, 16
"""Few ask, and seldom: the kubelet, Prometheus, a person."""

_NOTHING = Told(404, http_document(404), CONTENT_TYPE)


def pages(system: Gateway, telemetry: Telemetry, dangers: list[str]) -> Mapping[str, Page]:
    """What each of the paths answers. Nobody is asked who he is: they hold no id of anybody, and change nothing."""

    def health() -> Told:
        found: dict[str, Any] = {"insecure": dangers} if dangers else {}
        if (behind := system.clock_behind()) > MOST_BEHIND_S:
            found["clock_behind_s"] = round(behind)
        return told_json({"status": "ok", "version": __version__, **found})

    def ready() -> Told:
        reasons = system.unready()
        return told_json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    def metrics() -> Told:
        return Told(200, telemetry.render(), "text/plain; version=0.0.4; charset=utf-8")

    return dict(zip(PATHS, (health, ready, metrics), strict=True))


def few(limits: Limits) -> Limits:
    """The limits of that listener: the same, with a small budget of connections."""
    return replace(
        limits,
        connections=min(limits.connections, CONNECTIONS),
        connections_per_peer=min(limits.connections_per_peer, CONNECTIONS_PER_PEER),
    )


def build_watch(gateway: Gateway, telemetry: Telemetry, settings: Settings) -> ASGI:
    """An ASGI application that answers GET of these pages, and 404 to everything else."""
    found = dangers(settings)
    # By which names it may be called depends on who can reach it, and that is told by its own address.
    there = replace(settings, web=replace(settings.web, host=settings.web.watch_address))
    return Hosts(_Watch(pages(gateway, telemetry, found), on_every_answer(found)), there)


class _Watch:
    def __init__(self, pages: Mapping[str, Page], headers: Mapping[str, str]) -> None:
        """`headers` are those of every answer."""
        self._pages, self._always = pages, fields(headers.items())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection of ASGI, or the server's lifespan, in which there is nothing to do."""
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
            return
        page = self._pages.get(scope["path"]) if scope["method"] in ("GET", "HEAD") else None
        await tell(_NOTHING if page is None else page(), self._always, send)
