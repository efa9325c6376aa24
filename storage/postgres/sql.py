"""The statements of the shared ledger, but for those of a batch, which are in the function `apply_batch` of its schema.

Constants only: values travel as parameters.

Where times by the database's clock are written or compared, `$1` is how far it is ahead of ours; where they are read it
is taken off again.
"""

from orchestrator.domain.idempotency import REPLAYS
from orchestrator.storage.browsing import By
from orchestrator.storage.rows import AUDIT_COLUMNS, BRIEF_COLUMNS, RESULT_COLUMNS

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
# Several in one go: they have no values.
SAVEPOINT = "SAVEPOINT command"
BEGIN_BATCH = BEGIN + ";" + SAVEPOINT
NEXT = "RELEASE SAVEPOINT command;" + SAVEPOINT
ROLLBACK_TO = "ROLLBACK TO SAVEPOINT command"
START_OVER = ROLLBACK_TO + "; RELEASE SAVEPOINT command"
COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"
STAY = "SET idle_in_transaction_session_timeout = 0"
HOLD = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

# Durability is promised by us, whatever the server's default; a stricter one stays.
WAIT_FOR_DISK = (
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') IN ('off', 'local')"
)
CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"
ENCODING = "SELECT current_setting('server_encoding')"

TRY_NAME = "SELECT pg_try_advisory_lock(hashtextextended($1, 7305))"
LET_GO = "SELECT pg_advisory_unlock_all()"
BACKEND = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
BACKEND_LIVES = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2)"
END_BACKEND = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"

ADD_SESSION = "INSERT INTO sessions (writer) VALUES ($1) RETURNING session"
FORGET_SESSION = "DELETE FROM sessions WHERE session = $1"
FORGET_OLD_SESSIONS = "DELETE FROM sessions WHERE touched_at < now() - interval '7 days'"
READ_SESSION = "SELECT batch FROM sessions WHERE session = $1"
# A probe is this and no more: it writes.
COUNT_UP = "UPDATE sessions SET batch = batch + 1, touched_at = now() WHERE session = $1 RETURNING batch"

_COUNTS = "ready_urgent, ready_high, ready_normal, ready_low, open_urgent, open_high, open_normal, open_low"
READ_BOOK = "SELECT last_seq, " + _COUNTS + " FROM book"
# All that is read under the lock stands in the row that is locked: a statement that waits for a lock sees the row as it
# was left, and the rest of the database as it was before.
LOCK_BOOK = READ_BOOK + " FOR UPDATE"
APPLY = (
    "SELECT number, actual FROM apply_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
    " $18, $19, $20, $21, $22, $23, $24, $25, $26)"
)
SAVE_BOOK = "UPDATE book SET (last_seq, " + _COUNTS + ") = ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
COUNT_READY = "SELECT priority, count(*) FROM tasks WHERE state = 'queued' AND due_at IS NULL GROUP BY priority"
COUNT_OPEN = "SELECT priority, count(*) FROM tasks WHERE state IN ('queued', 'leased', 'retry_wait') GROUP BY priority"

FIND_KEY = "SELECT fingerprint, task_id FROM idempotency_keys WHERE scope = $1 AND key = $2"
EXPIRE_KEY = "DELETE FROM idempotency_keys WHERE scope = $2 AND key = $3 AND expires_at <= $4::float8 + $1::float8"
READ_DISGUISE = "SELECT data_key, secret FROM secrets WHERE name = $1"
SAVE_DISGUISE = (
    "INSERT INTO secrets (name, data_key, secret) VALUES ($1, $2, $3)"
    " ON CONFLICT (name) DO UPDATE SET data_key = excluded.data_key, secret = excluded.secret"
)
READ_PLAIN_KEYS = "SELECT scope, key, fingerprint FROM idempotency_keys"
DISGUISE_KEYS = (
    "UPDATE idempotency_keys AS kept SET key = new.key, fingerprint = new.fingerprint"
    " FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS new (key, fingerprint, scope, plain)"
    " WHERE kept.scope = new.scope AND kept.key = new.plain"
)
_TASK = (
    "SELECT seq, task_id, case_id, task_type, priority, lane, payload, meta, consent, raw_media,"
    " replay_of, created_at, deadline_at - $1::float8, state, attempt, failures, lost, due_at - $1::float8, agent_id,"
    " owner, lease_until - $1::float8, tried, reason, updated_at, principal, consent_id, traceparent, data_key,"
    " EXISTS (SELECT FROM revoked_consents WHERE revoked_consents.consent_id = tasks.consent_id) FROM tasks"
)
READ_TASK = _TASK + " WHERE task_id = $2"

