"""Calls back those who want to know that their task has ended. Each is tried until it answers, or tried too often."""

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct
from msgspec.json import encode

from orchestrator.actors.attempts import reason_of
from orchestrator.actors.committing import Committer
from orchestrator.actors.drain import Drain
from orchestrator.actors.events import CallbacksUnsigned, Emit
from orchestrator.actors.releasing import released
from orchestrator.domain.audit import AuditDraft
from orchestrator.domain.discretion import discreet
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.retry import backoff
from orchestrator.domain.webhook import message, signed
from orchestrator.kernel.environment import Environment
from orchestrator.kernel.inbox import Inbox
from orchestrator.outbound.ports import Ending, Garbled, Notice, NoticeClient, Succeeded
from orchestrator.storage.commands import EndWebhook, Noted, TaskRecord, TryWebhook, Webhook
from orchestrator.storage.ports import LedgerReader, Unreadable

LOOK_EVERY_S = 1.0
LOOK_UNSIGNED_S = 60.0
"""Where nothing is there to sign with, all it may find is what was promised when there was."""
MARGIN_S = 5.0
"""What writing down how a call went may take; meanwhile the webhook must not look untried."""
GONE = "status_410"
"""By this answer a receiver says that it wants no more."""
UNSIGNED = Garbled("no_secret")
"""How an attempt ends that is not made, since it could not be signed: it counts, and the secret may come back."""


class Rules(Struct, frozen=True):
    """How callbacks are made. `key` signs them, and without one none is made; times are in seconds; `with_result` sends
    what the agent gave.
    """

    key: bytes
    timeout_s: float
    attempts: int
    base_s: float
    cap_s: float
    at_once: int
    with_result: bool

    __repr__ = discreet


class Notifier:
    """An attempt is written down before it is made, with the time of the next: so a crash repeats, and never loses."""

    def __init__(
        self,
        environment: Environment,
        reader: LedgerReader,
        committer: Committer,
        client: NoticeClient,
        drain: Drain,
        rules: Rules,
        emit: Emit,
    ) -> None:
        self._environment, self._reader, self._committer = environment, reader, committer
        self._client, self._drain, self._rules = client, drain, rules
        self._emit = emit
        self._free = rules.at_once
        self._warned = False

    async def run(self, inbox: Inbox[object]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._work, group, inbox)
            inbox.ready()
            await inbox.wait_stopping()
            # What is broken off here is tried again when it is due.
            group.cancel_scope.cancel()

    async def _work(self, group: TaskGroup, inbox: Inbox[object]) -> None:
        while not self._drain.begun:
            inbox.at_work(True)
            for webhook in await self._take(self._free) if self._free else []:
                self._free -= 1
                group.start_soon(self._call, webhook)
            inbox.at_work(False)
            await anyio.sleep(LOOK_EVERY_S if self._rules.key else LOOK_UNSIGNED_S)

    async def _take(self, limit: int) -> list[Webhook]:
        """What is due and was not taken by another replica, counted as tried."""
        try:
            due = await self._reader.webhooks(self._environment.now(), limit)
            if not due:
                return []
            outcomes = await self._committer.commit_all([TryWebhook(w, self._next(w.attempts + 1)) for w in due])
        except (Unreadable, OrchestratorError):
            return []
        return [webhook for webhook, outcome in zip(due, outcomes, strict=True) if isinstance(outcome, Noted)]

    def _next(self, attempts: int) -> float:
        """When a webhook that was tried so often is tried again."""
        rules = self._rules
        wait = backoff(attempts, rules.base_s, rules.cap_s, self._environment.random.random())
        return self._environment.now() + rules.timeout_s + MARGIN_S + wait

    async def _call(self, webhook: Webhook) -> None:
        try:
            record = await self._reader.task(webhook.task_id)
            if record is not None:
                await self._tell(webhook, released(record, self._environment.now()))
        except Unreadable:
            return
        finally:
            self._free += 1

    async def _tell(self, webhook: Webhook, record: TaskRecord) -> None:
        ending = await self._post(webhook, record)
        if isinstance(ending, Succeeded):
            await self._end(webhook, record, "called_back", None)
        elif webhook.attempts + 1 >= self._rules.attempts or ending == Garbled(GONE):
            await self._end(webhook, record, "callback_given_up", reason_of(ending))

    async def _post(self, webhook: Webhook, record: TaskRecord) -> Ending:
        if not self._rules.key:
            self._warn()
            return UNSIGNED
        told = message(webhook.task_id, record.progress, record.updated_at)
        if self._rules.with_result and record.result is not None:
            told["result"] = record.result.output
        body = encode(told)
        headers = signed(self._rules.key, webhook.task_id, int(self._environment.now()), body)
        try:
            return await self._client.post(Notice(webhook.url, headers, body), self._rules.timeout_s)
        except Exception:  # noqa: BLE001 - an adapter's own failure is this call's alone
            return Garbled("client_error")

    def _warn(self) -> None:
        """Once: what is said each minute is not read."""
        if not self._warned:
            self._warned = True
            self._emit(CallbacksUnsigned())

    async def _end(self, webhook: Webhook, record: TaskRecord, event: str, reason: str | None) -> None:
        audit = AuditDraft(
            event=event,
            created_at=self._environment.now(),
            task_id=webhook.task_id,
            case_id=record.task.case_id,
            attempt=webhook.attempts + 1,
            reason=reason,
        )
        try:
            await self._committer.commit(EndWebhook(webhook.task_id, audit))
        except OrchestratorError:
            # It is tried once more when it is due; receivers know it by its id.
            return
