"""Rows of the ledger's tables, and the values they hold."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from orchestrator.domain.agent import Agent, Sighting
from orchestrator.domain.api_key import ApiKey
from orchestrator.domain.audit import AuditEntry, Head
from orchestrator.domain.lifecycle import Progress, State
from orchestrator.domain.retention import Begin, Ended, Entry
from orchestrator.domain.task import Consent, Override, Priority, Task
from orchestrator.storage.browsing import Brief
from orchestrator.storage.commands import Result, TaskRecord, Webhook
from orchestrator.storage.disguise import Worn
from orchestrator.storage.ports import Outgoing, Ticket
from orchestrator.storage.sealing import Codec

Row = Sequence[Any]

TASK_COLUMNS = (
    "seq, task_id, case_id, task_type, priority, lane, payload, meta, consent, raw_media, replay_of,"
    " created_at, deadline_at, state, attempt, failures, lost, due_at, agent_id, owner, lease_until, tried, reason,"
    " updated_at, principal, consent_id, traceparent, data_key"
)
NEW_TASK_COLUMNS = (
    "seq, task_id, case_id, task_type, priority, lane, payload, meta, consent, raw_media, replay_of,"
    " created_at, deadline_at, updated_at, principal, consent_id, traceparent, data_key"
)
PROGRESS_COLUMNS = "state, attempt, failures, lost, due_at, agent_id, owner, lease_until, tried, reason"
BRIEF_COLUMNS = (
    "seq, task_id, case_id, task_type, priority, state, attempt, failures, agent_id, reason, created_at, principal"
)
RESULT_COLUMNS = "attempt, agent_id, output, model_version, finished_at"
AUDIT_COLUMNS = ", ".join(AuditEntry.__struct_fields__)

DEAD_LETTERS = "dlq"
"""What the outbox calls the stream of the dead letters; the others have the names of their classes."""
WITHDRAWN = "withdrawn"
"""What stands there in place of a stream where all of them are to hold a task no more."""

ERASED = b""
"""What stands for the payload of a task that was erased. Nothing that is stored has no byte, sealed or not."""
REMOVED = b"-"
"""The same where it was kept for as long as it should be: no JSON and nothing sealed is just this."""

_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, Any]).decode
_tried = msgspec.json.Decoder(tuple[str, ...]).decode
_api_key = msgspec.json.Decoder(ApiKey).decode
_any = msgspec.json.Decoder().decode


def task_row(record: TaskRecord, lane: str, codec: Codec) -> Row:
    """A row of NEW_TASK_COLUMNS."""
    task, key = record.task, record.key
    task_id, consent = task.task_id, task.consent
    return (
        record.seq,
        task_id,
        task.case_id,
        task.task_type,
        task.priority.value,
        lane,
        # The module sqlite3 looks for a way to adapt bytes, at the price of four other values; a bytearray it takes.
        bytearray(codec.seal(key, task_id, "payload", _encode(task.payload))),
        bytearray(codec.seal(key, task_id, "meta", _encode(task.meta))),
        bytearray(_encode(consent)),
        int(task.raw_media),
        task.replay_of,
        task.created_at,
        task.deadline_at,
        record.updated_at,
        task.principal,
        consent.consent_id,
        task.traceparent,
        key,
    )


def key_row(seq: int, worn: Worn) -> Row:
    """The seq of a task, and the key that stands for it."""
    return (seq, bytearray(worn.digest), bytearray(worn.fingerprint), worn.expires_at)


def brief(row: Row) -> Brief:
    """From a row of BRIEF_COLUMNS."""
    seq, task_id, case_id, task_type, priority, state, *rest = row
    return Brief(seq, task_id, case_id, task_type, Priority(priority), State(state), *rest)


def progress_row(progress: Progress) -> Row:
    """A row of PROGRESS_COLUMNS."""
    return (
        progress.state.value,
        progress.attempt,
        progress.failures,
        progress.lost,
        progress.due_at,
        progress.agent_id,
        progress.owner,
        progress.lease_until,
        bytearray(_encode(progress.tried)),
        progress.reason,
    )


def task_record(row: Row, codec: Codec, result_row: Row | None = None) -> TaskRecord:
    """What a row of TASK_COLUMNS says, and one of RESULT_COLUMNS if there is one. Raises Unreadable without its key."""
    key, task_id = row[27], row[1]
    held = (_opened(codec, key, task_id, "payload", row[6]), _opened(codec, key, task_id, "meta", row[7]))
    result = None if result_row is None else _result(result_row, key, task_id, codec)
    return _record(row, *held, result)


def closed_record(row: Row) -> TaskRecord:
    """What a row of TASK_COLUMNS says but for what the task holds, for which alone a key is needed."""
    return _record(row, {}, {}, None)


def _record(row: Row, payload: dict[str, Any], meta: dict[str, Any], result: Result | None) -> TaskRecord:
    task = Task(
        task_id=row[1],
        case_id=row[2],
        task_type=row[3],
        priority=Priority(row[4]),
        payload=payload,
        meta=meta,
        consent=consent(row[8]),
        raw_media=bool(row[9]),
        replay_of=row[10],
        created_at=row[11],
        deadline_at=row[12],
        principal=row[24],
        traceparent=row[26],
    )
    state, attempt, failures, lost, due_at, agent_id, owner, lease_until, tried, reason = row[13:23]
    progress = Progress(
        State(state), attempt, failures, lost, due_at, agent_id, owner, lease_until, _tried(tried), reason
    )
    # Behind the columns, a reader of one task says whether its consent was revoked.
    revoked = bool(row[28:] and row[28])
    gone = {"erased": row[6] == ERASED, "payload_removed": row[6] == REMOVED}
    return TaskRecord(row[0], task, progress, row[23], result, revoked, row[27], **gone)


def whole_record(row: Row, codec: Codec, result_row: Row | None) -> TaskRecord:
    """The same of a task whose result, if it has one, was read as well."""
    record = task_record(row, codec, result_row)
    lost = result_row is None and record.progress.state is State.SUCCEEDED and not record.erased
    return msgspec.structs.replace(record, result_removed=True) if lost else record


def _opened(codec: Codec, key: bytes | None, task_id: str, column: str, stored: bytes) -> dict[str, Any]:
    return {} if stored in (ERASED, REMOVED) else _object(codec.open(key, task_id, column, stored))


def ended(row: Row) -> Ended:
    """What the fields of Ended say, in their order."""
    place, known, size = row[:3], map(bool, row[3:-1]), row[-1]
    return Ended(*place, *known, size=size)


def old_entry(row: Row) -> Entry:
    """What the fields of Entry say, in their order."""
    writer, seq, event, created_at, prev_hash, entry_hash, held = row
    return Entry(writer, seq, event, created_at, prev_hash, entry_hash, bool(held))


def begin(row: Row) -> Begin:
    """What `writer, seq, entry_hash` of the last entry that was removed say, and `created_at` of the one behind it."""
    return Begin(Head(*row[:3]), row[3])


def consent(text: bytes) -> Consent:
    """What the JSON of a consent says. Not checked anew: a rule of today must not make unreadable what is stored."""
    fields = _object(text)
    if "expires_at" in fields:
        fields["expires_at"] = datetime.fromisoformat(fields["expires_at"])
    if "override" in fields:
        fields["override"] = Override(**fields["override"])
    return Consent(**fields)


def result_row(record: TaskRecord, result: Result, codec: Codec) -> Row:
    """The task's seq and id, and a row of RESULT_COLUMNS."""
    task_id = record.task.task_id
    output = bytearray(codec.seal(record.key, task_id, "output", _encode(result.output)))
    return (record.seq, task_id, result.attempt, result.agent_id, output, result.model_version, result.finished_at)