READ_TO_ERASE = _TASK + " WHERE task_id = $2 AND payload <> ''"
READ_CASE_TO_ERASE = _TASK + " WHERE case_id = $2 AND payload <> '' ORDER BY seq LIMIT $3"
ERASE_TASKS = "UPDATE tasks SET payload = '', meta = '', data_key = NULL WHERE task_id = ANY ($1::text[])"
ERASE_RESULTS = "DELETE FROM results WHERE task_id = ANY ($1::text[])"

READ_DATA_KEYS = (
    "SELECT seq, task_id, data_key FROM tasks WHERE seq > $1 AND data_key IS NOT NULL ORDER BY seq LIMIT $2"
)
SAVE_DATA_KEYS = (
    "UPDATE tasks SET data_key = new.data_key FROM unnest($1::bytea[], $2::text[]) AS new (data_key, task_id)"
    " WHERE tasks.task_id = new.task_id"
)
LAST_DATA_KEY = "SELECT task_id, data_key FROM tasks ORDER BY seq DESC LIMIT 1"

REVOKE = "INSERT INTO revoked_consents (consent_id, revoked_at) VALUES ($1, $2) ON CONFLICT DO NOTHING"
ANY_REVOKED = "SELECT EXISTS (SELECT FROM revoked_consents WHERE consent_id = ANY ($1::text[]))"
READ_UNDER_CONSENT = _TASK + " WHERE consent_id = $2 AND state IN ('queued', 'leased', 'retry_wait') ORDER BY seq"

READ_RESULT = "SELECT " + RESULT_COLUMNS + " FROM results WHERE task_id = $1"

READ_SIGHTINGS = (
    "SELECT agent_id, seen_at - $1::float8, load, draining FROM agents WHERE seen_at IS NOT NULL ORDER BY agent_id"
)
READ_AGENTS = "SELECT agent FROM agents ORDER BY agent_id"

READ_API_KEYS = "SELECT api_key FROM api_keys ORDER BY key_id"
READ_API_KEY = "SELECT api_key FROM api_keys WHERE key_id = $1"

READ_WEBHOOKS = (
    "SELECT task_id, url, attempts FROM webhooks WHERE due_at <= $2::float8 + $1::float8 ORDER BY due_at LIMIT $3"
)

