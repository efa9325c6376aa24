"""From a request to what the ledger is to store: the task, the decision about it, and the command that says both."""

from collections.abc import Mapping
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.json import encode
from msgspec.structs import replace

from orchestrator.actors.decisions import Decided, Decisions
from orchestrator.actors.messages import Directory
from orchestrator.domain.audit import AuditDraft, about
from orchestrator.domain.decision import Decision
from orchestrator.domain.endpoint import read_endpoint
from orchestrator.domain.errors import ConsentRequired, Forbidden, InvalidRequest, InvalidTaskType
from orchestrator.domain.identity import Principal
from orchestrator.domain.lifecycle import NEW, Progress, State
from orchestrator.domain.policy import Policy
from orchestrator.domain.raw_media import RawMedia
from orchestrator.domain.task import Consent, Priority, Task, TaskRequest, lane_of
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.monotonic import monotonic
from orchestrator.kernel.watch import Watch
from orchestrator.storage.commands import Accept, Key, Note


class Acceptance(Struct, frozen=True):
    """The settings of acceptance. Times are in seconds; `max_open` bounds the unfinished tasks of each class."""

    raw_media_keys: frozenset[str]
    deadline_s: float
    key_expiry_s: float
    max_open: Mapping[Priority, int]
    callbacks: bool
    sync_within_s: float
    breakglass_s: float = 900.0
    at_once: int = 512


TIME_DIGITS = 12
TIMES = 16**TIME_DIGITS
RANDOM_BYTES = 10
DRAWN = 256


