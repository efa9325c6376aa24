"""uvicorn with our class for its connections, in the place of the actor that serves on Hypercorn."""

from socket import socket
from typing import Any

import anyio
import uvicorn

from orchestrator import HttpProtocol
from orchestrator.kernel.inbox import Inbox
from orchestrator.settings import Limits
from orchestrator.web.site import ASGI, TERMS, Terms

GRACEFUL_S = 1


class OnUvicorn:
    """Serves `app` on `listener`, which it leaves open. Its end comes by the time that uvicorn was given for it."""

    def __init__(self, app: ASGI, listener: socket, limits: Limits, tls: None = None) -> None:
        self._app, self._listener, self._limits = app, listener, limits

    async def run(self, inbox: Inbox[object]) -> None:
        config = uvicorn.Config(
            self._serve,
            http=HttpProtocol,
            interface="asgi3",
            lifespan="on",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACEFUL_S,
        )
        server = uvicorn.Server(config)
        inbox.ready()
        async with anyio.create_task_group() as group:
            group.start_soon(self._to_its_end, server)
            try:
                await inbox.wait_stopping()
            finally:
                server.should_exit = True

    async def _to_its_end(self, server: uvicorn.Server) -> None:
        with anyio.CancelScope(shield=True):
            await server.serve([self._listener.dup()])

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            scope["state"][TERMS] = Terms(self._limits, False, lambda: None)
        await self._app(scope, receive, send)
