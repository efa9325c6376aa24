"""Calls that are served at the level of ASGI, past the framework, which costs more than what they do.

What decides about them is what decides about every other call: the desk, the wire, the problems. The framework knows
their rules too, for the methods that they do not have.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from orchestrator.settings import Settings
from orchestrator.web.asked import ClientGone, DirectRequest
from orchestrator.web.bodies import bound
from orchestrator.web.desk import Desk
from orchestrator.web.heads import lines
from orchestrator.web.site import ASGI
from orchestrator.web.told import Told, fields, tell

Handler = Callable[[DirectRequest], Awaitable[Told]]


class Direct:
    """In front of the framework: handlers by path, for POST alone."""

    def __init__(
        self, app: ASGI, handlers: Mapping[str, Handler], desk: Desk, hardened: Mapping[str, str], settings: Settings
    ) -> None:
        """`hardened` are the headers of every answer."""
        self._app, self._desk = app, desk
        served = {path: (handler, f"POST {path}", bound(path, settings)) for path, handler in handlers.items()}
        self._served = served | {f"{path}/": found for path, found in served.items()}
        self._always = fields(hardened.items())
        self._lines = lines(self._always)
        self._within = settings.web.body_timeout_s

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        """One connection of ASGI."""
        found = self._served.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            return self._app(scope, receive, send)
        handler, call, most = found
        request = DirectRequest(scope, receive, send, most=most, within_s=self._within)
        return self._answer(request, handler, call, send)

    async def _answer(self, request: DirectRequest, handler: Handler, call: str, send: Any) -> None:
        try:
            await self._desk.authorise(request, call)
            self._desk.admit(request)
            told = await handler(request)
        except ClientGone:
            # Where it is there all the same, since service ends, the server tells it so.
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told; what is ours, the log as well
            told = self._desk.refusal(request, error)
        if request.at_once is None:
            await tell(told, self._always, send)
        else:
            request.at_once.answer(told.status, told.lines() + self._lines, told.body)
