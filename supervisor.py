"""The whole system on one page: what it is made of, and the tree of actors in the order in which they start.

They stop in reverse. When one fails, it and those after it are started again, since they hold handles to it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from orchestrator.actors.admission import Acceptance
from orchestrator.actors.attempts import Attempts
from orchestrator.actors.audit_writer import AuditWriter
from orchestrator.actors.committing import Committer
from orchestrator.actors.drain import Drain
from orchestrator.actors.feed import TaskFeed
from orchestrator.actors.gateway import Gateway
from orchestrator.actors.granting import Granting
from orchestrator.actors.handing_in import HandingIn
from orchestrator.actors.janitor import Janitor
from orchestrator.actors.keyring import Keyring
from orchestrator.actors.lease_desk import LeaseDesk
from orchestrator.actors.leasing import Leasing
from orchestrator.actors.messages import (
    Commit,
    Directory,
    LeaseDeskMessage,
    RegistryMessage,
    RouterMessage,
    RunSync,
    TellStream,
    WakeAt,
)
from orchestrator.actors.notary import Intervals, Notary, Testify
from orchestrator.actors.notifier import Notifier, Rules
from orchestrator.actors.observing import Observer
from orchestrator.actors.pull_leases import PullLeases
from orchestrator.actors.registry import Registry
from orchestrator.actors.relay import Relay, Relaying
from orchestrator.actors.rosters import LedgerRoster, MemoryRoster, Roster, StoreRoster
from orchestrator.actors.router import Router
from orchestrator.actors.space import SpaceWatch, Watermarks
from orchestrator.actors.stream_consumer import StreamConsumer
from orchestrator.actors.stream_reader import StreamReader
from orchestrator.actors.sync_dispatcher import SyncDispatcher
from orchestrator.actors.verdicts import RetryRules, Verdicts
from orchestrator.domain.policy import Policy
from orchestrator.domain.task import Priority
from orchestrator.domain.webhook import key_of
from orchestrator.kernel.actor import Actor
from orchestrator.kernel.child import Child
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.kernel.restart import Backoff, Intensity
from orchestrator.kernel.supervisor import Strategy, Supervisor
from orchestrator.kernel.watch import Watch
from orchestrator.outbound.ports import OutboundClient
from orchestrator.settings import Settings
from orchestrator.storage.ports import AgentStore, Ledger, Queue, StreamIntake, Streams
from orchestrator.telemetry import Telemetry

INTENSITY = Intensity(restarts=3, period=30.0)
BACKOFF = Backoff(base=0.05, cap=1.0)
MARGIN_S = 8.0
"""What a dispatching actor may take beyond its deadlines: after a drain's to give back what it could not finish."""

MakeWeb = Callable[[Gateway, Telemetry], Actor[object]]
Decorate = Callable[[Child[object]], Child[object]]
"""What embedders and tests may put around an actor."""


@dataclass(frozen=True)
class Mailboxes:
    """They belong to the tree, not to the actors, so what waits in one survives its actor."""

    audit_writer: Mailbox[Commit] = field(default_factory=lambda: Mailbox("audit_writer", 4096))
    registry: Mailbox[RegistryMessage] = field(default_factory=lambda: Mailbox("registry", 4096))
    router: Mailbox[RouterMessage] = field(default_factory=lambda: Mailbox("router", 1024))
    sync_dispatcher: Mailbox[RunSync] = field(default_factory=lambda: Mailbox("sync_dispatcher", 256))
    lease_desk: Mailbox[LeaseDeskMessage] = field(default_factory=lambda: Mailbox("lease_desk", 1024))
    relay: Mailbox[TellStream] = field(default_factory=lambda: Mailbox("relay", 64))
    janitor: Mailbox[WakeAt] = field(default_factory=lambda: Mailbox("janitor", 64))


@dataclass(frozen=True)
class Carriage:
    """Streams that carry the work between replicas, and the side of the queue at which they come in."""

    streams: Streams
    intake: StreamIntake
    lengths: Watch[Mapping[Priority | None, int]] = field(default_factory=lambda: Watch({}))


