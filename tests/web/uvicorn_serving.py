"""uvicorn with our class for its connections, in the place of the actor that serves on Hypercorn."""

from socket import socket
from typing import Any

import anyio
import uvicorn

from orchestrator import HttpProtocol
from orchestrator.kernel.inbox import Inbox
from orchestrator.settings import Limits
from orchestrator.web.site import ASGI, TERMS, Terms

OPTIONS: dict[str, Any] = {
    "http": HttpProtocol, "interface": "asgi3", "lifespan": "on", "log_config": None, "proxy_headers": False,
    "server_header": False, "timeout_graceful_shutdown": 1,
}  # fmt: skip


class OnUvicorn:
    """Serves `app` on `listener`, which it leaves open. Its end comes by the time that uvicorn was given for it."""

    def __init__(self, app: ASGI, listener: socket, limits: Limits, tls: None = None, **options: Any) -> None:
        """`options` are uvicorn's."""
        self._app, self._listener, self._limits = app, listener, limits
        self._options = OPTIONS | options
        self.drained = anyio.Event()
        """Whoever waits in the application is to stop waiting."""

    async def run(self, inbox: Inbox[object]) -> None:
        """Returns when uvicorn has ended, by itself or since it was told to."""
        server = uvicorn.Server(uvicorn.Config(self._serve, **self._options))
        inbox.ready()
        async with anyio.create_task_group() as group:
            group.start_soon(self._to_its_end, server, group.cancel_scope)
            try:
                await inbox.wait_stopping()
            finally:
                server.should_exit = True

    async def _to_its_end(self, server: uvicorn.Server, waiting: anyio.CancelScope) -> None:
        with anyio.CancelScope(shield=True):
            await server.serve([self._listener.dup()])
            waiting.cancel()

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            scope["state"][TERMS] = Terms(self._limits, False, self.drained.set, self._serve, self._app)
        await self._app(scope, receive, send)
