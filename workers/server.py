"""The agent's side of the contract over HTTP: `POST /call` where it is called, `GET /health` and `GET /metrics`."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from orchestrator.workers.executor import Busy, Executor
from orchestrator.workers.metrics import CONTENT_TYPE
from orchestrator.workers.wire import BadCall, failure, read_call

BODY_DEADLINE = 10.0
"""Seconds in which a call's body must have arrived."""


class CallServer:
    """Serves one executor. `describe` are the facts that `/health` adds to the status."""

    def __init__(self, executor: Executor, *, body_limit: int, describe: dict[str, Any], called: bool = True) -> None:
        self._executor, self._called = executor, called
        self._body_limit = body_limit
        self._describe = describe

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncGenerator[int]:
        """Listens, on any free port if `port` is 0; gives the real one. Raises OSError if the address is taken."""
        app = web.Application(client_max_size=self._body_limit)
        if self._called:
            app.router.add_post("/call", self._call)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, logger=_HTTP_LOG, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            await site.start()
            yield site.port
        finally:
            await runner.cleanup()

    async def _call(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(BODY_DEADLINE):
                task = read_call(request.headers, await request.read())
            return _json(200, await self._executor.answer(task))
        except BadCall as error:
            return _json(400, failure(str(error), retryable=False))
        except web.HTTPRequestEntityTooLarge:
            return _json(413, failure("The body is too large.", retryable=False))
        except TimeoutError:
            return _json(408, failure("The body did not arrive in time.", retryable=True))
        except Busy:
            reason = "draining" if self._executor.draining else "overloaded"
            return _json(503, failure(reason, retryable=True), {"Retry-After": "1"})

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "status": "draining" if self._executor.draining else "ok",
                "in_flight": self._executor.in_flight,
                "max_concurrency": self._executor.max_concurrency,
                **self._describe,
            }
        )

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._executor.metrics(), headers={"Content-Type": CONTENT_TYPE})


def _json(status: int, body: bytes, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _class_only(record: logging.LogRecord) -> bool:
    # aiohttp logs a request it cannot parse with the bytes that broke it; those may be a payload's.
    error = record.exc_info[1] if record.exc_info else None
    record.msg, record.args = f"bad request or broken connection: {type(error).__name__}", ()
    record.exc_info = record.exc_text = None
    return True


_HTTP_LOG = logging.getLogger("orchestrator.workers.http")
_HTTP_LOG.addFilter(_class_only)