@dataclass(frozen=True)
class System:
    """Everything that the actors share. The adapters come from outside; the rest is made here."""

    settings: Settings
    environment: Environment
    ledger: Ledger
    queue: Queue
    client: OutboundClient
    telemetry: Telemetry
    boot: str
    policy: Policy
    drain: Drain
    carriage: Carriage | None = None
    agent_store: AgentStore | None = None
    mail: Mailboxes = field(default_factory=Mailboxes)
    directory: Watch[Directory] = field(default_factory=lambda: Watch[Directory]({}))
    writable: Watch[bool] = field(default_factory=lambda: Watch(True))
    roomy: Watch[bool] = field(default_factory=lambda: Watch(True))
    written: Watch[int] = field(default_factory=lambda: Watch(0))
    testify: Testify | None = None
    feed: TaskFeed = field(default_factory=TaskFeed)
    leases: PullLeases = field(default_factory=PullLeases)

    @cached_property
    def space(self) -> SpaceWatch:
        low = self.settings.storage.min_free_bytes
        return SpaceWatch(self.ledger, Watermarks(low, low + low // 4), self.roomy, self.telemetry.emit)

    @property
    def committer(self) -> Committer:
        return Committer(self.mail.audit_writer.ref, self.settings.web.answer_timeout_s)

    @property
    def keyring(self) -> Keyring:
        return Keyring(self.environment, self.ledger, self.committer.commit)

    @property
    def gateway(self) -> Gateway:
        # Whoever waits for a synchronous answer waits for a commit before it and one after it as well.
        within = 2 * self.settings.web.answer_timeout_s + self.settings.sync.timeout_s
        mail = self.mail
        return Gateway(
            self.environment, mail.router.ref, mail.registry.ref, mail.lease_desk.ref, self.ledger, self.directory,
            self.writable, self.roomy, self.feed, self.drain, self.client, self.keyring,
            answer_within_s=within,
        )  # fmt: skip

    @property
    def verdicts(self) -> Verdicts:
        rules = RetryRules(self.settings.retry.base_s, self.settings.retry.cap_s)
        return Verdicts(self.environment, self.policy, rules)

    def attempts(self, actor: str) -> Attempts:
        """What a dispatching actor of that name needs to make calls."""
        return Attempts(
            f"{self.boot}/{actor}", self.environment, self.policy, self.verdicts, self.directory,
            self.mail.registry.ref, self.committer, self.client, self.telemetry.emit,
        )  # fmt: skip

    def leasing(self, attempts: Attempts) -> Leasing:
        """What an actor that takes work from the queue needs to lease it."""
        return Leasing(attempts, self.environment, self.ledger, self.queue, self.committer)


def tree(system: System, make_web: MakeWeb | None = None) -> Sequence[Child[object]]:
    """The actors in start order."""
    s, mail, settings, emit = system, system.mail, system.settings, system.telemetry.emit
    relay_ref, registry_ref = mail.relay.ref if s.carriage is not None else None, mail.registry.ref
    observer = Observer(
        s.environment, s.queue, s.feed, s.leases, registry_ref, mail.janitor.ref, emit, relay_ref
    )  # fmt: skip
    stop_within = settings.dispatch.drain_s + MARGIN_S

    def audit_writer() -> AuditWriter:
        return AuditWriter(s.ledger, observer.committed, s.writable, s.written, emit)

    def notary(testify: Testify) -> Notary:
        intervals = Intervals(settings.audit.checkpoint_entries, settings.audit.checkpoint_s)
        return Notary(s.environment, s.ledger, s.committer, s.written, testify, intervals)

    def registry() -> Registry:
        most = settings.agents.max_agents
        return Registry(
            s.environment, roster_of(s), s.ledger, s.directory, s.leases, emit, most, quarantine=settings.quarantines
        )

    def router() -> Router:
        acceptance = acceptance_of(settings)
        sync = mail.sync_dispatcher.ref
        return Router(s.environment, s.policy, acceptance, s.ledger, s.directory, s.committer, sync, emit)

    def sync_dispatcher() -> SyncDispatcher:
        return SyncDispatcher(
            s.attempts("sync_dispatcher"), s.ledger, s.committer, s.drain, emit,
            timeout_s=settings.sync.timeout_s, max_concurrent=settings.sync.max_concurrent,
        )  # fmt: skip

    def janitor() -> Janitor:
        return Janitor(s.environment, s.ledger, s.committer, s.verdicts)

    def dispatching(name: str, mailbox: Mailbox[Any], start: Callable[[], Actor[Any]]) -> Child[object]:
        # Before it is ready it takes back its leases, and a slow disk may need the time of two commits for that.
        start_within = MARGIN_S + 2 * settings.web.answer_timeout_s
        return Child(name, mailbox, start, stop_within=stop_within, start_within=start_within)

    consumers = [f"stream_consumer_{number + 1}" for number in range(settings.dispatch.consumers)]
    children: list[Child[object]] = [
        Child("audit_writer", mail.audit_writer, audit_writer, stall_after=30.0),
        *(Child("notary", _unused("notary"), partial(notary, testify)) for testify in _present(s.testify)),
        Child("registry", mail.registry, registry),
        Child("router", mail.router, router),
        dispatching("sync_dispatcher", mail.sync_dispatcher, sync_dispatcher),
        *(dispatching(name, _unused(name), partial(_stream_consumer, s, name)) for name in consumers),
        dispatching("lease_desk", mail.lease_desk, partial(_lease_desk, s)),
        *(carrying(s, s.carriage) if s.carriage is not None else ()),
        Child("janitor", mail.janitor, janitor),
        *calling_back(s),
    ]
    if make_web is not None:
        web = make_web
        children.append(Child("web", _unused("web"), lambda: web(s.gateway, s.telemetry), stop_within=10.0))
    return children


def _present(testify: Testify | None) -> list[Testify]:
    """Without a key nobody testifies: a checkpoint that is not signed proves nothing."""
    return [] if testify is None else [testify]


def roster_of(system: System) -> Roster:
    """Where the agents are kept."""
    if system.settings.registry.backend == "memory":
        return MemoryRoster(system.committer)
    if system.agent_store is not None:
        return StoreRoster(system.agent_store, system.committer)
    return LedgerRoster(system.ledger, system.committer, shared=not system.ledger.exclusive)


def carrying(system: System, carriage: Carriage) -> Sequence[Child[object]]:
    """The actors between ledger and streams."""
    s, rules = system, Relaying(system.settings.queue.stream_maxlen, system.settings.queue.payload_in_stream)

    def relay() -> Relay:
        return Relay(
            s.environment, s.ledger, s.committer, carriage.streams, carriage.lengths, s.telemetry.emit, rules
        )  # fmt: skip

    def stream_reader() -> StreamReader:
        return StreamReader(carriage.streams, s.ledger, carriage.intake, s.drain)

    return [Child("relay", s.mail.relay, relay), Child("stream_reader", _unused("stream_reader"), stream_reader)]


def _stream_consumer(s: System, name: str) -> StreamConsumer:
    attempts, slots = s.attempts(name), s.settings.dispatch.slots
    return StreamConsumer(
        attempts, s.leasing(attempts), s.policy, s.directory, s.ledger, s.queue, s.drain, slots=slots
    )  # fmt: skip


def _lease_desk(s: System) -> LeaseDesk:
    attempts = s.attempts("lease_desk")
    leasing = s.leasing(attempts)
    granting = Granting(attempts, leasing, s.environment, s.policy, s.ledger, s.committer)
    emit = s.telemetry.emit
    handing_in = HandingIn(s.environment, s.policy, s.verdicts, s.ledger, s.committer, s.leases, s.feed, emit)
    return LeaseDesk(attempts, leasing, granting, handing_in, s.policy, s.directory, s.ledger, s.queue, s.drain)


def _unused(name: str) -> Mailbox[object]:
    """The mailbox of an actor that nobody writes to: its work comes from elsewhere."""
    return Mailbox(name, 1)


def supervise(system: System, make_web: MakeWeb | None = None, decorate: Decorate | None = None) -> Supervisor:
    """The supervisor of the whole tree, each child of it as `decorate` gives it back."""
    children = tree(system, make_web)
    return Supervisor(
        children if decorate is None else [decorate(child) for child in children],
        strategy=Strategy.REST_FOR_ONE,
        intensity=INTENSITY,
        backoff=BACKOFF,
        environment=system.environment,
        observe=system.telemetry.emit,
    )


def acceptance_of(settings: Settings) -> Acceptance:
    """The settings of acceptance."""
    return Acceptance(
        raw_media_keys=settings.raw_media_keys(),
        deadline_s=settings.tasks.deadline_s,
        key_expiry_s=settings.storage.idempotency_expiry_s,
        max_open=settings.most_open(),
        callbacks=bool(settings.webhooks.secret),
        sync_within_s=2 * settings.web.answer_timeout_s + settings.sync.timeout_s,
        breakglass_s=settings.policy.breakglass_s,
    )


def calling_back(s: System) -> Iterator[Child[object]]:
    """Who calls senders back, where callbacks are set up."""
    rules = callbacks_of(s.settings)
    if rules.key:
        start = partial(Notifier, s.environment, s.ledger, s.committer, s.client, s.drain, rules)
        yield Child("notifier", _unused("notifier"), start)


def callbacks_of(settings: Settings) -> Rules:
    """The settings of callbacks."""
    webhooks = settings.webhooks
    return Rules(
        key=key_of(webhooks.secret),
        timeout_s=webhooks.timeout_s,
        attempts=webhooks.max_attempts,
        base_s=webhooks.base_s,
        cap_s=webhooks.cap_s,
        at_once=webhooks.at_once,
        with_result=webhooks.include_result,
    )
