-- Keys stand at random in their index, so that each new one brings a page of it into the log. The less there is to a key there,
-- the fewer pages: a digest of 16 bytes, which has its scope in it, and the number of the task, by which its row is found
-- with no index of its own. What stands in the older table is moved at the next opening, which knows the digests.
DROP INDEX idempotency_keys_expiry;
DROP INDEX idempotency_keys_task;
ALTER TABLE idempotency_keys RENAME TO older_keys;

CREATE TABLE idempotency_keys (
    seq         INTEGER PRIMARY KEY,
    digest      BLOB NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    expires_at  REAL
) STRICT;

CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at) WHERE expires_at IS NOT NULL;
