"""Every statement of the embedded ledger. Constants only: values travel as parameters."""

from orchestrator.storage.browsing import By
from orchestrator.storage.rows import (
    AUDIT_COLUMNS,
    BRIEF_COLUMNS,
    NEW_TASK_COLUMNS,
    PROGRESS_COLUMNS,
    RESULT_COLUMNS,
    TASK_COLUMNS,
)

# Not only whether it can be written, but whether there is room for a task. The room is given back at once.
PROBE = (
    "UPDATE schema_version SET probes = probes + 1",
    "INSERT INTO room (asked) VALUES (zeroblob(65536))",
    "DELETE FROM room",
)

# To step through a statement for each row costs as much again as storing the row, and each time the loop may come
# between: what a commit has many of is written for so many rows at once.
ROWS = (64, *range(32, 1, -1))

# As the indexes of such tasks have it. For an IN with more than two states, SQLite makes a table with each row written.
_OPEN = "(state = 'queued' OR state = 'leased' OR state = 'retry_wait')"
_ENDED = "(state = 'succeeded' OR state = 'dead' OR state = 'cancelled' OR state = 'expired' OR state = 'denied')"

# OR FAIL: what it did before is undone with the transaction, or the command's savepoint. To undo it by itself, SQLite
# would keep a copy of each page that a statement of many rows touches.
_KEY = "(?, ?, ?, ?)"
ADD_KEY = "INSERT OR FAIL INTO idempotency_keys (seq, digest, fingerprint, expires_at) VALUES " + _KEY
FIND_KEY = (
    "SELECT seq, fingerprint, task_id, expires_at FROM idempotency_keys JOIN tasks USING (seq)"
    " WHERE seq = ? AND digest = ?"
)
READ_NEW_KEYS = "SELECT digest, seq FROM idempotency_keys WHERE seq > ? ORDER BY seq LIMIT ?"
READ_NEXT_KEY_RUN = "SELECT coalesce(max(run) + 1, 0), coalesce(max(up_to), 0) FROM idempotency_runs"
READ_KEY_RUNS = "SELECT run FROM idempotency_runs"
READ_FILTERS = "SELECT run, filter FROM idempotency_runs"
ADD_KEY_RUN = "INSERT INTO idempotency_runs (run, up_to, filter) VALUES (?, ?, ?)"
# The last one stays in any case: it says where the next begins.
REMOVE_KEY_RUNS = (
    "DELETE FROM idempotency_runs AS over WHERE run < ? AND NOT EXISTS (SELECT 1 FROM idempotency_keys"
    " WHERE seq <= over.up_to AND seq > coalesce((SELECT earlier.up_to FROM idempotency_runs AS earlier"
    " WHERE earlier.run < over.run ORDER BY earlier.run DESC LIMIT 1), 0)) RETURNING run"
)
WRITE_KEYS_OF_RUN = "INSERT OR REPLACE INTO idempotency_index (place, keys) VALUES (?, ?)"
READ_KEYS_OF_RUN = "SELECT keys FROM idempotency_index WHERE place = ?"
REMOVE_KEYS_OF_RUN = "DELETE FROM idempotency_index WHERE place >= ? AND place < ?"
FORGET_KEY = "DELETE FROM idempotency_keys WHERE seq = ?"
READ_DISGUISE = "SELECT data_key, secret FROM secrets WHERE name = ?"
SAVE_DISGUISE = (
    "INSERT INTO secrets (name, data_key, secret) VALUES (?, ?, ?)"
    " ON CONFLICT (name) DO UPDATE SET data_key = excluded.data_key, secret = excluded.secret"
)
ARE_THERE_OLDER_KEYS = "SELECT 1 FROM sqlite_master WHERE name = 'older_keys'"
READ_OLDER_KEYS = "SELECT seq, scope, key, fingerprint, expires_at FROM older_keys JOIN tasks USING (task_id)"
REMOVE_OLDER_KEYS = "DROP TABLE older_keys"
EXPIRE_KEYS = "DELETE FROM idempotency_keys WHERE expires_at IS NOT NULL AND expires_at <= ?"

