-- Entries of the audit may be removed, but only up to where the newest entry of all says so, which then is an anchor: it is
-- written in the same transaction, and testifies to the removal. The newest entry of each chain stays. Members are looked
-- for row by row, since a schema that is not trusted may not call json_extract.
DROP TRIGGER audit_entries_stay;
CREATE TRIGGER audit_entries_stay BEFORE DELETE ON audit_entries
WHEN NOT EXISTS (
    SELECT 1 FROM audit_entries AS newest, json_each(newest.detail, '$.begins') AS begin,
    json_each(begin.value) AS writer, json_each(begin.value) AS up_to, json_each(begin.value) AS hash
    WHERE newest.position = (SELECT max(position) FROM audit_entries) AND newest.event = 'anchor'
    AND writer.key = 'writer' AND writer.value = OLD.writer
    AND up_to.key = 'seq' AND up_to.value >= OLD.seq AND hash.key = 'entry_hash'
    AND EXISTS (SELECT 1 FROM audit_entries AS next WHERE next.writer = OLD.writer AND next.seq = up_to.value + 1
        AND next.prev_hash = hash.value)
)
BEGIN SELECT RAISE(ABORT, 'audit entries are never deleted, but behind an anchor'); END;

-- Tasks of a case are found by the entries of their acceptance. Those whose entry was removed are marked, and found by this.
ALTER TABLE tasks ADD COLUMN unlisted INTEGER NOT NULL DEFAULT 0;
CREATE INDEX tasks_unlisted ON tasks (case_id, seq) WHERE unlisted = 1;
