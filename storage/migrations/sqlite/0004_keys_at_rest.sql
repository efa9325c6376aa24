-- Idempotency keys, and what they stand for, are digests from here on (storage/disguise.py). The rows that there are become so
-- when the secret is made, at the first opening; a row of it says that they are.
CREATE TABLE secrets (
    name     TEXT PRIMARY KEY,
    data_key BLOB,
    secret   BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Nobody reads a task's key.
ALTER TABLE tasks DROP COLUMN idempotency_key;
