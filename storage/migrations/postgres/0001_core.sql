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

-- What a batch is handed: rows of these types. They are not those of the tables, so that a table may be given a column
-- while replicas of the version before still write.
CREATE TYPE new_key AS (scope text, key text, fingerprint text, task_id text, expires_at double precision);
CREATE TYPE new_task AS (
    seq bigint, task_id text, case_id text, task_type text, priority text, lane text, payload bytea, meta bytea,
    consent bytea, raw_media integer, idempotency_key text, replay_of text, created_at double precision,
    deadline_at double precision, state text, attempt bigint, failures bigint, lost bigint, due_at double precision,
    agent_id text, owner text, lease_until double precision, tried bytea, reason text, updated_at double precision,
    principal text, consent_id text, traceparent text, data_key bytea
);
CREATE TYPE moved_task AS (
    state text, attempt bigint, failures bigint, lost bigint, due_at double precision, agent_id text, owner text,
    lease_until double precision, tried bytea, reason text, updated_at double precision,
    task_id text, was_state text, was_attempt bigint, was_due_at double precision
);
CREATE TYPE new_result AS (
    task_id text, attempt bigint, agent_id text, output bytea, model_version text, finished_at double precision
);
CREATE TYPE new_entry AS (
    writer text, seq bigint, audit_id text, event text, created_at text, task_id text, case_id text,
    router_decision text, agent_id text, model_version text, consent_id text, status text, attempt bigint, reason text,
    detail text, principal text, prev_hash text, entry_hash text
);
CREATE TYPE new_webhook AS (task_id text, url text);
CREATE TYPE ended_task AS (at double precision, task_id text);
CREATE TYPE tried_webhook AS (next double precision, task_id text, attempts bigint);
CREATE TYPE named_json AS (name text, content bytea);
CREATE TYPE told_sighting AS (seen_at double precision, load double precision, draining boolean, agent_id text);
CREATE TYPE stream_place AS (stream text, task_id text);

CREATE FUNCTION expect(as_expected boolean) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN IF NOT as_expected THEN RAISE EXCEPTION 'unexpected' USING ERRCODE = 'OR001'; END IF; END $$;