class TaskIds:
    """`task-` and 32 hex digits: 12 of them are the time in milliseconds, the others nobody can guess.

    As in UUIDs of version 7 (RFC 9562 §5.7): ids that grow with time are found, and stored, side by side.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._drawn: list[str] = []
        self._at: float | None = None
        self._begin = ""

    def next(self, now: float) -> str:
        """A fresh id for a task accepted at `now`, in seconds since the epoch."""
        if now != self._at:
            # Tasks that are planned together have one time, and to write it costs as much as all the rest of an id.
            self._at, self._begin = now, f"task-{int(now * 1000) % TIMES:0{TIME_DIGITS}x}"
        if not self._drawn:
            # In bulk: asking the system for each id costs more than all the rest of it.
            digits, each = self._environment.token(DRAWN * RANDOM_BYTES), 2 * RANDOM_BYTES
            self._drawn = [digits[at : at + each] for at in range(0, len(digits), each)]
        return self._begin + self._drawn.pop()


class Moment(Struct, frozen=True):
    """A moment by both clocks: in seconds since the epoch, and in monotonic ones, by which agents are judged."""

    at: float
    tick: float


class Plan(Struct, frozen=True):
    """A task that is decided: `command` accepts it, or notes that it is refused."""

    decision: Decision
    command: Accept | Note

    @property
    def startable(self) -> Accept | None:
        """The command that accepts the task, if it may run now: nothing delays it, and somebody can do it."""
        command = self.command
        return (
            command
            if isinstance(command, Accept) and command.progress.due_at is None and self.decision.ranking
            else None
        )


class Admission:
    """Decides what becomes of requests, on the agents as they are at that moment; stores and sends nothing."""

    def __init__(
        self, environment: Environment, policy: Policy, acceptance: Acceptance, directory: Watch[Directory]
    ) -> None:
        self._environment, self._policy, self._acceptance = environment, policy, acceptance
        self._decisions, self._ids = Decisions(policy, directory), TaskIds(environment)
        self._raw_media = RawMedia(acceptance.raw_media_keys)

    def moment(self) -> Moment:
        """Now."""
        return Moment(self._environment.now(), monotonic())

    def task(self, request: TaskRequest, principal: Principal, now: float, traceparent: str | None = None) -> Task:
        """The task that `principal` asks for at `now`, in seconds since the epoch.

        Raises InvalidTaskType, InvalidRequest or Forbidden.
        """
        if request.consent.override is not None and not principal.breaks_glass:
            raise Forbidden("Overriding consent needs the scope breakglass.")
        if request.task_type not in self._policy.task_types:
            known = ", ".join(sorted(self._policy.task_types))
            raise InvalidTaskType(f"The task type is not one of those in the settings: {known}.")
        deadline_at = now + (request.deadline_s or self._acceptance.deadline_s)
        if request.not_before is not None and request.not_before.timestamp() >= deadline_at:
            raise InvalidRequest("not_before lies beyond the deadline.")
        if request.callback_url is not None:
            self._check_callback(request.callback_url)
        return Task(
            task_id=self._ids.next(now),
            case_id=request.case_id,
            task_type=request.task_type,
            payload=request.payload,
            priority=request.priority,
            consent=self._bounded(request.consent, now),
            meta=request.meta,
            # Agents are given `meta` as well, so what it holds counts as much.
            raw_media=self._raw_media.is_in(request.payload, request.meta),
            created_at=now,
            deadline_at=deadline_at,
            principal=principal.subject,
            traceparent=traceparent,
        )

    def _check_callback(self, url: str) -> None:
        if not self._acceptance.callbacks:
            raise InvalidRequest("callback_url: callbacks are not set up here (webhooks.secret).")
        read_endpoint(url)

    def _bounded(self, consent: Consent, now: float) -> Consent:
        """An override holds for a short time, whatever it says itself."""
        if consent.override is None:
            return consent
        return consent.until(datetime.fromtimestamp(now + self._acceptance.breakglass_s, UTC))

    def again(self, old: Task) -> Task:
        """A new task like the old one, with as much time. Raises InvalidTaskType."""
        if old.task_type not in self._policy.task_types:
            raise InvalidTaskType("The settings do not know the task's type any more.")
        now = self._environment.now()
        return replace(
            old,
            task_id=self._ids.next(now),
            created_at=now,
            deadline_at=now + (old.deadline_at - old.created_at),
            replay_of=old.task_id,
            traceparent=None,
        )

    def key(self, scope: str, key: str, mark: str, now: float) -> Key:
        """The key of a task that is accepted at `now`, with its published expiry."""
        kept = self._acceptance.key_expiry_s
        return Key(scope, key, mark, now + kept if kept else None)

    def plan(
        self, task: Task, request: TaskRequest | None, key: Key | None, tick: float, by: str | None = None
    ) -> Plan:
        """What is to be stored of the task, which `request` may delay; `by` asks for it, if not its owner.

        It is decided on the agents as they are at `tick`, in monotonic seconds.
        """
        lane = lane_of(task, task.created_at)
        decided = self._decisions.about(task.task_id, lane, tick, urgent=task.priority is Priority.URGENT)
        if decided.decision.refused:
            return Plan(decided.decision, Note(_refusal(task, decided)))
        url, progress = None, NEW
        if request is not None:
            url, progress = request.callback_url, _progress(request, task.created_at)
        most = self._acceptance.max_open[task.priority]
        who = by or task.principal
        audit = about("accepted", task.created_at, task, progress, router_decision=decided.text, principal=who)
        return Plan(decided.decision, Accept(task, progress, lane, audit, key, most, url, _override(task)))


def _progress(request: TaskRequest, now: float) -> Progress:
    """Ready, unless the request is for later than `now`."""
    at = None if request.not_before is None else request.not_before.timestamp()
    return NEW if at is None or at <= now else Progress(due_at=at)


def consent_required() -> ConsentRequired:
    """What the sender of a task is told whose plan is to refuse it."""
    return ConsentRequired("The task carries raw media, and its consent is not given or has expired.")


def _override(task: Task) -> AuditDraft | None:
    """That the glass was broken for the task, by whom, and why."""
    if task.consent.override is None:
        return None
    return AuditDraft(
        event="consent_overridden",
        created_at=task.created_at,
        task_id=task.task_id,
        case_id=task.case_id,
        consent_id=task.consent.consent_id,
        reason="breakglass",
        detail=encode(task.consent).decode(),
        principal=task.principal,
    )


def _refusal(task: Task, decided: Decided) -> AuditDraft:
    return AuditDraft(
        event="refused",
        created_at=task.created_at,
        case_id=task.case_id,
        router_decision=decided.text,
        consent_id=task.consent.consent_id,
        status=State.DENIED.value,
        reason=ConsentRequired.code,
        principal=task.principal,
    )
