-- Entries of the audit may be removed, but only up to where the newest entry of all says so, which then is an anchor: it is
-- written in the same transaction, and testifies to the removal. The newest entry of each chain stays.
CREATE FUNCTION audit_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM gone WHERE NOT EXISTS (
            SELECT FROM (SELECT event, detail FROM audit_entries ORDER BY position DESC LIMIT 1) AS newest
            CROSS JOIN LATERAL jsonb_to_recordset(
                CASE newest.event WHEN 'anchor' THEN newest.detail::jsonb -> 'begins' ELSE '[]' END
            ) AS begin (writer text, seq bigint, entry_hash text)
            JOIN audit_entries AS next
            ON next.writer = begin.writer AND next.seq = begin.seq + 1 AND next.prev_hash = begin.entry_hash
            WHERE begin.writer = gone.writer AND begin.seq >= gone.seq
        )
    ) THEN
        RAISE EXCEPTION 'audit_entries only grows, but behind an anchor' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER audit_entries_stay ON audit_entries;
CREATE TRIGGER audit_entries_stay BEFORE UPDATE OR TRUNCATE ON audit_entries
FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_entries_go_behind_an_anchor AFTER DELETE ON audit_entries
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION audit_removal();