# What another replica wrote is its own relay's for five seconds, which is long for a relay that lives.
READ_OUTBOX = (
    "SELECT position, task_id, stream, task_type, reason FROM outbox JOIN tasks USING (task_id)"
    " WHERE stream = $1 AND (writer = $2 OR added_at < clock_timestamp() - interval '5 seconds')"
    " ORDER BY position LIMIT $3"
)
WITHDRAW = (
    "INSERT INTO outbox (stream, task_id, writer) SELECT $1, task_id, $3 FROM unnest($2::text[]) AS gone (task_id)"
    " ON CONFLICT DO NOTHING"
)
_READY_AFTER = (
    " FROM tasks WHERE state = 'queued' AND due_at IS NULL AND (priority, lane, seq) > ($1, $2, $3::bigint)"
    " ORDER BY priority, lane, seq LIMIT "
)
RELAY_AGAIN = (
    "INSERT INTO outbox (stream, task_id, writer) SELECT priority, task_id, $5"
    + _READY_AFTER
    + "$4 ON CONFLICT DO NOTHING"
)
RELAYED_UP_TO = "SELECT priority, lane, seq" + _READY_AFTER + "1 OFFSET $4::bigint - 1"
READ_HEAD = "SELECT seq, entry_hash FROM audit_heads WHERE writer = $1"
# From writer to writer by the index of the chains: their entries are not read.
_CHAINS = (
    "WITH RECURSIVE found AS ((SELECT writer FROM audit_entries ORDER BY writer LIMIT 1) UNION ALL"
    " SELECT (SELECT writer FROM audit_entries WHERE writer > found.writer ORDER BY writer LIMIT 1) FROM found"
    " WHERE found.writer IS NOT NULL)"
)
READ_CHAINS = (
    _CHAINS + " SELECT writer, coalesce(seq, 0), entry_hash FROM"
    " (SELECT writer FROM audit_heads UNION SELECT writer FROM found WHERE writer IS NOT NULL) AS writers"
    " LEFT JOIN audit_heads USING (writer) ORDER BY writer"
)
# By the task first, whatever the planner believes of the index by event: of acceptances there are as many as tasks.
READ_RECEIPT = (
    "SELECT writer, seq, entry_hash FROM (SELECT * FROM audit_entries WHERE task_id = $1 OFFSET 0) AS entry"
    " WHERE event = 'accepted'"
)
READ_BEGINS = (
    _CHAINS + " SELECT first.writer, first.seq - 1, first.prev_hash, first.created_at FROM found CROSS JOIN LATERAL"
    " (SELECT * FROM audit_entries WHERE writer = found.writer ORDER BY seq LIMIT 1) AS first"
    " WHERE first.seq > 1 ORDER BY first.writer"
)
READ_OLDEST = (
    _CHAINS + " SELECT entry.writer, entry.seq, entry.event, entry.created_at, entry.prev_hash, entry.entry_hash,"
    " EXISTS (SELECT FROM tasks WHERE tasks.task_id = entry.task_id AND state IN ('queued', 'leased', 'retry_wait'))"
    " OR EXISTS (SELECT FROM audit_entries AS later WHERE later.task_id = entry.task_id AND later.created_at >= $1"
    " AND later.event <> 'erased') FROM found CROSS JOIN LATERAL"
    " (SELECT * FROM audit_entries WHERE writer = found.writer ORDER BY seq LIMIT $2) AS entry"
    " ORDER BY entry.writer, entry.seq"
)
_BEGINS = " unnest($1::text[], $2::bigint[], $3::text[]) AS begin (writer, seq, entry_hash)"
COUNT_BEGINS = (
    "SELECT count(*) FROM audit_entries AS next JOIN" + _BEGINS + " ON next.writer = begin.writer"
    " AND next.seq = begin.seq + 1 AND next.prev_hash = begin.entry_hash"
)
REMOVE_ENTRIES = (
    "DELETE FROM audit_entries USING unnest($1::text[], $2::bigint[]) AS begin (writer, seq)"
    " WHERE audit_entries.writer = begin.writer AND audit_entries.seq <= begin.seq"
)
LAST_LINK = "SELECT seq, entry_hash FROM audit_entries WHERE writer = $1 ORDER BY seq DESC LIMIT 1"
LATEST = "SELECT max(created_at) FROM audit_entries"
READ_CHAIN = "SELECT " + AUDIT_COLUMNS + " FROM audit_entries WHERE writer = $1 AND seq > $2 ORDER BY seq LIMIT $3"
# What else is asked of the entries of a task or a case, which are few.
_OF_TASK = " AND task_id = $4 AND ($5::text IS NULL OR case_id = $5) AND ($6::text IS NULL OR event = $6)"
_OF_THE_CASE = " AND case_id = $4 AND ($5::text IS NULL OR event = $5)"
_AUDIT = "SELECT position, " + AUDIT_COLUMNS + " FROM audit_entries WHERE position > $1 AND created_at >= $2"
_AUDIT_PAGE = " ORDER BY position LIMIT $3"
READ_AUDIT = _AUDIT + _AUDIT_PAGE
READ_AUDIT_OF_TASK = _AUDIT + _OF_TASK + _AUDIT_PAGE
READ_AUDIT_OF_CASE = _AUDIT + _OF_THE_CASE + _AUDIT_PAGE
READ_AUDIT_OF_EVENT = _AUDIT + " AND event = $4" + _AUDIT_PAGE
PAGE_BY = {
    By.TASK: READ_AUDIT_OF_TASK, By.CASE: READ_AUDIT_OF_CASE, By.EVENT: READ_AUDIT_OF_EVENT, By.POSITION: READ_AUDIT,
}  # fmt: skip
_NEWEST = "SELECT position, " + AUDIT_COLUMNS + " FROM audit_entries WHERE position < $1 AND created_at >= $2"
_BACKWARDS = " ORDER BY position DESC LIMIT $3"
READ_NEWEST = _NEWEST + _BACKWARDS
READ_NEWEST_OF_TASK = _NEWEST + _OF_TASK + _BACKWARDS
READ_NEWEST_OF_CASE = _NEWEST + _OF_THE_CASE + _BACKWARDS
READ_NEWEST_OF_EVENT = _NEWEST + " AND event = $4" + _BACKWARDS
NEWEST_BY = {
    By.TASK: READ_NEWEST_OF_TASK, By.CASE: READ_NEWEST_OF_CASE, By.EVENT: READ_NEWEST_OF_EVENT,
    By.POSITION: READ_NEWEST,
}  # fmt: skip
# From event to event by their index: entries are not read.
READ_EVENTS = (
    "WITH RECURSIVE found AS ((SELECT event FROM audit_entries ORDER BY event LIMIT 1) UNION ALL"
    " SELECT (SELECT event FROM audit_entries WHERE event > found.event ORDER BY event LIMIT 1) FROM found"
    " WHERE found.event IS NOT NULL) SELECT event FROM found WHERE event IS NOT NULL"
)
READ_LAST_CHECKPOINT = (
    "SELECT " + AUDIT_COLUMNS + " FROM audit_entries WHERE event = 'checkpoint' ORDER BY position DESC LIMIT 1"
)
LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM tasks"
_BRIEF = "SELECT " + BRIEF_COLUMNS + " FROM tasks WHERE"
_BRIEF_PAGE = (
    " seq < $1 AND seq >= $2 AND ($3::text IS NULL OR state = $3) AND ($4::text IS NULL OR principal = $4)"
    " ORDER BY seq DESC LIMIT $5"
)
READ_BRIEFS = _BRIEF + _BRIEF_PAGE
READ_BRIEFS_OF_CASE = _BRIEF + " case_id = $6 AND" + _BRIEF_PAGE

