-- A million keys in one index are ten thousand pages, of which few new ones share any. So those of a time are a run, which is written
-- once, in its order, and goes as a whole when none of its keys stands any more. The keys that there are go into runs at the
-- next opening: see storage/sqlite/keys.py.
DROP TRIGGER idempotency_keys_leave;
DROP TABLE idempotency_index;
DROP TABLE idempotency_indexed;

-- Of the keys of tasks behind those of the run before, up to a number; the filter says which are hardly in it.
CREATE TABLE idempotency_runs (
    run    INTEGER PRIMARY KEY,
    up_to  INTEGER NOT NULL,
    filter BLOB NOT NULL
) STRICT;

-- The keys of a run in 128 pages, by the beginning of their digests. That of a run that is not whole yet may be here as well.
CREATE TABLE idempotency_index (
    place INTEGER PRIMARY KEY,
    keys  BLOB NOT NULL
) STRICT;
