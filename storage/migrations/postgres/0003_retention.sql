-- What has ended, in that order: where retention looks for what is due to be removed.
CREATE INDEX tasks_ended ON tasks (updated_at, seq)
WHERE state IN ('succeeded', 'dead', 'cancelled', 'expired', 'denied');
-- And whether the task is still needed: by a key that a client may send again, or as a dead letter.
CREATE INDEX idempotency_keys_task ON idempotency_keys (task_id);
CREATE INDEX tasks_replays ON tasks (replay_of) WHERE replay_of IS NOT NULL;
