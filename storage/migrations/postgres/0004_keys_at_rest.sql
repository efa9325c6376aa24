-- Idempotency keys, and what they stand for, are digests from here on (storage/disguise.py). The rows that there are become so
-- when the secret is made, at the first opening; a row of it says that they are.
CREATE TABLE secrets (
    name     text COLLATE "C" PRIMARY KEY,
    data_key bytea,
    secret   bytea NOT NULL
);

-- Nobody reads a task's key. A replica of the version before can write no task any more: its keys would stand in the clear.
ALTER TABLE tasks DROP COLUMN idempotency_key;
ALTER TYPE new_task DROP ATTRIBUTE idempotency_key;

CREATE OR REPLACE FUNCTION apply_batch(
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
            seq, task_id, case_id, task_type, priority, lane, payload, meta, consent, raw_media, replay_of,
            created_at, deadline_at, state, attempt, failures, lost, due_at, agent_id, owner, lease_until,
            tried, reason, updated_at, principal, consent_id, traceparent, data_key
        )
        SELECT
            seq, task_id, case_id, task_type, priority, lane, payload, meta, consent, raw_media, replay_of,
            created_at, deadline_at + ahead, state, attempt, failures, lost, due_at + ahead, agent_id, owner,
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