READ_STATE = _TASK + " WHERE state = $2 AND seq > $3 ORDER BY seq LIMIT $4"
READ_DEAD = _TASK + " WHERE state = 'dead' AND seq > $2 ORDER BY seq LIMIT $3"
READ_STATE_OF = _TASK + " WHERE state = $2 AND principal = $3 AND seq > $4 ORDER BY seq LIMIT $5"
READ_DEAD_OF = _TASK + " WHERE state = 'dead' AND principal = $2 AND seq > $3 ORDER BY seq LIMIT $4"
_LANE = "SELECT priority, lane FROM tasks WHERE state = 'queued' AND due_at IS NULL"
_FIRST = " ORDER BY priority, lane LIMIT 1"
# From lane to lane by the index: a million tasks in three lanes cost three steps.
READ_LANES = (
    "WITH RECURSIVE lanes AS ((" + _LANE + _FIRST + ") UNION ALL SELECT next.priority, next.lane FROM lanes AS last"
    " CROSS JOIN LATERAL (" + _LANE + " AND (priority, lane) > (last.priority, last.lane)" + _FIRST + ") AS next)"
    " SELECT priority, lane FROM lanes"
)
READ_READY = (
    "SELECT task_id, priority, lane, seq, updated_at FROM tasks"
    " WHERE state = 'queued' AND due_at IS NULL AND priority = $1 AND lane = $2 AND seq > $3 ORDER BY seq LIMIT $4"
)
READ_TICKETS = (
    "SELECT task_id, priority, lane, seq, updated_at FROM tasks"
    " WHERE task_id = ANY ($1::text[]) AND state = 'queued' AND due_at IS NULL"
)
READ_RECORDS = _TASK + " WHERE task_id = ANY ($2::text[])"
READ_DUE = _TASK + " WHERE due_at <= $2::float8 + $1::float8 ORDER BY due_at, seq LIMIT $3"
NEXT_DUE = "SELECT min(due_at) - $1::float8 FROM tasks WHERE due_at IS NOT NULL"
READ_LAPSED = (
    _TASK + " WHERE state = 'leased' AND lease_until <= $2::float8 + $1::float8 ORDER BY lease_until, seq LIMIT $3"
)
READ_LEASED = _TASK + " WHERE state = 'leased' AND starts_with(owner, $2) ORDER BY lease_until, seq LIMIT $3"
READ_OVERDUE = (
    _TASK + " WHERE state IN ('queued', 'leased', 'retry_wait') AND state <> 'leased'"
    " AND deadline_at <= $2::float8 + $1::float8 ORDER BY deadline_at, seq LIMIT $3"
)

