"""The orchestrator inside a program: start it in your own event loop, or hand it to your own ASGI server."""

import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from socket import gethostname
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from orchestrator.actors.drain import Drain
from orchestrator.actors.gateway import Gateway
from orchestrator.actors.messages import Routed
from orchestrator.actors.pull_leases import CALLED
from orchestrator.actors.verdicts import lost
from orchestrator.domain.health import Availability
from orchestrator.domain.signatory import Signatory
from orchestrator.domain.task import TaskRequest
from orchestrator.kernel.child import ChildStatus
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.errors import root_cause
from orchestrator.kernel.monotonic import monotonic
from orchestrator.kernel.supervisor import Supervisor
from orchestrator.outbound.ports import OutboundClient
from orchestrator.settings import Settings, SettingsError, load
from orchestrator.storage.agent_store import AgentStore
from orchestrator.storage.commands import Moved
from orchestrator.storage.opening import UnsupportedURL, open_agents, open_ledger, open_streams
from orchestrator.storage.ports import Ledger, Queue, Streams
from orchestrator.storage.queue import EmbeddedQueue
from orchestrator.storage.sealing import Codec, codec_of
from orchestrator.storage.streams.names import StreamNames
from orchestrator.storage.streams.queue import StreamQueue
from orchestrator.supervisor import Decorate, Servers, supervise
from orchestrator.system import Carriage, System
from orchestrator.telemetry import Sample, Telemetry

if TYPE_CHECKING:
    from orchestrator.tracing import Tracing

LOOP_TICK_S = 0.5
PAGE = 500


