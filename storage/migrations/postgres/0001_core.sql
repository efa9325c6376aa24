-- The ledger, shared by replicas. Times are seconds since the epoch: `due_at`, `lease_until`, `deadline_at` and a key's
-- `expires_at` by the database's clock, the others by the clock of who wrote them. The audit's are RFC 3339 text and
-- hashed as such. JSON is bytea, byte for byte as it was encoded. Text sorts by code point, whatever the server's locale.

CREATE TABLE tasks (
    seq             bigint PRIMARY KEY,
    task_id         text COLLATE "C" NOT NULL UNIQUE,
    case_id         text COLLATE "C" NOT NULL,
    task_type       text COLLATE "C" NOT NULL,
    priority        text COLLATE "C" NOT NULL,
    lane            text COLLATE "C" NOT NULL,
    payload         bytea NOT NULL,
    meta            bytea NOT NULL,
    consent         bytea NOT NULL,
    raw_media       integer NOT NULL,
    idempotency_key text COLLATE "C",
    replay_of       text COLLATE "C",
    created_at      double precision NOT NULL,
    deadline_at     double precision NOT NULL,
    state           text COLLATE "C" NOT NULL,
    attempt         bigint NOT NULL,
    failures        bigint NOT NULL,
    lost            bigint NOT NULL,
    due_at          double precision,
    agent_id        text COLLATE "C",
    owner           text COLLATE "C",
    lease_until     double precision,
    tried           bytea NOT NULL,
    reason          text COLLATE "C",
    updated_at      double precision NOT NULL,
    principal       text COLLATE "C" NOT NULL,
    consent_id      text COLLATE "C",
    traceparent     text COLLATE "C",
    data_key        bytea
);

CREATE INDEX tasks_ready ON tasks (priority, lane, seq) WHERE state = 'queued' AND due_at IS NULL;
CREATE INDEX tasks_due ON tasks (due_at, seq) WHERE due_at IS NOT NULL;
CREATE INDEX tasks_leased ON tasks (lease_until, seq) WHERE state = 'leased';
CREATE INDEX tasks_open ON tasks (deadline_at, seq, priority) WHERE state IN ('queued', 'leased', 'retry_wait');
CREATE INDEX tasks_dead ON tasks (seq) WHERE state = 'dead';
CREATE INDEX tasks_dead_of ON tasks (principal, seq) WHERE state = 'dead';
CREATE INDEX tasks_consent ON tasks (consent_id)
WHERE consent_id IS NOT NULL AND state IN ('queued', 'leased', 'retry_wait');
CREATE INDEX tasks_case ON tasks USING hash (case_id);

-- What is revoked stays so: a trigger below says it.
CREATE TABLE revoked_consents (
    consent_id text COLLATE "C" PRIMARY KEY,
    revoked_at double precision NOT NULL
);

CREATE TABLE results (
    task_id       text COLLATE "C" PRIMARY KEY REFERENCES tasks (task_id),
    attempt       bigint NOT NULL,
    agent_id      text COLLATE "C" NOT NULL,
    output        bytea NOT NULL,
    model_version text COLLATE "C",
    finished_at   double precision NOT NULL
);

CREATE TABLE idempotency_keys (
    scope       text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    task_id     text COLLATE "C" NOT NULL,
    expires_at  double precision,
    PRIMARY KEY (scope, key)
);

CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at) WHERE expires_at IS NOT NULL;

-- `position` is given under the lock of `book`, so that it has no gaps and grows in the order of the commits: a page's
-- cursor passes over nothing. An identity column would be given before the commit, and its order would not be the same.
CREATE TABLE audit_entries (
    position        bigint PRIMARY KEY,
    writer          text COLLATE "C" NOT NULL,
    seq             bigint NOT NULL,
    audit_id        text COLLATE "C" NOT NULL,
    event           text COLLATE "C" NOT NULL,
    created_at      text COLLATE "C" NOT NULL,
    task_id         text COLLATE "C",
    case_id         text COLLATE "C",
    router_decision text COLLATE "C",
    agent_id        text COLLATE "C",
    model_version   text COLLATE "C",
    consent_id      text COLLATE "C",
    status          text COLLATE "C",
    attempt         bigint,
    reason          text COLLATE "C",
    detail          text COLLATE "C",
    principal       text COLLATE "C",
    prev_hash       text COLLATE "C" NOT NULL,
    entry_hash      text COLLATE "C" NOT NULL
);

