-- For each row that is written, each of these indexes is asked whether it has it. A condition with IN and more than two states had a
-- table of these states made for that, each time. The same conditions, state by state, compare texts. Rows that are in them stay so.
DROP INDEX tasks_open;
DROP INDEX tasks_consent;
DROP INDEX tasks_ended;
CREATE INDEX tasks_open ON tasks (deadline_at, priority, state)
WHERE state = 'queued' OR state = 'leased' OR state = 'retry_wait';
CREATE INDEX tasks_consent ON tasks (consent_id)
WHERE consent_id IS NOT NULL AND (state = 'queued' OR state = 'leased' OR state = 'retry_wait');
CREATE INDEX tasks_ended ON tasks (updated_at, seq)
WHERE state = 'succeeded' OR state = 'dead' OR state = 'cancelled' OR state = 'expired' OR state = 'denied';