# How far a new task is stands here and not in parameters: to bind one costs as much as to store it.
_NEW_TASK = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', 0, 0, 0, x'5b5d')"
ADD_TASK = (
    "INSERT OR FAIL INTO tasks (" + NEW_TASK_COLUMNS + ", state, attempt, failures, lost, tried) VALUES " + _NEW_TASK
)
# One that is further on from the start. To add it as new and to move it there would write each of its indexes twice.
ADD_BEGUN_TASK = (
    "INSERT INTO tasks (" + NEW_TASK_COLUMNS + ", " + PROGRESS_COLUMNS + ")"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
MOVE_TASK = (
    "UPDATE tasks SET state = ?, attempt = ?, failures = ?, lost = ?, due_at = ?, agent_id = ?, owner = ?,"
    " lease_until = ?, tried = ?, reason = ?, updated_at = ? WHERE task_id = ? AND state = ? AND attempt = ?"
    # Coming due leaves state and attempt as they are: this tells the task before from the task after.
    " AND due_at IS ?"
)
_MOVE = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_MOVE_TASKS = (
    "UPDATE OR FAIL tasks SET state = column1, attempt = column2, failures = column3, lost = column4, due_at = column5,"
    " agent_id = column6, owner = column7, lease_until = column8, tried = column9, reason = column10,"
    " updated_at = column11 FROM (VALUES " + _MOVE
)
_MOVED = ") WHERE task_id = column12 AND state = column13 AND attempt = column14 AND due_at IS column15"
READ_TASK = (
    "SELECT " + TASK_COLUMNS + ", EXISTS (SELECT 1 FROM revoked_consents WHERE consent_id = tasks.consent_id)"
    " FROM tasks WHERE task_id = ?"
)

READ_TO_ERASE = "SELECT " + TASK_COLUMNS + " FROM tasks WHERE task_id = ? AND payload <> x''"


# Behind this position entries are in no part yet: they are looked through.
_IN_PARTS = "(SELECT coalesce(max(last), 0) FROM audit_parts)"
ARE_THERE_PARTS = "SELECT 1 FROM sqlite_master WHERE name = 'audit_parts'"
NO_PARTS = (
    "CREATE TEMP TABLE audit_parts (last INTEGER PRIMARY KEY, first INTEGER, latest TEXT)",
    "CREATE TEMP TABLE audit_runs (last INTEGER PRIMARY KEY, first INTEGER, event TEXT)",
    "CREATE TEMP TABLE audit_cases (part INTEGER, case_id TEXT, position INTEGER)",
)
COUNT_BEHIND_PARTS = "SELECT count(*) FROM (SELECT 1 FROM audit_entries WHERE position > " + _IN_PARTS + " LIMIT ?)"
# The fewer entries a run is among, the fewer are looked through where an event is among many others.
READ_NEXT_RUNS = (
    "SELECT max(position), min(position), event, max(created_at) FROM (SELECT position, event, created_at"
    " FROM audit_entries WHERE position > " + _IN_PARTS + " ORDER BY position LIMIT ?) GROUP BY position >> 8, event"
)
ADD_RUN = "INSERT INTO audit_runs (last, first, event) VALUES (?, ?, ?)"
ADD_PART = "INSERT INTO audit_parts (last, first, latest) VALUES (?, ?, ?)"
ADD_CASES = (
    "INSERT INTO audit_cases (part, case_id, position) SELECT ?, case_id, position FROM audit_entries"
    " WHERE position BETWEEN ? AND ? AND case_id IS NOT NULL ORDER BY case_id, position"
)
# Before a statement: `of_case`, the entries of a case. What follows each of the two is the parameter that names it.
_OF_CASE = (
    "WITH of_case AS NOT MATERIALIZED (SELECT audit_entries.* FROM audit_parts CROSS JOIN audit_cases"
    " ON part = last AND audit_cases.case_id = "
)
_AND_BEHIND = (
    " CROSS JOIN audit_entries USING (position) UNION ALL"
    " SELECT * FROM audit_entries WHERE position > " + _IN_PARTS + " AND case_id = "
)
# Each task has one entry of its acceptance, unless that was removed.
_TASKS_OF_CASE = (
    " FROM (SELECT task_id AS accepted FROM of_case WHERE event = 'accepted'"
    " UNION ALL SELECT task_id FROM unlisted) CROSS JOIN tasks ON task_id = accepted"
)
_UNLISTED = "), unlisted AS NOT MATERIALIZED (SELECT task_id FROM tasks WHERE unlisted = 1 AND case_id = "
READ_CASE_TO_ERASE = (
    _OF_CASE + "?1" + _AND_BEHIND + "?1" + _UNLISTED + "?1)"
    " SELECT " + TASK_COLUMNS + _TASKS_OF_CASE + " WHERE payload <> x'' ORDER BY seq LIMIT ?2"
)
ERASE_TASK = "UPDATE tasks SET payload = x'', meta = x'', data_key = NULL WHERE task_id = ?"
ERASE_RESULT = "DELETE FROM results WHERE seq = ?"
# Commits wait behind it, so a reader that takes its time is not waited for.
HARDLY_WAIT = "PRAGMA busy_timeout = 250"
IN_PASSING = "PRAGMA busy_timeout = 10"
WAIT = "PRAGMA busy_timeout = 5000"
EMPTY_LOG = "PRAGMA wal_checkpoint(TRUNCATE)"

READ_DATA_KEYS = "SELECT seq, task_id, data_key FROM tasks WHERE seq > ? AND data_key IS NOT NULL ORDER BY seq LIMIT ?"
SAVE_DATA_KEY = "UPDATE tasks SET data_key = ? WHERE task_id = ?"
LAST_DATA_KEY = "SELECT task_id, data_key FROM tasks WHERE seq = (SELECT max(seq) FROM tasks)"

REVOKE = "INSERT INTO revoked_consents (consent_id, revoked_at) VALUES (?, ?) ON CONFLICT DO NOTHING"
IS_REVOKED = "SELECT 1 FROM revoked_consents WHERE consent_id = ?"
ANY_REVOKED = "SELECT 1 FROM revoked_consents WHERE consent_id IN (SELECT value FROM json_each(?)) LIMIT 1"
READ_UNDER_CONSENT = "SELECT " + TASK_COLUMNS + " FROM tasks WHERE consent_id = ? AND " + _OPEN + " ORDER BY seq"

_RESULT = "(?, ?, ?, ?, ?, ?)"
ADD_RESULT = "INSERT OR FAIL INTO results (seq, " + RESULT_COLUMNS + ") VALUES " + _RESULT
READ_RESULT = "SELECT " + RESULT_COLUMNS + " FROM results WHERE seq = ?"

SAVE_AGENT = (
    "INSERT INTO agents (agent_id, agent) VALUES (?, ?) ON CONFLICT (agent_id) DO UPDATE SET agent = excluded.agent"
)
FORGET_AGENT = "DELETE FROM agents WHERE agent_id = ?"
TELL_SIGHTING = (
    "UPDATE agents SET seen_at = max(coalesce(seen_at, 0.0), ?), load = coalesce(?, load),"
    " draining = coalesce(?, draining) WHERE agent_id = ?"
)
READ_SIGHTINGS = "SELECT agent_id, seen_at, load, draining FROM agents WHERE seen_at IS NOT NULL ORDER BY agent_id"
READ_AGENTS = "SELECT agent FROM agents ORDER BY agent_id"

SAVE_API_KEY = (
    "INSERT INTO api_keys (key_id, api_key) VALUES (?, ?) ON CONFLICT (key_id) DO UPDATE SET api_key = excluded.api_key"
)
FORGET_API_KEY = "DELETE FROM api_keys WHERE key_id = ?"
READ_API_KEYS = "SELECT api_key FROM api_keys ORDER BY key_id"
READ_API_KEY = "SELECT api_key FROM api_keys WHERE key_id = ?"

_ENTRY = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
ADD_AUDIT = "INSERT INTO audit_entries (" + AUDIT_COLUMNS + ") VALUES " + _ENTRY
# What most entries say that accept a task stands here, as above.
_ACCEPTED = "(?, ?, ?, 'accepted', ?, ?, ?, ?, NULL, NULL, ?, 'queued', 0, NULL, NULL, ?, ?, ?)"
ADD_ACCEPTED = "INSERT INTO audit_entries (" + AUDIT_COLUMNS + ") VALUES " + _ACCEPTED
SAVE_HEAD = (
    "INSERT INTO audit_heads (writer, seq, entry_hash) VALUES (?, ?, ?)"
    " ON CONFLICT (writer) DO UPDATE SET seq = excluded.seq, entry_hash = excluded.entry_hash"
)
# From writer to writer by the index of the chains: their entries are not read.
_CHAINS = (
    "WITH RECURSIVE found (writer) AS (SELECT min(writer) FROM audit_entries UNION ALL"
    " SELECT (SELECT min(writer) FROM audit_entries WHERE writer > found.writer) FROM found"
    " WHERE found.writer IS NOT NULL)"
)
READ_CHAINS = (
    _CHAINS + " SELECT writer, coalesce(seq, 0), entry_hash FROM"
    " (SELECT writer FROM audit_heads UNION SELECT writer FROM found WHERE writer IS NOT NULL)"
    " LEFT JOIN audit_heads USING (writer) ORDER BY writer"
)
READ_BEGINS = (
    _CHAINS + " SELECT first.writer, first.seq - 1, first.prev_hash, first.created_at"
    " FROM found CROSS JOIN audit_entries AS first ON first.writer = found.writer"
    " AND first.seq = (SELECT min(seq) FROM audit_entries WHERE writer = found.writer) WHERE first.seq > 1"
)
READ_OLDEST = (
    "SELECT writer, seq, event, created_at, prev_hash, entry_hash, task_id IS NOT NULL AND ("
    "EXISTS (SELECT 1 FROM tasks WHERE tasks.task_id = entry.task_id AND " + _OPEN + ")"
    " OR EXISTS (SELECT 1 FROM audit_entries AS later WHERE later.task_id = entry.task_id AND later.created_at >= ?"
    " AND later.event <> 'erased'))"
    " FROM audit_entries AS entry WHERE writer = CAST(? AS TEXT) AND seq > 0 ORDER BY seq LIMIT ?"
)
GOES_ON_BEHIND = "SELECT 1 FROM audit_entries WHERE writer = ? AND seq = ? + 1 AND prev_hash = ?"
UNLIST_TASKS = (
    "UPDATE tasks SET unlisted = 1 WHERE task_id IN"
    " (SELECT task_id FROM audit_entries WHERE writer = ? AND seq <= ? AND event = 'accepted')"
)
REMOVE_ENTRIES = "DELETE FROM audit_entries WHERE writer = ? AND seq <= ?"
# What entries were found by goes with them: the case of one, the runs and parts of which nothing is left.
_GOES_ON = "(SELECT position FROM audit_entries WHERE writer = ? AND seq = ? + 1)"
REMOVE_CASES = (
    "DELETE FROM audit_cases WHERE part IN (SELECT last FROM audit_parts WHERE first < " + _GOES_ON + ")"
    " AND position NOT IN (SELECT position FROM audit_entries)"
)
REMOVE_RUNS = (
    "DELETE FROM audit_runs WHERE last < " + _GOES_ON + " AND NOT EXISTS (SELECT 1 FROM audit_entries"
    " WHERE position BETWEEN audit_runs.first AND audit_runs.last AND event = audit_runs.event)"
)
REMOVE_PARTS = "DELETE FROM audit_parts WHERE last < (SELECT min(position) FROM audit_entries)"
READ_HEADS = "SELECT writer, seq, entry_hash FROM audit_heads ORDER BY writer"
_READ_AUDIT = "SELECT position, " + AUDIT_COLUMNS + " FROM audit_entries WHERE position > ? AND created_at >= ?"
_AUDIT_PAGE = " ORDER BY position LIMIT ?"
# What else is asked of the entries of a task or a case, which are few. Parameters without numbers where they will do:
# early versions of Python 3.12 warn of the others.
_OF_TASK = " AND task_id = ? AND case_id IS coalesce(?, case_id) AND event = coalesce(?, event)"
# Behind this position they are looked for: those of the first part with one, or those that are in none.
BEFORE_SINCE = (
    "SELECT coalesce((SELECT first - 1 FROM audit_parts WHERE latest >= ? ORDER BY last LIMIT 1), " + _IN_PARTS + ")"
)
READ_AUDIT = _READ_AUDIT + _AUDIT_PAGE
READ_AUDIT_OF_TASK = _READ_AUDIT + _OF_TASK + _AUDIT_PAGE
READ_AUDIT_OF_CASE = (
    _OF_CASE + "?3" + _AND_BEHIND + "?3)"
    " SELECT position, " + AUDIT_COLUMNS + " FROM of_case WHERE position > ?1 AND created_at >= ?2"
    " AND event = coalesce(?4, event) ORDER BY position LIMIT ?5"
)
# Run by run, and then what is behind the parts: each is in order, and so are all of them.
READ_AUDIT_OF_EVENT = (
    "SELECT position, " + AUDIT_COLUMNS + ", last AS run FROM audit_runs JOIN audit_entries USING (event)"
    " WHERE event = ?3 AND last > ?1 AND position BETWEEN max(first, ?1 + 1) AND last AND created_at >= ?2"
    " UNION ALL SELECT position, " + AUDIT_COLUMNS + ", position FROM audit_entries"
    " WHERE position > max(?1, " + _IN_PARTS + ") AND event = ?3 AND created_at >= ?2 ORDER BY run, position LIMIT ?4"
)
PAGE_BY = {
    By.TASK: READ_AUDIT_OF_TASK, By.CASE: READ_AUDIT_OF_CASE, By.EVENT: READ_AUDIT_OF_EVENT, By.POSITION: READ_AUDIT,
}  # fmt: skip
LATEST = (
    "SELECT max(at) FROM (SELECT max(latest) AS at FROM audit_parts UNION ALL"
    " SELECT max(created_at) FROM audit_entries WHERE position > " + _IN_PARTS + ")"
)
_NEWEST = "SELECT position, " + AUDIT_COLUMNS + " FROM audit_entries WHERE position < ? AND created_at >= ?"
_BACKWARDS = " ORDER BY position DESC LIMIT ?"
READ_NEWEST = _NEWEST + " AND position > ?" + _BACKWARDS
READ_NEWEST_OF_TASK = _NEWEST + _OF_TASK + _BACKWARDS
READ_NEWEST_OF_CASE = (
    _OF_CASE + "?3" + _AND_BEHIND + "?3)"
    " SELECT position, " + AUDIT_COLUMNS + " FROM of_case WHERE position < ?1 AND created_at >= ?2"
    " AND event = coalesce(?4, event) ORDER BY position DESC LIMIT ?5"
)
# From the run on in which the cursor may stand.
_LAST_RUN = "coalesce((SELECT min(last) FROM audit_runs WHERE event = ?4 AND last >= ?1 - 1), ?1)"
READ_NEWEST_OF_EVENT = (
    "SELECT position, " + AUDIT_COLUMNS + ", last AS run FROM audit_runs JOIN audit_entries USING (event)"
    " WHERE event = ?4 AND last > ?3 AND last <= " + _LAST_RUN + " AND position BETWEEN max(first, ?3 + 1)"
    " AND min(last, ?1 - 1) AND created_at >= ?2 UNION ALL SELECT position, " + AUDIT_COLUMNS + ", position"
    " FROM audit_entries WHERE position > max(?3, " + _IN_PARTS + ") AND position < ?1 AND event = ?4"
    " AND created_at >= ?2 ORDER BY run DESC, position DESC LIMIT ?5"
)
NEWEST_BY = {
    By.TASK: READ_NEWEST_OF_TASK, By.CASE: READ_NEWEST_OF_CASE, By.EVENT: READ_NEWEST_OF_EVENT,
    By.POSITION: READ_NEWEST,
}  # fmt: skip
# From event to event by the index of their runs: but for those behind the parts, entries are not read.
READ_EVENTS = (
    "WITH RECURSIVE found (event) AS (SELECT min(event) FROM audit_runs UNION ALL"
    " SELECT (SELECT min(event) FROM audit_runs WHERE event > found.event) FROM found WHERE found.event IS NOT NULL)"
    " SELECT event FROM found WHERE event IS NOT NULL"
    " UNION SELECT event FROM audit_entries WHERE position > " + _IN_PARTS + " ORDER BY event"
)
_FITTING = " WHERE seq < ?1 AND seq >= ?2 AND (?3 IS NULL OR state = ?3) AND (?4 IS NULL OR principal = ?4)"
READ_BRIEFS = "SELECT " + BRIEF_COLUMNS + " FROM tasks" + _FITTING + " ORDER BY seq DESC LIMIT ?5"
READ_BRIEFS_OF_CASE = (
    _OF_CASE + "?6" + _AND_BEHIND + "?6" + _UNLISTED + "?6)"
    " SELECT " + BRIEF_COLUMNS + _TASKS_OF_CASE + _FITTING + " ORDER BY seq DESC LIMIT ?5"
)
READ_CHAIN = (
    "SELECT " + AUDIT_COLUMNS + " FROM audit_entries WHERE writer = CAST(? AS TEXT) AND seq > ? ORDER BY seq LIMIT ?"
)

# Told anew, a task gets a new position: whoever is about to relay the old one does not remove the new one.
ADD_OUTGOING = "INSERT OR REPLACE INTO outbox (stream, task_id) VALUES (?, ?)"
REMOVE_OUTGOING = "DELETE FROM outbox WHERE stream = ? AND task_id = ?"
REMOVE_RELAYED = "DELETE FROM outbox WHERE position = ?"
READ_OUTBOX = (
    "SELECT position, task_id, stream, task_type, reason FROM outbox JOIN tasks USING (task_id)"
    " WHERE stream = ? ORDER BY position LIMIT ?"
)
_READY_AFTER = (
    " FROM tasks WHERE state = 'queued' AND due_at IS NULL AND (priority, lane, seq) > (?, ?, ?)"
    " ORDER BY priority, lane, seq LIMIT "
)
RELAY_AGAIN = (
    "INSERT INTO outbox (stream, task_id) SELECT priority, task_id" + _READY_AFTER + "? ON CONFLICT DO NOTHING"
)
RELAYED_UP_TO = "SELECT priority, lane, seq" + _READY_AFTER + "1 OFFSET ? - 1"

PAGES = "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
READ_RECEIPT = "SELECT writer, seq, entry_hash FROM audit_entries WHERE task_id = ? AND event = 'accepted'"
ADD_WEBHOOK = "INSERT INTO webhooks (task_id, url) VALUES (?, ?)"
WEBHOOK_DUE = "UPDATE webhooks SET due_at = ? WHERE task_id = ?"
TRY_WEBHOOK = "UPDATE webhooks SET due_at = ?, attempts = attempts + 1 WHERE task_id = ? AND attempts = ?"
END_WEBHOOK = "DELETE FROM webhooks WHERE task_id = ?"
READ_WEBHOOKS = "SELECT task_id, url, attempts FROM webhooks WHERE due_at <= ? ORDER BY due_at LIMIT ?"

LAST_LINK = "SELECT seq, entry_hash FROM audit_entries WHERE writer = ? ORDER BY seq DESC LIMIT 1"
ANY_WEBHOOK = "SELECT EXISTS (SELECT 1 FROM webhooks)"
LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM tasks"
# Those of tasks that were removed count: one within a run that were given again would be looked for in that alone.
LAST_GIVEN = (
    "SELECT max(coalesce((SELECT max(seq) FROM tasks), 0), coalesce((SELECT max(up_to) FROM idempotency_runs), 0))"
)
COUNT_READY = "SELECT priority, count(*) FROM tasks WHERE state = 'queued' AND due_at IS NULL GROUP BY priority"
COUNT_OPEN = "SELECT priority, count(*) FROM tasks WHERE " + _OPEN + " GROUP BY priority"

READ_STATE = "SELECT " + TASK_COLUMNS + " FROM tasks WHERE state = ? AND seq > ? ORDER BY seq LIMIT ?"
READ_DEAD = "SELECT " + TASK_COLUMNS + " FROM tasks WHERE state = 'dead' AND seq > ? ORDER BY seq LIMIT ?"
READ_STATE_OF = (
    "SELECT " + TASK_COLUMNS + " FROM tasks WHERE state = ? AND principal = ? AND seq > ? ORDER BY seq LIMIT ?"
)
READ_DEAD_OF = (
    "SELECT " + TASK_COLUMNS + " FROM tasks WHERE state = 'dead' AND principal = ? AND seq > ? ORDER BY seq LIMIT ?"
)
# From lane to lane by the index: what waits in one is not read.
READ_LANES = (
    "WITH RECURSIVE found (lane) AS (SELECT '' UNION ALL"
    " SELECT (SELECT min(lane) FROM tasks WHERE state = 'queued' AND due_at IS NULL AND priority = ?"
    " AND lane > found.lane) FROM found WHERE lane IS NOT NULL) SELECT lane FROM found WHERE lane <> ''"
)
READ_READY = (
    "SELECT task_id, priority, lane, seq, updated_at FROM tasks"
    " WHERE state = 'queued' AND due_at IS NULL AND priority = ? AND lane = ? AND seq > ? ORDER BY seq LIMIT ?"
)
_NAMED = " WHERE task_id IN (SELECT value FROM json_each(?))"
READ_TICKETS = (
    "SELECT task_id, priority, lane, seq, updated_at FROM tasks" + _NAMED + " AND state = 'queued' AND due_at IS NULL"
)
READ_RECORDS = "SELECT " + TASK_COLUMNS + " FROM tasks" + _NAMED
READ_DUE = (
    "SELECT " + TASK_COLUMNS + " FROM tasks WHERE due_at IS NOT NULL AND due_at <= ? ORDER BY due_at, seq LIMIT ?"
)
NEXT_DUE = "SELECT min(due_at) FROM tasks WHERE due_at IS NOT NULL"
READ_LAPSED = (
    "SELECT " + TASK_COLUMNS + " FROM tasks WHERE state = 'leased' AND lease_until <= ?"
    " ORDER BY lease_until, seq LIMIT ?"
)
READ_LEASED = (
    "SELECT " + TASK_COLUMNS + " FROM tasks WHERE state = 'leased' AND substr(owner, 1, ?) = ?"
    " ORDER BY lease_until, seq LIMIT ?"
)
READ_OVERDUE = (
    "SELECT " + TASK_COLUMNS + " FROM tasks WHERE " + _OPEN + " AND deadline_at <= ?"
    " AND state <> 'leased' ORDER BY deadline_at, seq LIMIT ?"
)

# What retention asks of a task that has ended; see domain/retention.py. What is gone stands as in rows.py.
_WITH_PAYLOAD = "payload NOT IN (x'', x'2d')"
READ_ENDED = (
    "SELECT task_id, seq, updated_at, " + _WITH_PAYLOAD + ","
    " EXISTS (SELECT 1 FROM results WHERE results.seq = tasks.seq),"
    " state = 'dead' AND " + _WITH_PAYLOAD + " AND NOT EXISTS"
    " (SELECT 1 FROM tasks AS again WHERE again.replay_of = tasks.task_id),"
    " EXISTS (SELECT 1 FROM webhooks WHERE webhooks.task_id = tasks.task_id),"
    " EXISTS (SELECT 1 FROM idempotency_keys AS live WHERE live.seq = tasks.seq"
    " AND (live.expires_at IS NULL OR live.expires_at > ?)), length(payload) + length(meta)"
    " + coalesce((SELECT length(output) FROM results WHERE results.seq = tasks.seq), 0)"
    " FROM tasks WHERE " + _ENDED + " AND updated_at < ? AND (updated_at, seq) > (?, ?)"
    " ORDER BY updated_at, seq LIMIT ?"
)
REMOVE_RESULT = "DELETE FROM results WHERE seq = (SELECT seq FROM tasks WHERE task_id = ?)"
EMPTY_TASK = (
    "UPDATE tasks SET payload = x'2d', meta = x'2d', data_key = CASE WHEN EXISTS"
    " (SELECT 1 FROM results WHERE results.seq = tasks.seq) THEN data_key END"
    " WHERE task_id = ? AND " + _WITH_PAYLOAD + " AND " + _ENDED
)
FORGET_DATA_KEY = "UPDATE tasks SET data_key = NULL WHERE task_id = ? AND NOT " + _WITH_PAYLOAD
# The key under which a dead letter was replayed stands for the task that came of it, and is the only one of that.
REMOVE_REPLAY = "DELETE FROM idempotency_keys WHERE seq IN (SELECT seq FROM tasks WHERE replay_of = ?)"
REMOVE_KEY = "DELETE FROM idempotency_keys WHERE seq = (SELECT seq FROM tasks WHERE task_id = ?)"
REMOVE_TOLD = "DELETE FROM outbox WHERE task_id = ?"
REMOVE_TASK = "DELETE FROM tasks WHERE task_id = ? AND " + _ENDED

AT_ONCE = {
    ADD_OUTGOING: [(rows, ADD_OUTGOING + ", (?, ?)" * (rows - 1)) for rows in ROWS],
    ADD_KEY: [(rows, ADD_KEY + (", " + _KEY) * (rows - 1)) for rows in ROWS],
    ADD_TASK: [(rows, ADD_TASK + (", " + _NEW_TASK) * (rows - 1)) for rows in ROWS],
    MOVE_TASK: [(rows, _MOVE_TASKS + (", " + _MOVE) * (rows - 1) + _MOVED) for rows in ROWS],
    ADD_RESULT: [(rows, ADD_RESULT + (", " + _RESULT) * (rows - 1)) for rows in ROWS],
    ADD_ACCEPTED: [(rows, ADD_ACCEPTED + (", " + _ACCEPTED) * (rows - 1)) for rows in ROWS],
    ADD_AUDIT: [(rows, ADD_AUDIT + (", " + _ENTRY) * (rows - 1)) for rows in ROWS],
}
"""For a statement about one row: the same about many, as often as it fits, the most first."""
