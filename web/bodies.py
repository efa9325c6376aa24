"""How large the body of a request may be, and how many large ones are in memory at once: batches have own bounds."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from quart import Request

from orchestrator.domain.errors import Overloaded
from orchestrator.settings import Settings

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

    def __init__(self, most: int) -> None:
        self._slots = anyio.Semaphore(most)

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """One of them. Raises Overloaded where none is free for too long."""
        with anyio.move_on_after(PATIENCE_S) as waiting:
            await self._slots.acquire()
        if waiting.cancelled_caught:
            raise Overloaded("Too many batches are read at once.", retry_after=1)
        try:
            yield
        finally:
            self._slots.release()