CREATE UNIQUE INDEX audit_entries_chain ON audit_entries (writer, seq);
CREATE INDEX audit_entries_task ON audit_entries USING hash (task_id);
CREATE INDEX audit_entries_case ON audit_entries USING hash (case_id);
CREATE INDEX audit_entries_time ON audit_entries (created_at);

CREATE TABLE audit_heads (
    writer     text COLLATE "C" PRIMARY KEY,
    seq        bigint NOT NULL,
    entry_hash text COLLATE "C" NOT NULL
);

-- The trail only grows, whoever asks: the owner of the tables is held to it as well, as long as the triggers are there.
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% only grows', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege'; END $$;
CREATE TRIGGER audit_entries_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER revoked_consents_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON revoked_consents
FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_heads_stay BEFORE DELETE OR TRUNCATE ON audit_heads
FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_heads_go_forward BEFORE UPDATE ON audit_heads FOR EACH ROW
WHEN (NEW.writer <> OLD.writer OR NEW.seq <= OLD.seq) EXECUTE FUNCTION audit_refuse();

-- `seen_at`, `load` and `draining` are what replicas tell each other of an agent.
CREATE TABLE agents (
    agent_id text COLLATE "C" PRIMARY KEY,
    agent    bytea NOT NULL,
    seen_at  double precision,
    load     double precision,
    draining boolean
);

-- Of a key's secret there is only a hash in the JSON.
CREATE TABLE api_keys (
    key_id  text COLLATE "C" PRIMARY KEY,
    api_key bytea NOT NULL
);

-- What a stream is still to be told. `writer` is the replica that wrote it and whose relay it is for.
CREATE TABLE outbox (
    position bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    stream   text COLLATE "C" NOT NULL,
    task_id  text COLLATE "C" NOT NULL,
    writer   text COLLATE "C" NOT NULL,
    added_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE UNIQUE INDEX outbox_task ON outbox (task_id, stream);
CREATE INDEX outbox_stream ON outbox (stream, position);

-- Who is to be told that a task has ended: due when it has, and again after each attempt until it is told.
CREATE TABLE webhooks (
    task_id  text COLLATE "C" PRIMARY KEY REFERENCES tasks (task_id),
    url      text NOT NULL,
    attempts bigint NOT NULL DEFAULT 0,
    due_at   double precision
);

CREATE INDEX webhooks_due ON webhooks (due_at) WHERE due_at IS NOT NULL;

-- One row. Who writes a batch locks it first: it orders the batches of all replicas, and holds what they share.
CREATE TABLE book (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    last_seq     bigint NOT NULL DEFAULT 0,
    ready_urgent bigint NOT NULL DEFAULT 0,
    ready_high   bigint NOT NULL DEFAULT 0,
    ready_normal bigint NOT NULL DEFAULT 0,
    ready_low    bigint NOT NULL DEFAULT 0,
    open_urgent  bigint NOT NULL DEFAULT 0,
    open_high    bigint NOT NULL DEFAULT 0,
    open_normal  bigint NOT NULL DEFAULT 0,
    open_low     bigint NOT NULL DEFAULT 0
);

INSERT INTO book DEFAULT VALUES;

-- One row for each connection that writes. Each batch counts it up: that is how a writer whose COMMIT was not answered
-- finds out on another connection whether the batch is there.
CREATE TABLE sessions (
    session    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    writer     text COLLATE "C" NOT NULL,
    batch      bigint NOT NULL DEFAULT 0,
    touched_at timestamptz NOT NULL DEFAULT now()
);
