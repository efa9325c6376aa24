-- The ledger. Times are REAL seconds since the epoch, but for the audit's, which are RFC 3339 text and hashed as such.

CREATE TABLE tasks (
    seq             INTEGER PRIMARY KEY,
    task_id         TEXT NOT NULL UNIQUE,
    case_id         TEXT NOT NULL,
    task_type       TEXT NOT NULL,
    priority        TEXT NOT NULL,
    lane            TEXT NOT NULL,
    payload         BLOB NOT NULL,
    meta            BLOB NOT NULL,
    consent         BLOB NOT NULL,
    raw_media       INTEGER NOT NULL,
    idempotency_key TEXT,
    replay_of       TEXT,
    created_at      REAL NOT NULL,
    deadline_at     REAL NOT NULL,
    state           TEXT NOT NULL,
    attempt         INTEGER NOT NULL,
    failures        INTEGER NOT NULL,
    lost            INTEGER NOT NULL,
    due_at          REAL,
    agent_id        TEXT,
    owner           TEXT,
    lease_until     REAL,
    tried           BLOB NOT NULL,
    reason          TEXT,
    updated_at      REAL NOT NULL,
    principal       TEXT NOT NULL,
    consent_id      TEXT,
    traceparent     TEXT,
    data_key        BLOB
) STRICT;

-- State and due_at stand after the payload in a row. With them in the index, counting and looking for lanes reads no row.
CREATE INDEX tasks_ready ON tasks (priority, lane, seq, state, due_at) WHERE state = 'queued' AND due_at IS NULL;
CREATE INDEX tasks_due ON tasks (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX tasks_leased ON tasks (lease_until) WHERE state = 'leased';
CREATE INDEX tasks_open ON tasks (deadline_at, priority, state) WHERE state IN ('queued', 'leased', 'retry_wait');
CREATE INDEX tasks_dead ON tasks (seq) WHERE state = 'dead';
CREATE INDEX tasks_dead_of ON tasks (principal, seq) WHERE state = 'dead';
CREATE INDEX tasks_consent ON tasks (consent_id)
WHERE consent_id IS NOT NULL AND state IN ('queued', 'leased', 'retry_wait');
CREATE INDEX tasks_case ON tasks (case_id);

-- What is revoked stays so.
CREATE TABLE revoked_consents (
    consent_id TEXT PRIMARY KEY,
    revoked_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER revoked_consents_stay BEFORE DELETE ON revoked_consents
BEGIN SELECT RAISE(ABORT, 'a consent that was revoked stays so'); END;
CREATE TRIGGER revoked_consents_are_final BEFORE UPDATE ON revoked_consents
BEGIN SELECT RAISE(ABORT, 'a consent that was revoked stays so'); END;

CREATE TABLE results (
    task_id       TEXT PRIMARY KEY REFERENCES tasks (task_id),
    attempt       INTEGER NOT NULL,
    agent_id      TEXT NOT NULL,
    output        BLOB NOT NULL,
    model_version TEXT,
    finished_at   REAL NOT NULL
) STRICT;

CREATE TABLE idempotency_keys (
    scope       TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    task_id     TEXT NOT NULL,
    expires_at  REAL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE audit_entries (
    position        INTEGER PRIMARY KEY,
    writer          TEXT NOT NULL,
    seq             INTEGER NOT NULL,
    audit_id        TEXT NOT NULL,
    event           TEXT NOT NULL,
    created_at      TEXT NOT NULL,
    task_id         TEXT,
    case_id         TEXT,
    router_decision TEXT,
    agent_id        TEXT,
    model_version   TEXT,
    consent_id      TEXT,
    status          TEXT,
    attempt         INTEGER,
    reason          TEXT,
    detail          TEXT,
    principal       TEXT,
    prev_hash       TEXT NOT NULL,
    entry_hash      TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX audit_entries_chain ON audit_entries (writer, seq);
CREATE INDEX audit_entries_task ON audit_entries (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX audit_entries_case ON audit_entries (case_id) WHERE case_id IS NOT NULL;
CREATE INDEX audit_entries_time ON audit_entries (created_at);

CREATE TABLE audit_heads (
    writer     TEXT PRIMARY KEY,
    seq        INTEGER NOT NULL,
    entry_hash TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The trail only grows. A REPLACE deletes without asking the trigger on DELETE, so what stands may not be inserted either.
CREATE TRIGGER audit_entries_stay BEFORE DELETE ON audit_entries
BEGIN SELECT RAISE(ABORT, 'audit entries are never deleted'); END;
CREATE TRIGGER audit_entries_are_final BEFORE UPDATE ON audit_entries
BEGIN SELECT RAISE(ABORT, 'audit entries never change'); END;
CREATE TRIGGER audit_entries_are_not_replaced BEFORE INSERT ON audit_entries
WHEN EXISTS (SELECT 1 FROM audit_entries WHERE position = NEW.position OR (writer = NEW.writer AND seq = NEW.seq))
BEGIN SELECT RAISE(ABORT, 'audit entries never change'); END;
CREATE TRIGGER audit_heads_stay BEFORE DELETE ON audit_heads
BEGIN SELECT RAISE(ABORT, 'the heads of the audit are never deleted'); END;
CREATE TRIGGER audit_heads_go_forward BEFORE UPDATE ON audit_heads WHEN NEW.writer <> OLD.writer OR NEW.seq <= OLD.seq
BEGIN SELECT RAISE(ABORT, 'the heads of the audit only go forward'); END;

-- `seen_at`, `load` and `draining` are what replicas tell each other of an agent.
CREATE TABLE agents (
    agent_id TEXT PRIMARY KEY,
    agent    BLOB NOT NULL,
    seen_at  REAL,
    load     REAL,
    draining INTEGER
) STRICT, WITHOUT ROWID;

-- Of a key's secret there is only a hash in the JSON.
CREATE TABLE api_keys (
    key_id  TEXT PRIMARY KEY,
    api_key BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What a stream is still to be told. A position is never given twice: what is done with one must not touch another.
CREATE TABLE outbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    stream   TEXT NOT NULL,
    task_id  TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX outbox_task ON outbox (task_id, stream);
CREATE INDEX outbox_stream ON outbox (stream, position);

-- Who is to be told that a task has ended: due when it has, and again after each attempt until it is told.
CREATE TABLE webhooks (
    task_id  TEXT PRIMARY KEY REFERENCES tasks (task_id),
    url      TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at   REAL
) STRICT, WITHOUT ROWID;

CREATE INDEX webhooks_due ON webhooks (due_at) WHERE due_at IS NOT NULL;

-- Where a probe asks for room. It never holds a row for longer than a transaction.
CREATE TABLE room (asked BLOB NOT NULL) STRICT;
