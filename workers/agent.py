"""The kit: an agent is a name, a place and functions for task types.

    agent = Agent("embedder-1", location="edge-clinic-1")

    @agent.handles("embed", raw_media=True)
    async def embed(task: Task) -> dict[str, Any]:
        return {"vector": [...]}

    agent.run()

Handlers raise `Permanent` or `Retryable`; any other exception is answered as retryable, with its class name only.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

from aiohttp import ClientSession, TCPConnector

from orchestrator.credentials import NoCredential, tls
from orchestrator.workers.calls import Calls
from orchestrator.workers.executor import Executor
from orchestrator.workers.options import Options, agent_parser
from orchestrator.workers.pulling import Puller
from orchestrator.workers.registration import CALL_DEADLINE, Registration
from orchestrator.workers.server import CallServer
from orchestrator.workers.task import Handler
from orchestrator.workers.wire import ID
from orchestrator.workers.word import Words

log = logging.getLogger("orchestrator.workers")

TASK_TYPES = {
    "embed": ("embed",),
    "analyze_light": ("analyze_monitor",),
    "analyze_monitor": ("analyze_monitor",),
    "analyze_heavy": ("analyze_refer",),
    "analyze_refer": ("analyze_refer",),
    "audit": ("audit_log",),
    "indexing": ("indexing",),
}
"""The task types that a capability serves, unless `handles` says otherwise."""

RAW_MEDIA = "raw_image"
"""The capability by which an agent declares that it handles images; without consent it is then never chosen."""

H = TypeVar("H", bound=Handler)


class Agent:
    """Push or pull, as it is run. A `location` that starts with `edge` is preferred; `body_limit` is in bytes."""

    def __init__(
        self,
        agent_id: str,
        *,
        location: str,
        model_version: str | None = None,
        max_concurrency: int = 8,
        body_limit: int = 1 << 20,
    ) -> None:
        self.agent_id = agent_id
        self.location = location
        self.model_version = model_version
        self.max_concurrency = max_concurrency
        self.body_limit = body_limit
        self._capabilities: dict[str, None] = {}
        self._served: dict[str, Sequence[str]] = {}
        self._handlers: dict[str, Handler] = {}

    def __repr__(self) -> str:
        return f"<Agent {self.agent_id} at {self.location}: {', '.join(self._capabilities)}>"

    def handles(self, capability: str, *, raw_media: bool = False, task_types: Sequence[str] = ()) -> Callable[[H], H]:
        """Declares `capability`, served by the decorated function, which may be async or plain.

        `raw_media` says that it reads images. Raises ValueError for a capability without known task types,
        and for a task type that already has a function.
        """
        served = task_types or TASK_TYPES.get(capability, ())
        if not served:
            raise ValueError(f"say which task_types the capability {capability!r} serves")
        if taken := self._handlers.keys() & set(served):
            raise ValueError(f"{sorted(taken)} already have a handler")

        def declare(handler: H) -> H:
            self._capabilities |= dict.fromkeys([capability, RAW_MEDIA] if raw_media else [capability])
            self._served[capability] = served
            self._handlers |= dict.fromkeys(served, handler)
            return handler

        return declare

    def run(self, options: Options | None = None, mode: Literal["push", "pull"] | None = None) -> None:
        """Serves until SIGTERM or SIGINT, then drains and returns; a second signal ends the process at once.

        Without `options` they are read from the command line. `mode`, or `--pull` there, says whether it is called, or
        asks for work.
        """
        options = options or Options.of(agent_parser().parse_args())
        if mode is not None:
            options = replace(options, pull=mode == "pull")
        logging.basicConfig(level=options.log_level, format="%(asctime)s %(levelname)s %(message)s")
        try:
            asyncio.run(self._run_until_signal(options))
        except NoCredential as error:
            sys.exit(f"{self.agent_id}: {error}")

    async def serve(self, options: Options, stop: asyncio.Event) -> None:
        """Works until `stop` is set; then takes no more, finishes what is in flight and signs off, in this order."""
        card = self._card(options)
        agent_id: str = card["agent_id"]
        connector = TCPConnector(ssl=tls(os.environ) or True)
        async with ClientSession(connector=connector, timeout=CALL_DEADLINE) as client:
            calls = Calls(client, options.orchestrator, os.environ)
            executor = Executor(
                self._handlers,
                max_concurrency=self.max_concurrency,
                model_version=self.model_version,
                words=Words(calls, agent_id),
            )
            server = CallServer(executor, body_limit=self.body_limit, describe=card, called=not options.pull)
            async with server.listening(options.host, options.port) as port:
                if not options.pull:
                    card = card | {"endpoint": options.endpoint(port)}
                what = "its health and metrics" if options.pull else "calls"
                log.info("%s listens on %s for %s", agent_id, options.endpoint(port), what)
                registration = Registration(client, options.orchestrator, card, executor.load)
                puller = self._puller(options, calls, agent_id, executor, registration)
                await _keep_until(stop, registration, options.heartbeat_every, puller)
                executor.draining = True
                await registration.drain()
                await executor.finish(options.drain_deadline)
                if puller is not None:
                    await puller.finish()
                await registration.delete()
        log.info("%s ended", agent_id)

    def _puller(
        self, options: Options, calls: Calls, agent_id: str, executor: Executor, registration: Registration
    ) -> Puller | None:
        if options.redis is None:
            return Puller(calls, agent_id, executor, registration) if options.pull else None
        # Its driver is in the extra `redis`.
        from orchestrator.workers.stream_puller import StreamPuller
        from orchestrator.workers.task_streams import TaskStreams

        streams = [
            TaskStreams(options.redis, capability, task_types, agent_id)
            for capability, task_types in self._served.items()
        ]
        return StreamPuller(calls, agent_id, executor, registration, streams)

    def _card(self, options: Options) -> dict[str, Any]:
        agent_id = options.agent_id or self.agent_id
        if not ID.fullmatch(agent_id):
            raise ValueError("an agent id has letters, digits and . _ : - only")
        card: dict[str, Any] = {
            "agent_id": agent_id,
            "capabilities": list(self._capabilities),
            "location": options.location or self.location,
            "max_concurrency": self.max_concurrency,
        }
        return card | ({"model_version": self.model_version} if self.model_version else {})

    async def _run_until_signal(self, options: Options) -> None:
        stop = asyncio.Event()

        def on_signal(number: int) -> None:
            if stop.is_set():
                os._exit(128 + number)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
        if options.until_eof:
            _at_end_of_input(stop.set)
        await self.serve(options, stop)


def _at_end_of_input(end: Callable[[], None]) -> None:
    """Whoever started us may be killed without a word: then the pipe that it held is closed."""
    loop, standard_input = asyncio.get_running_loop(), sys.stdin.fileno()

    def look() -> None:
        if not os.read(standard_input, 4096):
            loop.remove_reader(standard_input)
            end()

    loop.add_reader(standard_input, look)


async def _keep_until(stop: asyncio.Event, registration: Registration, every: float, puller: Puller | None) -> None:
    async with asyncio.TaskGroup() as group:  # if keeping it fails, so does the agent: it would be up but unknown
        tasks = [group.create_task(registration.keep(every))]
        if puller is not None:
            tasks.append(group.create_task(puller.run()))
        await stop.wait()
        for task in tasks:
            task.cancel()
