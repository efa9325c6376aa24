"""Run as a program by test_shutdown.py, on every Python there is: stops a service with all kinds of requests open.

It is given its stores as JSON. Prints as JSON what each client was told, after how many seconds, and when the end came.
"""

import asyncio
import json
import sys
import warnings
from functools import partial
from typing import Any

import anyio
from aiohttp import web

from orchestrator.testing import SUCCESS, ScriptedAgent, Service, a_task

SETTINGS = {"ORCHESTRATOR_SYNC_TIMEOUT": "30", "ORCHESTRATOR_DISPATCH_DRAIN_S": "5"}
HEAD = b"POST /route_task HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


class Client:
    """A connection on which something was sent, and what came back on it in the end."""

    def __init__(self, service: Service, sent: bytes) -> None:
        self._service, self._sent = service, sent
        self.sent = anyio.Event()
        self.answer, self.ended_at = b"", 0.0

    async def run(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._service.port)
        writer.write(self._sent)
        await writer.drain()
        self.sent.set()
        while chunk := await reader.read(65_536):
            self.answer += chunk
        self.ended_at = anyio.current_time()
        writer.close()
        await writer.wait_closed()


async def soon_after(release: anyio.Event) -> None:
    await anyio.sleep(0.5)  # The stop has begun by then; the call that is released ends within its grace.
    release.set()


def posted(**fields: Any) -> bytes:
    body = json.dumps(a_task(**fields)).encode()
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def scenario(ledger: dict[str, str]) -> dict[str, Any]:
    seen = dict[str, Any]()
    release, over = anyio.Event(), anyio.Event()

    async def slow(_request: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    async def soon(_request: web.Request) -> web.Response:
        await release.wait()
        return web.json_response(SUCCESS)

    async with (
        ScriptedAgent("slow", slow, capabilities=["analyze_light"], site="slow", location="edge") as never,
        ScriptedAgent("soon", soon, capabilities=["analyze_light"], site="soon", location="edge") as later,
        anyio.create_task_group() as group,
        Service(ledger, SETTINGS) as service,
    ):
        await never.register(service)
        await later.register(service)
        waiting = (await service.route({"task_type": "indexing"})).json["task_id"]
        sync = {"task_type": "analyze_monitor", "idempotency_key": "slow", "meta": {"site": "slow"}}
        clients = {
            "long_poll": Client(
                service, b"GET /task/%s?wait=50 HTTP/1.1\r\nHost: localhost\r\n\r\n" % waiting.encode()
            ),
            "stream": Client(service, b"GET /task/%s/events HTTP/1.1\r\nHost: localhost\r\n\r\n" % waiting.encode()),
            "sync": Client(service, posted(**sync)),
            "sync_in_time": Client(service, posted(task_type="analyze_monitor", meta={"site": "soon"})),
            "half_body": Client(service, HEAD + b"Content-Length: 100\r\n\r\nhalf"),
            "half_header": Client(service, HEAD),
            "idle": Client(service, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            "silent": Client(service, b""),
        }
        for client in clients.values():
            group.start_soon(client.run)
        for client in clients.values():
            await client.sent.wait()
        await never.until_called()
        await later.until_called()
        system: Any = service.orchestrator._system
        while system.feed._waiting[waiting] < 2 or b'"ok"' not in clients["idle"].answer:  # noqa: ASYNC110 - seen from outside only
            await anyio.sleep(0.01)
        began = anyio.current_time()
        group.start_soon(soon_after, release)
        await service.stop()
        seen["stopped"] = anyio.current_time() - began
        over.set()
    for name, client in clients.items():
        head, _, body = client.answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1]) if head else None
        if name == "stream":
            body = json.dumps(body.decode()).encode()
        seen[name] = [status, json.loads(body) if body else None, client.ended_at - began]
    async with Service(ledger, SETTINGS) as service:
        seen["after"] = (await service.route(sync)).json
        seen["events"] = [e["event"] for e in await service.audit(task_id=seen["after"]["task_id"])]
    # The agents' servers end when they like; what is asked here is whether ours left anything.
    left = [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    seen["left"] = [task for task in left if "aiohttp/web_" not in task]
    return seen


if __name__ == "__main__":
    warnings.simplefilter("error")
    sys.stdout.write(json.dumps(anyio.run(partial(scenario, json.loads(sys.argv[1])))) + "\n")
