"""The ledger in memory: for tests and simulations, on asyncio and on trio. It forgets everything with its process."""

from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import msgspec
from msgspec.structs import replace

from orchestrator.domain.agent import Agent, Sighting
from orchestrator.domain.anchor import begins_of
from orchestrator.domain.api_key import ApiKey
from orchestrator.domain.audit import AuditDraft, Head
from orchestrator.domain.idempotency import REPLAYS
from orchestrator.domain.lifecycle import Progress, State
from orchestrator.domain.retention import Ended
from orchestrator.domain.task import Priority
from orchestrator.storage import erasure, removal, revocation, rows
from orchestrator.storage.browsing import TaskPage, TaskQuery, briefs_among
from orchestrator.storage.commands import (
    Accept,
    Accepted,
    Command,
    Denied,
    Duplicate,
    EndWebhook,
    EntriesRemoved,
    Erase,
    Erased,
    ExpireKeys,
    Failed,
    ForgetAgent,
    ForgetApiKey,
    Full,
    Key,
    Moved,
    Note,
    Noted,
    Outcome,
    RelayAgain,
    Relayed,
    Remove,
    RemoveEntries,
    Requeued,
    Reused,
    RevokeConsent,
    Revoked,
    Rewrap,
    Rewrapped,
    SaveAgent,
    SaveApiKey,
    Stale,
    TaskRecord,
    TellSightings,
    Transition,
    TryWebhook,
    Webhook,
)
from orchestrator.storage.memory_trail import MemoryTrail, TrailReader
from orchestrator.storage.ports import Depths, Outgoing, Ticket
from orchestrator.storage.storable import check_storable
from orchestrator.storage.work import stream_of, telling

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class MemoryLedger(TrailReader):
    """Keeps the same promises as the others, but for stable storage."""

    def __init__(self, writer: str = "main", *, outbox: bool = False, exclusive: bool = True) -> None:
        """With an `outbox`, it writes down what streams are to be told. Not `exclusive`, several systems share it."""
        self.exclusive = exclusive
        self._tasks: dict[str, TaskRecord] = {}
        self._lanes: dict[str, str] = {}
        self._keys: dict[tuple[str, str], tuple[Key, str]] = {}
        self._revoked: set[str] = set()
        self._agents: dict[str, Agent] = {}
        self._sightings: dict[str, Sighting] = {}
        self._api_keys: dict[str, ApiKey] = {}
        self._trail = MemoryTrail(writer)
        self._ready: dict[tuple[Priority, str], list[int]] = {}
        self._by_seq: dict[int, str] = {}
        self._open: Counter[Priority] = Counter()
        self._has_outbox = outbox
        self._outbox: dict[int, tuple[str, str]] = {}
        self._positions, self._seqs = count(1), count(1)
        self._webhooks: dict[str, tuple[Webhook, float | None]] = {}

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        return [self._outcome(command) for command in commands]

    async def close(self) -> None:
        """Nothing to let go of."""

    async def task(self, task_id: str) -> TaskRecord | None:
        record = self._tasks.get(task_id)
        return None if record is None else self._marked(record)

    async def tasks(
        self, state: State, *, principal: str | None = None, after: int = 0, limit: int = 100
    ) -> list[TaskRecord]:
        found = [r for r in self._tasks.values() if r.progress.state is state and r.seq > after]
        found = [r for r in found if principal is None or r.task.principal == principal]
        return [replace(record, result=None) for record in found[:limit]]

    async def revoked(self, consent_id: str) -> bool:
        return consent_id in self._revoked

    async def agents(self) -> list[Agent]:
        return [self._agents[agent_id] for agent_id in sorted(self._agents)]

    async def api_keys(self) -> list[ApiKey]:
        return [self._api_keys[key_id] for key_id in sorted(self._api_keys)]

    async def api_key(self, key_id: str) -> ApiKey | None:
        return self._api_keys.get(key_id)

    async def sightings(self) -> list[Sighting]:
        return [self._sightings[agent_id] for agent_id in sorted(self._sightings)]

    async def briefs(self, query: TaskQuery) -> TaskPage:
        return briefs_among(self._tasks.values(), query, next(reversed(self._by_seq), 0))

    async def lanes(self) -> list[tuple[Priority, str]]:
        return sorted(lane for lane, waiting in self._ready.items() if waiting)

    async def ready(self, priority: Priority, lane: str, *, after: int, limit: int) -> list[Ticket]:
        waiting = [seq for seq in self._ready.get((priority, lane), []) if seq > after]
        records = [self._tasks[self._by_seq[seq]] for seq in waiting[:limit]]
        return [Ticket(r.task.task_id, priority, lane, r.seq, r.updated_at) for r in records]

    async def tickets(self, task_ids: Sequence[str]) -> list[Ticket]:
        found = [record for record in await self.records(task_ids) if _is_ready(record.progress)]
        return [
            Ticket(r.task.task_id, r.task.priority, self._lanes[r.task.task_id], r.seq, r.updated_at) for r in found
        ]

    async def records(self, task_ids: Sequence[str]) -> list[TaskRecord]:
        return [replace(self._tasks[task_id], result=None) for task_id in set(task_ids) if task_id in self._tasks]

    async def outbox(self, priority: Priority | None, limit: int) -> list[Outgoing]:
        return self._outgoing(stream_of(priority), limit)

    async def withdrawn(self, limit: int) -> list[Outgoing]:
        return self._outgoing(rows.WITHDRAWN, limit)

    async def webhooks(self, now: float, limit: int) -> list[Webhook]:
        found = sorted((at, webhook.task_id) for webhook, at in self._webhooks.values() if at is not None and at <= now)
        return [self._webhooks[task_id][0] for _, task_id in found[:limit]]

    async def due(self, now: float, limit: int) -> list[TaskRecord]:
        found = [r for r in self._tasks.values() if r.progress.due_at is not None and r.progress.due_at <= now]
        return sorted(found, key=lambda r: r.progress.due_at or 0.0)[:limit]

    async def next_due(self) -> float | None:
        return min((r.progress.due_at for r in self._tasks.values() if r.progress.due_at is not None), default=None)

    async def lapsed(self, now: float, limit: int) -> list[TaskRecord]:
        found = [r for r in self._leased() if r.progress.lease_until is not None and r.progress.lease_until <= now]
        return found[:limit]

    async def leased(self, owner: str, limit: int) -> list[TaskRecord]:
        return [r for r in self._leased() if (r.progress.owner or "").startswith(owner)][:limit]

    async def overdue(self, now: float, limit: int) -> list[TaskRecord]:
        waiting = (State.QUEUED, State.RETRY_WAIT)
        found = [r for r in self._tasks.values() if r.progress.state in waiting and r.task.deadline_at <= now]
        return sorted(found, key=lambda r: r.task.deadline_at)[:limit]

    async def ended(self, now: float, before: float, after: tuple[float, int], limit: int) -> list[Ended]:
        final = [r for r in self._tasks.values() if r.progress.state.final and r.updated_at < before]
        following = [r for r in final if (r.updated_at, r.seq) > after]
        return [self._ended(record, now) for record in sorted(following, key=lambda r: (r.updated_at, r.seq))[:limit]]

    async def room(self) -> int | None:
        return None

    def depths(self) -> Mapping[Priority, Depths]:
        ready: Counter[Priority] = Counter()
        for (priority, _), waiting in self._ready.items():
            ready[priority] += len(waiting)
        return {priority: Depths(ready[priority], self._open[priority]) for priority in Priority}

    def _leased(self) -> Iterator[TaskRecord]:
        leased = [r for r in self._tasks.values() if r.progress.state is State.LEASED]
        return iter(sorted(leased, key=lambda r: r.progress.lease_until or 0.0))

    def _outcome(self, command: Command) -> Outcome:
        """What a database could not store, this one does not take either; then nothing of the command has happened."""
        try:
            check_storable(command)
            return self._apply(command)
        except (OSError, OverflowError, RecursionError, TypeError, ValueError) as error:
            return Failed(type(error).__name__)

    def _apply(self, command: Command) -> Outcome:
        match command:
            case Accept():
                return self._accept(command)
            case Transition():
                return self._move(command)
            case ExpireKeys():
                self._expire(command.now)
                return Noted()
            case RevokeConsent():
                return self._revoke(command)
            case Erase():
                return self._erase(command)
            case Rewrap():
                return Rewrapped(0, None)
            case Relayed():
                for position in command.positions:
                    self._outbox.pop(position, None)
                return Noted()
            case Remove():
                if not removal.may(command, self._tasks):
                    return Stale()
                self._remove(command)
            case RemoveEntries(audit):
                removed = self._trail.remove(begins_of(audit))
                return EntriesRemoved(self._log(audit), removed) if removed else Stale()
            case TellSightings():
                for told in command.sightings:
                    if told.agent_id in self._agents:
                        self._sightings[told.agent_id] = told.after(self._sightings.get(told.agent_id))
                return Noted()
            case RelayAgain():
                return self._relay_again(command)
            case TryWebhook():
                return self._try_webhook(command)
            case EndWebhook():
                if self._webhooks.pop(command.task_id, None) is None:
                    return Stale()
            case SaveAgent():
                self._agents[command.agent.agent_id] = command.agent
            case ForgetAgent():
                self._agents.pop(command.agent_id, None)
                self._sightings.pop(command.agent_id, None)
            case SaveApiKey():
                self._api_keys[command.key.key_id] = command.key
            case ForgetApiKey():
                self._api_keys.pop(command.key_id, None)
            case Note():
                pass
        return Noted(self._log(command.audit))

    def _accept(self, command: Accept) -> Outcome:
        task, key = command.task, command.key
        if key is not None:
            known = self._keys.get((key.scope, key.key))
            if known is not None and not _is_over(known[0], command.audit.created_at):
                return self._duplicate(known[1]) if known[0].fingerprint == key.fingerprint else Reused()
        if command.limit and self._open[task.priority] >= command.limit:
            return Full(task.priority)
        if task.consent.consent_id in self._revoked:
            return Denied(self._log(revocation.refusal(command).audit))
        if task.task_id in self._tasks:
            return Failed("IntegrityError")
        # A copy, and by way of JSON: what the caller does with its own afterwards changes nothing here.
        stored = replace(task, payload=_decode(_encode(task.payload)), meta=_decode(_encode(task.meta)))
        record = TaskRecord(next(self._seqs), stored, command.progress, command.audit.created_at)
        if command.override is not None:
            self._log(command.override)
        receipt = self._log(command.audit)
        if key is not None:
            self._keys[key.scope, key.key] = (key, task.task_id)
        if command.callback_url is not None:
            self._webhooks[task.task_id] = (Webhook(task.task_id, command.callback_url, 0), None)
        self._lanes[task.task_id], self._by_seq[record.seq] = command.lane, task.task_id
        self._store(record, None)
        return Accepted(record, receipt)

    def _duplicate(self, task_id: str) -> Duplicate:
        return Duplicate(self._marked(self._tasks[task_id]), self._trail.accepted(task_id))

    def _revoke(self, command: RevokeConsent) -> Revoked:
        if command.consent_id in self._revoked:
            return Revoked()
        self._revoked.add(command.consent_id)
        under = [r for r in self._tasks.values() if r.task.consent.consent_id == command.consent_id]
        open_ones = sorted((r for r in under if not r.progress.state.final), key=lambda r: r.seq)
        denials = revocation.denials(open_ones, command.audit.created_at)
        return revocation.revoked([*map(self._move, denials), Noted(self._log(command.audit))])

    def _erase(self, command: Erase) -> Erased:
        found = [r for r in self._tasks.values() if erasure.meant(r, command)][: command.limit]
        outcomes = [self._apply(step) for step in erasure.steps(found, command)]
        erased = erasure.erased(found, outcomes)
        self._tasks.update((record.task.task_id, record) for record in erased.records)
        for record in erased.records if self._has_outbox else ():
            self._tell(rows.WITHDRAWN, record.task.task_id)
        return erased

    def _marked(self, record: TaskRecord) -> TaskRecord:
        return replace(record, revoked=record.task.consent.consent_id in self._revoked)

    def _move(self, command: Transition) -> Outcome:
        expected, task_id = command.record.progress, command.record.task.task_id
        current = self._tasks.get(task_id)
        if current is None or expected.state.final or _place(current.progress) != _place(expected):
            return Stale()
        record = TaskRecord(
            current.seq, current.task, command.progress, command.audit.created_at, command.result or current.result
        )
        receipt = self._log(command.audit)
        self._store(record, current.progress)
        if command.progress.state.final and task_id in self._webhooks:
            self._webhooks[task_id] = (self._webhooks[task_id][0], command.audit.created_at)
        return Moved(record, receipt)

    def _store(self, record: TaskRecord, before: Progress | None) -> None:
        task = record.task
        self._tasks[task.task_id] = record
        lane = self._ready.setdefault((task.priority, self._lanes[task.task_id]), [])
        if _is_ready(before):
            lane.remove(record.seq)
        if _is_ready(record.progress):
            insort(lane, record.seq)
        for stream, wanted in telling(task.priority, before, record.progress) if self._has_outbox else ():
            self._tell(stream, task.task_id, wanted=wanted)
        was_open = before is not None and not before.state.final
        self._open[task.priority] += (not record.progress.state.final) - was_open

    def _tell(self, stream: str, task_id: str, *, wanted: bool = True) -> None:
        """Last in the line, even if it stands in it; or not at all any more."""
        self._outbox = {place: entry for place, entry in self._outbox.items() if entry != (stream, task_id)}
        if wanted:
            self._outbox[next(self._positions)] = (stream, task_id)

    def _outgoing(self, stream: str, limit: int) -> list[Outgoing]:
        found = [(place, self._tasks[task_id]) for place, (told, task_id) in self._outbox.items() if told == stream]
        return [
            rows.outgoing((place, r.task.task_id, stream, r.task.task_type, r.progress.reason))
            for place, r in found[:limit]
        ]

    def _relay_again(self, command: RelayAgain) -> Requeued:
        places = sorted(
            (priority.value, lane, seq) for (priority, lane), waiting in self._ready.items() for seq in waiting
        )
        following = [place for place in places if place > command.after]
        for stream, _, seq in following[: command.limit]:
            if (stream, self._by_seq[seq]) not in self._outbox.values():
                self._tell(stream, self._by_seq[seq])
        return Requeued(following[command.limit - 1] if len(following) >= command.limit else None)

    def _try_webhook(self, command: TryWebhook) -> Outcome:
        webhook = command.webhook
        if self._webhooks.get(webhook.task_id, (None, None))[0] != webhook:
            return Stale()
        self._webhooks[webhook.task_id] = (replace(webhook, attempts=webhook.attempts + 1), command.due_at)
        return Noted()

    def _ended(self, record: TaskRecord, now: float) -> Ended:
        name = record.task.task_id
        return removal.seen(
            record,
            replayed=any(other.task.replay_of == name for other in self._tasks.values()),
            awaited=name in self._webhooks,
            keyed=any(owner == name and not _is_over(key, now) for key, owner in self._keys.values()),
        )

    def _remove(self, command: Remove) -> None:
        for name in (*command.payloads, *command.results):
            self._tasks[name] = removal.left(self._tasks[name], command)
        for name in command.tasks:
            replays = {r.task.task_id for r in self._tasks.values() if r.task.replay_of == name}
            record = self._tasks.pop(name)
            del self._lanes[name], self._by_seq[record.seq]
            self._outbox = {place: entry for place, entry in self._outbox.items() if entry[1] != name}
            kept = {k: v for k, v in self._keys.items() if v[1] != name and not (k[0] == REPLAYS and v[1] in replays)}
            self._keys = kept

    def _expire(self, now: float) -> None:
        for k in [k for k, (key, _) in self._keys.items() if _is_over(key, now)]:
            del self._keys[k]

    def _log(self, draft: AuditDraft) -> Head:
        return self._trail.log(draft)


def _is_ready(progress: Progress | None) -> bool:
    return progress is not None and progress.state is State.QUEUED and progress.due_at is None


def _is_over(key: Key, now: float) -> bool:
    return key.expires_at is not None and key.expires_at <= now


def _place(progress: Progress) -> tuple[State, int, float | None]:
    """What a transition compares: where the task is in its life."""
    return progress.state, progress.attempt, progress.due_at
