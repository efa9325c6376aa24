"""A clinic's gateway that carries the orchestrator inside: one process, one event loop, one port, its own ASGI server.

`POST /screenings` is the gateway's own: it turns a device's message into a task and answers in the device's words. All
under `/orchestrator` is the orchestrator's API, for agents and operators. `python gateway.py [PORT]`
"""

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from hypercorn.asyncio import serve  # pyright: ignore[reportUnknownVariableType]
from hypercorn.config import Config

from orchestrator import Consent, Orchestrator, Priority, TaskRequest, load_settings
from orchestrator.domain.errors import OrchestratorError

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MOUNT = "/orchestrator"
LARGEST = 65_536


class Gateway:
    """The gateway's ASGI application."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator, self._api = orchestrator, orchestrator.asgi()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/screenings" and scope["method"] == "POST":
            await self._screening(receive, send)
        elif scope["type"] == "http" and scope["path"].startswith(f"{MOUNT}/"):
            path = scope["path"].removeprefix(MOUNT)
            await self._api({**scope, "path": path, "raw_path": path.encode()}, receive, send)
        elif scope["type"] == "http":
            await answer(send, 404, {"error": "there is no such page"})

    async def _screening(self, receive: Receive, send: Send) -> None:
        try:
            message = json.loads(await body(receive))
            request = TaskRequest(
                case_id=message["child"],
                task_type="analyze_monitor",
                payload=message["growth"],
                priority=Priority.HIGH,
                idempotency_key=message["visit"],
                consent=Consent(consent_given=message["consent"] is True),
            )
        except (KeyError, TypeError, ValueError):
            await answer(send, 400, {"error": "not a screening"})
            return
        try:
            # On disk when it returns; sent twice under one visit, it is one task.
            routed = await self._orchestrator.route(request)
        except OrchestratorError as error:
            await answer(send, 409, {"error": error.code})
            return
        record = await self._orchestrator.gateway.task(routed.record.task.task_id, wait_s=5)
        result = record.result.output if record.result else None
        await answer(send, 200 if result else 202, {"task": record.task.task_id, "finding": result})


async def body(receive: Receive) -> bytes:
    """The request's body; ValueError where it is too long or broken off."""
    got = b""
    while (message := await receive())["type"] == "http.request":
        got += message.get("body", b"")
        if len(got) > LARGEST:
            break
        if not message.get("more_body"):
            return got
    raise ValueError


async def answer(send: Send, status: int, content: Any) -> None:
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]},
    )
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


async def main(port: int) -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    async with Orchestrator(load_settings()) as orchestrator:
        # Hypercorn ends at SIGTERM by itself; then the orchestrator drains and stops.
        await serve(Gateway(orchestrator), config)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
