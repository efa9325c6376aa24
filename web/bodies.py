"""How large the body of a request may be, and how many large ones are in memory at once: batches have own bounds."""

from collections.abc import Awaitable
from typing import Any

import anyio
from quart import Request

from orchestrator.domain.errors import Overloaded
from orchestrator.settings import Settings
from orchestrator.web.problems import CONTENT_TYPE, http_document
from orchestrator.web.site import ASGI

ROUTE_TASKS = "/route_tasks"
PATIENCE_S = 2.0


def request_class(settings: Settings) -> type[Request]:
    """Quart's request, whose framework knows one bound for all of them, with the bound of its path."""

    class BoundedRequest(Request):
        def __init__(self, method: str, scheme: str, path: str, *args: Any, **kwargs: Any) -> None:
            kwargs["max_content_length"] = bound(path.rstrip("/"), settings)
            super().__init__(method, scheme, path, *args, **kwargs)

    return BoundedRequest


def bound(path: str, settings: Settings) -> int:
    """The bytes that the body of a request to that path may have."""
    if path == ROUTE_TASKS:
        return settings.web.max_batch_bytes
    if path.startswith("/task/") and path.endswith("/result"):
        # An agent may say as much in a request as in an answer.
        return settings.agents.max_answer_bytes
    return settings.web.max_body_bytes


class Gate:
    """Lets in `most` batches at once. Who waits is not read from, so that the network holds the body back."""

    def __init__(self, app: ASGI, most: int) -> None:
        self._app, self._slots = app, anyio.Semaphore(most)

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        """One connection; one that is let in too late is told 503."""
        if scope["type"] != "http" or scope["path"].rstrip("/") != ROUTE_TASKS:
            return self._app(scope, receive, send)
        return self._in_turn(scope, receive, send)

    async def _in_turn(self, scope: Any, receive: Any, send: Any) -> None:
        with anyio.move_on_after(PATIENCE_S) as waiting:
            await self._slots.acquire()
        if waiting.cancelled_caught:
            await _refuse(send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._slots.release()


async def _refuse(send: Any) -> None:
    body = http_document(503, Overloaded.code)
    headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 503, "headers": [*headers, (b"retry-after", b"1")]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
