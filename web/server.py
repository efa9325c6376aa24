"""The web actor: Hypercorn on a socket that it is given, and an end of service that always ends."""

import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from socket import AF_UNSPEC, AI_PASSIVE, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, getaddrinfo, socket
from typing import Any, cast

import anyio
from hypercorn.asyncio import serve  # pyright: ignore[reportUnknownVariableType]

from orchestrator.kernel.inbox import Inbox
from orchestrator.settings import Limits
from orchestrator.web.connections import Connections
from orchestrator.web.doors import install
from orchestrator.web.faults import log_fault
from orchestrator.web.http_rules import broken_off
from orchestrator.web.server_config import FindTLS, ServerConfig
from orchestrator.web.site import ASGI

STOP_S = 3.0
"""What open requests are given when the server stops; they wait for the ledger at most."""
ABORT_S = 1.0
"""What is left then to tell clients that they were not served."""
FOLLOW_S = 5.0
"""How often it is looked whether the files of TLS were replaced, though nobody connects."""


class WebServer:
    """Serves `app` on `listener`, which it leaves open: who connects between two incarnations waits in the backlog."""

    def __init__(self, app: ASGI, listener: socket, limits: Limits, tls: FindTLS | None = None) -> None:
        """With `tls` connections are secured by what it says when they begin."""
        self._app, self._listener, self._limits, self._tls = app, listener, limits, tls
        self._connections = Connections(limits.connections, limits.connections_per_peer)
        self._late = anyio.Event()
        """Open requests are ended."""
        self._exchanges: set[_Exchange] = set()

    async def run(self, inbox: Inbox[object]) -> None:
        install()
        async with anyio.create_task_group() as group:
            group.start_soon(self._be_patient, inbox)
            inbox.ready()
            # Hypercorn ends by its trigger alone: cancelled, it would leave connections behind.
            with anyio.CancelScope(shield=True):
                await self._serve_until(inbox.wait_stopping)
            group.cancel_scope.cancel()

    async def _be_patient(self, inbox: Inbox[object]) -> None:
        """Once the server stops, gives requests their time, unless the supervisor has no more of it and cancels us."""
        try:
            await inbox.wait_stopping()
            await anyio.sleep(STOP_S)
        finally:
            self._late.set()

    async def _serve_until(self, wait_stopping: Callable[[], Awaitable[None]]) -> None:
        async def stopping() -> None:
            await wait_stopping()
            self._connections.stop_all()

        async with anyio.create_task_group() as group:
            group.start_soon(self._end_requests)
            if self._tls is not None:
                group.start_soon(self._renew, self._tls)
            # In a task of its own: on Python 3.11 it leaves behind a request to cancel the task that ran it.
            async with anyio.create_task_group() as own:
                own.start_soon(partial(serve, cast("Any", self._serve), self._config(), shutdown_trigger=stopping))
            group.cancel_scope.cancel()

    def _config(self) -> ServerConfig:
        config = ServerConfig()
        config.app, config.tls = self._app, self._tls
        config.connections, config.limits = self._connections, self._limits
        config.bind = [f"fd://{os.dup(self._listener.fileno())}"]
        config.keep_alive_timeout = self._limits.idle_s
        config.include_server_header = False
        config.graceful_timeout = STOP_S + 2 * ABORT_S
        config.accesslog = None
        # Otherwise it would write to standard error itself, tracebacks and all.
        config.errorlog = logging.getLogger("hypercorn.error")
        return config

    async def _renew(self, tls: FindTLS) -> None:
        """Has clients connect anew once its files were replaced: what they showed may have been taken back."""
        before = await tls()
        while True:
            await anyio.sleep(FOLLOW_S)
            now = await tls()
            if now is not before:
                self._connections.renew_all()
            before = now

    async def _end_requests(self) -> None:
        """Hypercorn's own time limit does not hold on Python 3.12 and newer, so requests are ended here."""
        await self._late.wait()
        for exchange in list(self._exchanges):
            exchange.end()
        self._connections.end_all()
        while True:
            await anyio.sleep(ABORT_S)
            self._connections.abort_all()

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        self._exchanges.add(exchange)
        if self._late.is_set():
            exchange.end()
        try:
            await exchange.run(self._app, scope)
        except Exception as error:  # noqa: BLE001 - of the framework's faults, too, the client hears only that
            log_fault(error)
            await exchange.break_off(500)
        else:
            await exchange.break_off(503)
        finally:
            self._exchanges.discard(exchange)


class _Exchange:
    """One request and its answer, as the application sees them. When service ends it sees its client leave.

    Only one that does not look at its client is cancelled: Quart would leave behind the tasks that it runs requests in.
    """

    def __init__(self, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        self._receive, self._send = receive, send
        self._answered = self._left = self._ended = False
        self._running: anyio.CancelScope | None = None
        self._receiving: anyio.CancelScope | None = None

    async def run(self, app: ASGI, scope: Any) -> None:
        with anyio.CancelScope() as self._running:
            await app(scope, self.receive, self.send)

    def end(self) -> None:
        self._ended = True
        scope = self._receiving or self._running
        if scope is not None:
            scope.cancel()

    async def receive(self) -> Any:
        if not self._ended:
            with anyio.CancelScope() as self._receiving:
                try:
                    message = await self._receive()
                    self._left = message["type"] == "http.disconnect"
                    return message
                finally:
                    self._receiving = None
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self._answered = True
        await self._send(message)

    async def break_off(self, status: int) -> None:
        """A client that is still there, and was told nothing yet, is told this."""
        if self._answered or self._left:
            return
        headers, body = broken_off(status)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def listen(host: str, port: int) -> socket:
    """A listening socket, for IPv4 or IPv6 as the host says. Raises OSError where the address cannot be had."""
    family, kind, protocol, _, address = getaddrinfo(host, port, AF_UNSPEC, SOCK_STREAM, 0, AI_PASSIVE)[0]
    listener = socket(family, kind, protocol)
    try:
        listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