class Orchestrator:
    """`async with Orchestrator(settings) as orchestrator: outcome = await orchestrator.route(request)`.

    Entering opens and migrates the ledger, takes back what a former process left behind, and starts the actors; leaving
    drains and stops them. Raises what opening raises, and RestartsExhausted or another Fatal when the actors give up.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        environment: Environment | None = None,
        client: OutboundClient | None = None,
        ledger: Ledger | None = None,
        streams: Streams | None = None,
        agent_store: AgentStore | None = None,
        servers: Servers | None = None,
        decorate: Decorate | None = None,
        tracing: "Tracing | None" = None,
    ) -> None:
        """Without `settings`: the packaged ones. What is given of adapters replaces the real one, and is closed.

        `servers` serve it over a network. `decorate` may put something around each actor; `tracing` makes spans where
        the settings do not say so.
        """
        self.settings = load() if settings is None else settings
        self.environment, self._clock = (environment or Environment.real()).floored()
        self._client, self._ledger, self._streams, self._agent_store = client, ledger, streams, agent_store
        self._servers, self._decorate = servers or {}, decorate
        self._tracing = tracing
        self._codec = _codec(self.settings.storage.encryption_key, self.environment)
        self._signatory = _signatory(self.settings.audit.signing_key)
        self.telemetry = Telemetry(self.settings.streams())
        self._system: System | None = None
        self._supervisor: Supervisor | None = None
        self._group: TaskGroup | None = None

    @property
    def gateway(self) -> Gateway:
        """Everything there is to ask."""
        return self._running().gateway

    async def route(self, request: TaskRequest) -> Routed:
        """Accepts a task; on stable storage when it returns. Raises an OrchestratorError."""
        return await self.gateway.route(request)

    def asgi(self) -> Any:
        """Its HTTP API as an ASGI application, for a server of yours; it answers as long as this runs."""
        from orchestrator.web.app import build_app

        return build_app(self.gateway, self.telemetry, self.settings)

    def status(self) -> list[ChildStatus]:
        """The actors, in start order."""
        return self._supervisor.status() if self._supervisor is not None else []

    def well(self) -> bool:
        """Whether every actor is up and makes progress; a watchdog should hear of it no longer when this is False."""
        return self._supervisor is not None and self._supervisor.well()

    def drain(self) -> None:
        """Ends service: nothing new begins, calls in flight have until the drain's deadline. Twice is safe."""
        system = self._running()
        system.drain.begin()
        system.feed.wake_all()
        system.queue.wake()

    async def __aenter__(self) -> "Orchestrator":
        system = self._system = await self._assemble()
        self._supervisor = supervise(system, self._servers, self._decorate)
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        try:
            await self._group.start(self._run, system, self._supervisor)
        except BaseException:
            if await self._leave(*sys.exc_info()):
                raise RuntimeError("the start was broken off") from None
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if kind is None and self._supervisor is not None:
            self.drain()
            self._supervisor.stop()
        return await self._leave(kind, error, traceback)

    async def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Waits for the actors to end. What ended them is raised as it is, not as a group of one."""
        group, self._group = self._group, None
        if group is None:
            return False
        try:
            return bool(await group.__aexit__(kind, error, traceback))
        except ExceptionGroup as failures:
            cause = root_cause(failures)
            if cause is error:
                return False
            raise cause from None
        finally:
            self._system = None

    async def _run(
        self, system: System, supervisor: Supervisor, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._measure_loop)
                beside.start_soon(system.space.run)
                await supervisor.run(task_status=task_status)
                beside.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await system.client.close()
                for adapter in (system.carriage and system.carriage.streams, system.agent_store):
                    if adapter is not None:
                        await adapter.close()
                await system.ledger.close()
                if self._tracing is not None:
                    await anyio.to_thread.run_sync(self._tracing.close)

    async def _assemble(self) -> System:
        settings, environment = self.settings, self.environment
        boot, storage = environment.token(8), settings.storage
        streams = self._streams or streams_of(settings, boot)
        agent_store = self._agent_store or _agent_store(settings, environment)
        ledger = self._ledger or await open_ledger(
            storage.database_url,
            max_bytes=storage.max_bytes,
            writer=storage.writer,
            now=environment.now,
            codec=self._codec,
            outbox=streams is not None,
        )
        try:
            if not settings.auth.trust_clock:
                self._clock.not_before(await ledger.latest())
            await _take_back(ledger, environment.now())
            client = self._client or _http_client(settings)
            self._tracing = self._tracing or _tracing(settings.tracing.otlp_endpoint, environment)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await ledger.close()
            raise
        queue, carriage = _queue(ledger, environment, settings, streams)
        system = System(
            settings=settings,
            environment=environment,
            ledger=ledger,
            queue=queue,
            client=client,
            telemetry=self.telemetry,
            boot=boot,
            policy=settings.decision_policy(),
            signatory=self._signatory,
            drain=Drain(settings.dispatch.drain_s),
            carriage=carriage,
            agent_store=agent_store,
        )
        self.telemetry.sample(self._sample)
        self.telemetry.trace(None if self._tracing is None else self._tracing.emit)
        return system

    def _sample(self) -> Sample:
        system = self._running()
        names, now = self.settings.streams(), system.environment.now()
        ttl, tick = self.settings.agents.ttl_s, monotonic()
        states = [view.health.availability(tick, ttl).value for view in system.directory.value.values()]
        ready = {names[priority]: depths.ready for priority, depths in system.ledger.depths().items()}
        every = {**names, None: self.settings.queue.stream_dlq}
        carried = system.carriage.lengths.value.items() if system.carriage is not None else ()
        return Sample(
            queue_size={every[stream]: length for stream, length in carried} or ready,
            tasks_ready=ready,
            queue_oldest_age={names[p]: max(0.0, now - since) for p, since in system.queue.oldest().items()},
            mailbox_depth={child.name: child.depth for child in self.status()},
            room=system.space.room,
            agents={state: states.count(state) for state in Availability},
            actors=self.status(),
        )

    async def _measure_loop(self) -> None:
        while True:
            self.telemetry.remember(self.environment.now())
            due = monotonic() + LOOP_TICK_S
            await anyio.sleep_until(due)
            self.telemetry.loop_lag(max(0.0, monotonic() - due))

    def _running(self) -> System:
        if self._system is None:
            raise RuntimeError("the orchestrator is not running")
        return self._system


def _codec(keys: str, environment: Environment) -> Codec:
    """Encrypts with `keys`, if there are any. Raises SettingsError."""
    try:
        return codec_of(keys, environment.entropy)
    except ValueError as error:  # InvalidMasterKey, which is loaded only where there is a key
        raise SettingsError("storage.encryption_key", str(error), "the settings") from None


def _signatory(key: str) -> Signatory | None:
    """Who testifies to the trail with `key`, if there is one. Raises SettingsError."""
    if not key:
        return None
    from orchestrator.crypto.signing import InvalidKey, Signer

    try:
        signer = Signer(key)
    except InvalidKey as error:
        raise SettingsError("audit.signing_key", str(error), "the settings") from None
    return Signatory(signer.public_key, signer.sign)


def streams_of(settings: Settings, boot: str) -> Streams | None:
    """The streams that the settings name, under a consumer's name that no other process ever has."""
    if not settings.storage.redis_url:
        return None
    names = StreamNames(settings.streams(), settings.queue.stream_dlq, settings.queue.group)
    consumer = f"{settings.storage.writer or gethostname()}-{boot}"
    return open_streams(settings.storage.redis_url, names, consumer, claim_s=settings.queue.claim_s)


