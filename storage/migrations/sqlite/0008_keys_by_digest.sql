-- Keys stand at random in an index. The less there is to each, the fewer pages: a digest of 16 bytes, which has its scope in it, and
-- the number of the task, by which the row is found. What stands in the older table is moved at the next opening, which knows
-- the digests.
DROP INDEX idempotency_keys_expiry;
DROP INDEX idempotency_keys_task;
ALTER TABLE idempotency_keys RENAME TO older_keys;

CREATE TABLE idempotency_keys (
    seq         INTEGER PRIMARY KEY,
    digest      BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    expires_at  REAL
) STRICT;
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at) WHERE expires_at IS NOT NULL;

-- Filled behind the table, up to a number: see storage/sqlite/keys.py.
CREATE TABLE idempotency_index (
    digest BLOB PRIMARY KEY,
    seq    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE idempotency_indexed (up_to INTEGER NOT NULL) STRICT;
INSERT INTO idempotency_indexed (up_to) VALUES (0);
CREATE TRIGGER idempotency_keys_leave AFTER DELETE ON idempotency_keys
BEGIN DELETE FROM idempotency_index WHERE digest = OLD.digest AND seq = OLD.seq; END;