def _result(row: Row, key: bytes | None, task_id: str, codec: Codec) -> Result:
    return Result(row[0], row[1], _any(codec.open(key, task_id, "output", row[2])), row[3], row[4])


def instant(text: str | None) -> float:
    """The time of an audit entry, in seconds since the epoch; 0 for none, or one that was made unreadable."""
    try:
        return datetime.fromisoformat(text).timestamp() if text else 0.0
    except (OverflowError, ValueError):
        return 0.0


def audit_entry(row: Row) -> AuditEntry:
    """What a row of AUDIT_COLUMNS says."""
    return AuditEntry(**dict(zip(AuditEntry.__struct_fields__, row, strict=True)))


def agent_row(agent: Agent) -> Row:
    """Agent id and the agent as JSON."""
    return (agent.agent_id, _encode(agent))


def agent(text: bytes) -> Agent:
    """What the JSON of an agent says; not checked anew either."""
    fields = _object(text)
    for name in ("capabilities", "withheld"):
        fields[name] = tuple(fields.get(name, ()))
    return Agent(**fields)


def sighting_row(sighting: Sighting) -> Row:
    """What of a sighting is stored, its agent last."""
    return (sighting.seen_at, sighting.load, sighting.draining, sighting.agent_id)


def sighting(row: Row) -> Sighting:
    """What `agent_id, seen_at, load, draining` say."""
    return Sighting(row[0], row[1], row[2], None if row[3] is None else bool(row[3]))


def names(task_ids: Sequence[str]) -> str:
    """Ids as one parameter: a JSON array."""
    return _encode(list(task_ids)).decode()


def outgoing(row: Row) -> Outgoing:
    """What `position, task_id, stream, task_type, reason` say."""
    priority = None if row[2] in (DEAD_LETTERS, WITHDRAWN) else Priority(row[2])
    return Outgoing(row[0], row[1], priority, row[3], row[4])


def api_key_row(key: ApiKey) -> Row:
    """Key id and the key as JSON."""
    return (key.key_id, _encode(key))


def api_key(text: bytes) -> ApiKey:
    """What the JSON of a key says."""
    return _api_key(text)


def webhook(row: Row) -> Webhook:
    """What `task_id, url, attempts` say."""
    return Webhook(row[0], row[1], row[2])


def ticket(row: Row) -> Ticket:
    """What `task_id, priority, lane, seq, updated_at` say."""
    return Ticket(row[0], Priority(row[1]), row[2], row[3], row[4])
