"""What the actors share: mailboxes, adapters and values; and from the settings, what each of them needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from orchestrator.actors.admission import Acceptance
from orchestrator.actors.at_hand import AtHand
from orchestrator.actors.attempts import Attempts
from orchestrator.actors.committing import Committer
from orchestrator.actors.drain import Drain
from orchestrator.actors.feed import TaskFeed
from orchestrator.actors.gateway import Gateway
from orchestrator.actors.keyring import Keyring
from orchestrator.actors.leasing import Leasing
from orchestrator.actors.messages import (
    Commit,
    Directory,
    LeaseDeskMessage,
    RegistryMessage,
    RelayMessage,
    RouterMessage,
    RunSync,
    WakeAt,
)
from orchestrator.actors.notifier import Rules
from orchestrator.actors.pull_leases import PullLeases
from orchestrator.actors.retention import Pace, Retention
from orchestrator.actors.rosters import LedgerRoster, MemoryRoster, Roster, StoreRoster
from orchestrator.actors.space import SpaceWatch, Watermarks
from orchestrator.actors.trail_retention import TrailRetention
from orchestrator.actors.verdicts import RetryRules, Verdicts
from orchestrator.domain.policy import Policy
from orchestrator.domain.retention import Periods
from orchestrator.domain.signatory import Signatory
from orchestrator.domain.task import Priority
from orchestrator.domain.webhook import key_of
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.kernel.watch import Watch
from orchestrator.outbound.ports import OutboundClient
from orchestrator.settings import Settings
from orchestrator.storage.agent_store import AgentStore
from orchestrator.storage.ports import Ledger, Queue, StreamIntake, Streams
from orchestrator.telemetry import Telemetry


@dataclass(frozen=True)
class Mailboxes:
    """They belong to the tree, not to the actors, so what waits in one survives its actor."""

    audit_writer: Mailbox[Commit] = field(default_factory=lambda: Mailbox("audit_writer", 4096))
    registry: Mailbox[RegistryMessage] = field(default_factory=lambda: Mailbox("registry", 4096))
    router: Mailbox[RouterMessage] = field(default_factory=lambda: Mailbox("router", 1024))
    sync_dispatcher: Mailbox[RunSync] = field(default_factory=lambda: Mailbox("sync_dispatcher", 256))
    lease_desk: Mailbox[LeaseDeskMessage] = field(default_factory=lambda: Mailbox("lease_desk", 1024))
    relay: Mailbox[RelayMessage] = field(default_factory=lambda: Mailbox("relay", 64))
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
    signatory: Signatory | None = None
    at_hand: AtHand = field(default_factory=AtHand)
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

    @cached_property
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
    def retention(self) -> Retention | None:
        """What removes what is kept too long; None where everything is kept."""
        kept = self.settings.retention
        periods = Periods(kept.payload_s, kept.result_s, kept.task_s, kept.dead_letter_s, kept.audit_s)
        if periods == Periods():
            return None
        pace, emit = Pace(every_s=kept.every_s), self.telemetry.emit
        trail = self.signatory and TrailRetention(
            self.environment, self.ledger, self.committer, self.signatory, periods, pace, emit
        )
        return Retention(self.environment, self.ledger, self.committer, periods, pace, emit, trail)

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
        return Leasing(attempts, self.environment, self.ledger, self.at_hand, self.queue, self.committer)


def roster_of(system: System) -> Roster:
    """Where the agents are kept."""
    if system.settings.registry.backend == "memory":
        return MemoryRoster(system.committer)
    if system.agent_store is not None:
        return StoreRoster(system.agent_store, system.committer)
    return LedgerRoster(system.ledger, system.committer, shared=not system.ledger.exclusive)


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
