"""The whole system on one page: the tree of actors in the order in which they start.

They stop in reverse. When one fails, it and those after it are started again, since they hold handles to it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from orchestrator.actors.audit_writer import AuditWriter
from orchestrator.actors.gateway import Gateway
from orchestrator.actors.granting import Granting
from orchestrator.actors.handing_in import HandingIn
from orchestrator.actors.janitor import Janitor
from orchestrator.actors.lease_desk import LeaseDesk
from orchestrator.actors.notary import Intervals, Notary
from orchestrator.actors.notifier import Notifier
from orchestrator.actors.observing import Observer
from orchestrator.actors.registry import Registry
from orchestrator.actors.relay import Relay, Relaying
from orchestrator.actors.router import Router
from orchestrator.actors.stream_consumer import StreamConsumer
from orchestrator.actors.stream_reader import StreamReader
from orchestrator.actors.sync_dispatcher import SyncDispatcher
from orchestrator.domain.signatory import Signatory
from orchestrator.kernel.actor import Actor
from orchestrator.kernel.child import Child
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.kernel.restart import Backoff, Intensity
from orchestrator.kernel.supervisor import Strategy, Supervisor
from orchestrator.system import Carriage, System, acceptance_of, callbacks_of, roster_of
from orchestrator.telemetry import Telemetry

INTENSITY = Intensity(restarts=3, period=30.0)
BACKOFF = Backoff(base=0.05, cap=1.0)
MARGIN_S = 8.0
"""What a dispatching actor may take beyond its deadlines: after a drain's to give back what it could not finish."""

MakeServer = Callable[[Gateway, Telemetry], Actor[object]]
Servers = Mapping[str, MakeServer]
"""What serves, by its name in the tree and in start order."""
Decorate = Callable[[Child[object]], Child[object]]
"""What embedders and tests may put around an actor."""


def tree(system: System, servers: Servers) -> Sequence[Child[object]]:
    """The actors in start order."""
    s, mail, settings, emit = system, system.mail, system.settings, system.telemetry.emit
    relay_ref, registry_ref = mail.relay.ref if s.carriage is not None else None, mail.registry.ref
    observer = Observer(s.queue, s.at_hand, s.feed, s.leases, registry_ref, mail.janitor.ref, emit, relay_ref)
    stop_within = settings.dispatch.drain_s + MARGIN_S

    def audit_writer() -> AuditWriter:
        return AuditWriter(s.ledger, observer.committed, s.writable, s.written, emit)

    def notary(signatory: Signatory) -> Notary:
        intervals = Intervals(settings.audit.checkpoint_entries, settings.audit.checkpoint_s)
        return Notary(s.environment, s.ledger, s.committer, s.written, signatory, intervals, emit)

    def registry() -> Registry:
        most = settings.agents.max_agents
        return Registry(s.environment, roster_of(s), s.ledger, s.directory, s.leases, emit, most, settings.gate())

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
        return Janitor(s.environment, s.ledger, s.committer, s.verdicts, retention=s.retention)

    def notifier() -> Notifier:
        return Notifier(s.environment, s.ledger, s.committer, s.client, s.drain, callbacks_of(settings), emit)

    def dispatching(name: str, mailbox: Mailbox[Any], start: Callable[[], Actor[Any]]) -> Child[object]:
        # Before it is ready it takes back its leases, and a slow disk may need the time of two commits for that.
        start_within = MARGIN_S + 2 * settings.web.answer_timeout_s
        return Child(name, mailbox, start, stop_within=stop_within, start_within=start_within)

    consumers = [f"stream_consumer_{number + 1}" for number in range(settings.dispatch.consumers)]
    children: list[Child[object]] = [
        Child("audit_writer", mail.audit_writer, audit_writer, stall_after=30.0),
        *(Child("notary", _unused("notary"), partial(notary, found)) for found in _present(s.signatory)),
        Child("registry", mail.registry, registry),
        Child("router", mail.router, router),
        dispatching("sync_dispatcher", mail.sync_dispatcher, sync_dispatcher),
        *(dispatching(name, _unused(name), partial(_stream_consumer, s, name)) for name in consumers),
        dispatching("lease_desk", mail.lease_desk, partial(_lease_desk, s)),
        *(carrying(s, s.carriage) if s.carriage is not None else ()),
        Child("janitor", mail.janitor, janitor),
        Child("notifier", _unused("notifier"), notifier),
    ]
    for name, make in servers.items():
        children.append(Child(name, _unused(name), partial(make, s.gateway, s.telemetry), stop_within=10.0))
    return children


def _present(signatory: Signatory | None) -> list[Signatory]:
    """Without a key nobody testifies: a checkpoint that is not signed proves nothing."""
    return [] if signatory is None else [signatory]


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
    handing_in = HandingIn(s.environment, s.policy, s.verdicts, s.ledger, s.committer, s.leases, s.feed)
    return LeaseDesk(attempts, leasing, granting, handing_in, s.policy, s.directory, s.ledger, s.queue, s.drain)


def _unused(name: str) -> Mailbox[object]:
    """The mailbox of an actor that nobody writes to: its work comes from elsewhere."""
    return Mailbox(name, 1)


def supervise(system: System, servers: Servers, decorate: Decorate | None = None) -> Supervisor:
    """The supervisor of the whole tree, each child of it as `decorate` gives it back."""
    children = tree(system, servers)
    return Supervisor(
        children if decorate is None else [decorate(child) for child in children],
        strategy=Strategy.REST_FOR_ONE,
        intensity=INTENSITY,
        backoff=BACKOFF,
        environment=system.environment,
        observe=system.telemetry.emit,
    )