def _agent_store(settings: Settings, environment: Environment) -> AgentStore | None:
    if settings.registry.backend != "redis":
        return None
    if not settings.storage.redis_url:
        raise SettingsError("registry.backend", "redis needs storage.redis_url", "the settings")
    return open_agents(settings.storage.redis_url, settings.registry.redis_key, environment.now)


def _queue(
    ledger: Ledger, environment: Environment, settings: Settings, streams: Streams | None
) -> tuple[Queue, Carriage | None]:
    aging_s = settings.queue.aging_s
    if streams is None:
        return EmbeddedQueue(ledger, environment.now, tickets=settings.queue.stream_maxlen, aging_s=aging_s), None
    queue = StreamQueue(ledger, environment.now, hold=settings.dispatch.slots, aging_s=aging_s)
    return queue, Carriage(streams, queue)


async def _take_back(ledger: Ledger, now: float) -> None:
    """Leases of a process that is gone: every one of its calls that a ledger of our own holds.

    A ledger that is shared holds those of other replicas; there a lease is over when its time is. So is everywhere that
    of a pull agent, which goes on working.
    """
    while ledger.exclusive and (leased := await ledger.leased(CALLED, PAGE)):
        outcomes = await ledger.commit([lost(record, now) for record in leased])
        if not all(isinstance(outcome, Moved) for outcome in outcomes):
            # Nobody else writes, so this cannot be a race. What stays leased lapses by itself.
            return


def _http_client(settings: Settings) -> OutboundClient:
    from orchestrator.outbound.agents import HttpAgentClient
    from orchestrator.tls import client_context

    agents = settings.agents
    files = (agents.tls_ca_file, agents.tls_certificate_file, agents.tls_key_file)
    try:
        tls = client_context(*files) if any(files) else None
    except (OSError, ValueError) as error:
        raise SettingsError("agents.tls_…_file", f"cannot be used ({type(error).__name__})", "the settings") from None
    return HttpAgentClient(
        reach=settings.reach(),
        max_answer_bytes=agents.max_answer_bytes,
        connect_timeout_s=agents.connect_timeout_s,
        tls=tls,
    )


def _tracing(endpoint: str, environment: Environment) -> "Tracing | None":
    if not endpoint:
        return None
    if not endpoint.startswith(("http://", "https://")):
        raise UnsupportedURL("tracing.otlp_endpoint is an http:// or https:// address")
    try:
        from orchestrator.tracing import tracing_to
    except ImportError:
        raise UnsupportedURL("tracing needs the extra: pip install 'routing-orchestrator[otel]'") from None
    return tracing_to(endpoint, environment.now)


def settle_collector() -> None:
    """Tunes the collector of cycles for a process that serves; one around an `Orchestrator` may call it once it is up.

    What was made for the start stays for good, and need not be looked through again and again. Of what requests make
    hardly anything is in a cycle, and a batch of them makes thousands of objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


class Application:
    """The orchestrator as an ASGI application; the server's lifespan starts and stops the actors."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection, or the lifespan (ASGI 3.0, lifespan protocol 2.0)."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope.get("state", {}), receive, send)
        elif self._app is None:
            raise RuntimeError("this application needs a server that runs the ASGI lifespan")
        else:
            await self._app(scope, receive, send)

    async def _lifespan(self, state: dict[str, Any], receive: Any, send: Any) -> None:
        from orchestrator.web.site import TERMS, Terms

        await receive()
        try:
            async with Orchestrator(self._settings) as orchestrator:
                self._app, settings = orchestrator.asgi().asgi_app, self._settings
                revoked = bool(settings.auth.certificate_crl_file)
                state[TERMS] = Terms(settings.limits, revoked, orchestrator.drain, self, self._app)
                settle_collector()
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:  # noqa: BLE001 - the server is told, and ends by itself
            # It prints what it is told, so that is the kind of error only.
            kind = "startup" if self._app is None else "shutdown"
            await send({"type": f"lifespan.{kind}.failed", "message": type(error).__name__})
        else:
            await send({"type": "lifespan.shutdown.complete"})


def load_settings(file: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings from the packaged defaults, a file and the environment; raises SettingsError."""
    return load(file, os.environ if environ is None else environ)


def create_app(settings: Settings | None = None) -> Application:
    """An ASGI application for any server. Without `settings`: the packaged ones and the environment's."""
    return Application(load_settings() if settings is None else settings)