_ENDED = "state IN ('succeeded', 'dead', 'cancelled', 'expired', 'denied')"
# What retention asks of a task that has ended; see domain/retention.py. What is gone stands as in rows.py.
_WITH_PAYLOAD = r"payload NOT IN ('', '\x2d')"
READ_ENDED = (
    "SELECT task_id, seq, updated_at, " + _WITH_PAYLOAD + ","
    " EXISTS (SELECT FROM results WHERE results.task_id = tasks.task_id),"
    " state = 'dead' AND " + _WITH_PAYLOAD + " AND NOT EXISTS"
    " (SELECT FROM tasks AS again WHERE again.replay_of = tasks.task_id),"
    " EXISTS (SELECT FROM webhooks WHERE webhooks.task_id = tasks.task_id),"
    " EXISTS (SELECT FROM idempotency_keys AS live WHERE live.task_id = tasks.task_id"
    " AND (live.expires_at IS NULL OR live.expires_at > $2::float8 + $1::float8)),"
    " octet_length(payload) + octet_length(meta)"
    " + coalesce((SELECT octet_length(output) FROM results WHERE results.task_id = tasks.task_id), 0)"
    " FROM tasks WHERE " + _ENDED + " AND updated_at < $3 AND (updated_at, seq) > ($4, $5::bigint)"
    " ORDER BY updated_at, seq LIMIT $6"
)
_NAMED = "tasks.task_id = ANY ($1::text[])"
REMOVE_RESULTS = "DELETE FROM results WHERE task_id = ANY ($1::text[])"
EMPTY_TASKS = (
    r"UPDATE tasks SET payload = '\x2d', meta = '\x2d', data_key = CASE WHEN EXISTS"
    " (SELECT FROM results WHERE results.task_id = tasks.task_id) THEN data_key END"
    " WHERE " + _NAMED + " AND " + _WITH_PAYLOAD + " AND " + _ENDED
)
FORGET_DATA_KEYS = "UPDATE tasks SET data_key = NULL WHERE " + _NAMED + " AND NOT " + _WITH_PAYLOAD
# The key under which a dead letter was replayed stands for the task that came of it.
REMOVE_REPLAYS = (
    "DELETE FROM idempotency_keys WHERE scope = '" + REPLAYS + "'"
    " AND task_id IN (SELECT task_id FROM tasks WHERE replay_of = ANY ($1::text[]))"
)
REMOVE_KEYS = "DELETE FROM idempotency_keys WHERE task_id = ANY ($1::text[])"
REMOVE_TOLD = "DELETE FROM outbox WHERE task_id = ANY ($1::text[])"
REMOVE_TASKS = "DELETE FROM tasks WHERE " + _NAMED + " AND " + _ENDED

MIGRATE_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(7305, 1)"
FIND_VERSION = (
    # Not to_regclass: it may still know from before it waited for the lock that there is none.
    "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'schema_version')"
)
READ_VERSION = "SELECT max(version) FROM schema_version"
CREATE_VERSION = "CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL)"
CLEAR_VERSION = "DELETE FROM schema_version"
WRITE_VERSION = "INSERT INTO schema_version (version) VALUES ($1)"