-- A whole batch in one call, all of it or nothing: OR001 where a command would not simply succeed. `before` is the book
-- as its writer knows it. It is locked first; where it says something else by now nothing is written, and it is given
-- back as `actual`. `number` is the session's count of batches, NULL for a session that is not known.
CREATE FUNCTION apply_batch(
    of_session uuid, ahead double precision, before bigint[], after bigint[], of_writer text, head_seq bigint,
    head_hash text, consents text[], expired double precision, new_keys new_key[], new_tasks new_task[],
    moves moved_task[], new_results new_result[], new_webhooks new_webhook[], endings ended_task[],
    tries tried_webhook[], told_off text[], saved_agents named_json[], gone_agents text[], sightings told_sighting[],
    saved_api_keys named_json[], gone_api_keys text[], relayed bigint[], untold stream_place[], told stream_place[],
    new_entries new_entry[], OUT number bigint, OUT actual bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    changed bigint;
BEGIN
    UPDATE sessions SET batch = batch + 1, touched_at = now() WHERE session = of_session RETURNING batch INTO number;
    SELECT ARRAY[
        last_seq, ready_urgent, ready_high, ready_normal, ready_low, open_urgent, open_high, open_normal, open_low
    ] INTO actual FROM book FOR UPDATE;
    IF number IS NULL OR actual <> before THEN
        RETURN;
    END IF;
    IF cardinality(consents) > 0 THEN
        PERFORM expect(NOT EXISTS (SELECT FROM revoked_consents WHERE consent_id = ANY (consents)));
    END IF;
    IF expired IS NOT NULL THEN
        DELETE FROM idempotency_keys WHERE expires_at <= expired + ahead;
    END IF;
    IF cardinality(new_keys) > 0 THEN
        INSERT INTO idempotency_keys (scope, key, fingerprint, task_id, expires_at)
        SELECT scope, key, fingerprint, task_id, expires_at + ahead FROM unnest(new_keys) ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS changed = ROW_COUNT;
        PERFORM expect(changed = cardinality(new_keys));
    END IF;
    IF cardinality(new_tasks) > 0 THEN
        INSERT INTO tasks (
            seq, task_id, case_id, task_type, priority, lane, payload, meta, consent, raw_media, idempotency_key,
            replay_of, created_at, deadline_at, state, attempt, failures, lost, due_at, agent_id, owner, lease_until,
            tried, reason, updated_at, principal, consent_id, traceparent, data_key
        )
        SELECT
            seq, task_id, case_id, task_type, priority, lane, payload, meta, consent, raw_media, idempotency_key,
            replay_of, created_at, deadline_at + ahead, state, attempt, failures, lost, due_at + ahead, agent_id, owner,
            lease_until + ahead, tried, reason, updated_at, principal, consent_id, traceparent, data_key
        FROM unnest(new_tasks);
    END IF;
    IF cardinality(moves) > 0 THEN
        -- Coming due leaves state and attempt as they are: `due_at` tells the task before from the task after. Only
        -- whether there is a time: in one attempt a task is given no two, and each replica sees it by a clock of its own.
        UPDATE tasks SET
            state = new.state, attempt = new.attempt, failures = new.failures, lost = new.lost,
            due_at = new.due_at + ahead, agent_id = new.agent_id, owner = new.owner,
            lease_until = new.lease_until + ahead, tried = new.tried, reason = new.reason, updated_at = new.updated_at
        FROM unnest(moves) AS new
        WHERE tasks.task_id = new.task_id AND tasks.state = new.was_state AND tasks.attempt = new.was_attempt
            AND (tasks.due_at IS NULL) = (new.was_due_at IS NULL);
        GET DIAGNOSTICS changed = ROW_COUNT;
        PERFORM expect(changed = cardinality(moves));
    END IF;
    IF cardinality(new_results) > 0 THEN
        INSERT INTO results (task_id, attempt, agent_id, output, model_version, finished_at)
        SELECT task_id, attempt, agent_id, output, model_version, finished_at FROM unnest(new_results);
    END IF;
    IF cardinality(new_webhooks) > 0 THEN
        INSERT INTO webhooks (task_id, url) SELECT task_id, url FROM unnest(new_webhooks);
    END IF;
    IF cardinality(tries) > 0 THEN
        UPDATE webhooks SET due_at = tried.next + ahead, attempts = webhooks.attempts + 1 FROM unnest(tries) AS tried
        WHERE webhooks.task_id = tried.task_id AND webhooks.attempts = tried.attempts;
        GET DIAGNOSTICS changed = ROW_COUNT;
        PERFORM expect(changed = cardinality(tries));
    END IF;
    IF cardinality(told_off) > 0 THEN
        DELETE FROM webhooks WHERE task_id = ANY (told_off);
        GET DIAGNOSTICS changed = ROW_COUNT;
        PERFORM expect(changed = cardinality(told_off));
    END IF;
    IF cardinality(endings) > 0 THEN
        UPDATE webhooks SET due_at = ended.at + ahead FROM unnest(endings) AS ended
        WHERE webhooks.task_id = ended.task_id;
    END IF;
    IF cardinality(saved_agents) > 0 THEN
        INSERT INTO agents (agent_id, agent) SELECT name, content FROM unnest(saved_agents)
        ON CONFLICT (agent_id) DO UPDATE SET agent = excluded.agent;
    END IF;
    IF cardinality(gone_agents) > 0 THEN
        DELETE FROM agents WHERE agent_id = ANY (gone_agents);
    END IF;
    IF cardinality(sightings) > 0 THEN
        UPDATE agents SET
            seen_at = greatest(coalesce(agents.seen_at, 0.0), seen.seen_at + ahead),
            load = coalesce(seen.load, agents.load), draining = coalesce(seen.draining, agents.draining)
        FROM unnest(sightings) AS seen WHERE agents.agent_id = seen.agent_id;
    END IF;
    IF cardinality(saved_api_keys) > 0 THEN
        INSERT INTO api_keys (key_id, api_key) SELECT name, content FROM unnest(saved_api_keys)
        ON CONFLICT (key_id) DO UPDATE SET api_key = excluded.api_key;
    END IF;
    IF cardinality(gone_api_keys) > 0 THEN
        DELETE FROM api_keys WHERE key_id = ANY (gone_api_keys);
    END IF;
    IF cardinality(relayed) > 0 THEN
        DELETE FROM outbox WHERE position = ANY (relayed);
    END IF;
    IF cardinality(untold) > 0 THEN
        DELETE FROM outbox USING unnest(untold) AS done
        WHERE outbox.stream = done.stream AND outbox.task_id = done.task_id;
    END IF;
    IF cardinality(told) > 0 THEN
        -- Told anew, a task gets a new position: whoever is about to relay the old one does not remove the new one.
        INSERT INTO outbox (stream, task_id, writer) SELECT stream, task_id, of_writer FROM unnest(told)
        ON CONFLICT (task_id, stream) DO UPDATE
        SET position = excluded.position, writer = excluded.writer, added_at = excluded.added_at;
    END IF;
    IF cardinality(new_entries) > 0 THEN
        INSERT INTO audit_entries (
            position, writer, seq, audit_id, event, created_at, task_id, case_id, router_decision, agent_id,
            model_version, consent_id, status, attempt, reason, detail, principal, prev_hash, entry_hash
        )
        SELECT
            (SELECT coalesce(max(position), 0) FROM audit_entries) + place, writer, seq, audit_id, event, created_at,
            task_id, case_id, router_decision, agent_id, model_version, consent_id, status, attempt, reason, detail,
            principal, prev_hash, entry_hash
        FROM unnest(new_entries) WITH ORDINALITY AS new (
            writer, seq, audit_id, event, created_at, task_id, case_id, router_decision, agent_id, model_version,
            consent_id, status, attempt, reason, detail, principal, prev_hash, entry_hash, place
        );
        INSERT INTO audit_heads (writer, seq, entry_hash) VALUES (of_writer, head_seq, head_hash)
        ON CONFLICT (writer) DO UPDATE SET seq = excluded.seq, entry_hash = excluded.entry_hash;
    END IF;
    IF after <> before THEN
        UPDATE book SET (
            last_seq, ready_urgent, ready_high, ready_normal, ready_low, open_urgent, open_high, open_normal, open_low
        ) = (after[1], after[2], after[3], after[4], after[5], after[6], after[7], after[8], after[9]);
    END IF;
END $$;
