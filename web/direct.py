"""Calls that are served at the level of ASGI, past the framework, which costs more than what they do.

What decides about them is what decides about every other call: the desk, the wire, the problems. The framework knows
their rules too, for the methods that they do not have.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from orchestrator.settings import Settings
from orchestrator.web.asked import ClientGone, DirectRequest
from orchestrator.web.desk import Desk
from orchestrator.web.told import Told, fields, tell

ASGI = Callable[[Any, Any, Any], Awaitable[None]]
Handler = Callable[[DirectRequest], Awaitable[Told]]


class Direct:
    """In front of the framework: handlers by path, for POST alone."""

    def __init__(
        self, app: ASGI, handlers: Mapping[str, Handler], desk: Desk, hardened: Mapping[str, str], settings: Settings
    ) -> None:
        """`hardened` are the headers of every answer."""
        self._app, self._handlers, self._desk = app, handlers, desk
        self._always = fields(hardened.items())
        self._most, self._within = settings.web.max_body_bytes, settings.web.body_timeout_s

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection of ASGI."""
        handler = None
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"]
            handler = self._handlers.get(path) or self._handlers.get(path.removesuffix("/"))
        if handler is None:
            await self._app(scope, receive, send)
            return
        request = DirectRequest(scope, receive, most=self._most, within_s=self._within)
        try:
            await self._desk.authorise(request, f"POST {request.path.removesuffix('/')}")
            self._desk.admit(request)
            told = await handler(request)
        except ClientGone:
            # Where it is there all the same, since service ends, the server tells it so.
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told; what is ours, the log as well
            told = self._desk.refusal(request, error)
        await tell(told, self._always, send)
