"""The secret of the embedded ledger's idempotency keys: made at its first opening."""

import sqlite3

from orchestrator.storage import rows
from orchestrator.storage.commands import Key
from orchestrator.storage.disguise import PURPOSE, Disguise, Kept, Worn, settled
from orchestrator.storage.sealing import Codec
from orchestrator.storage.sqlite import batch, sql


def settle(connection: sqlite3.Connection, codec: Codec) -> Disguise:
    """The ledger's disguise; keys of an older ledger are put in it. Raises Unreadable without the master key.

    With a secret, or a key, that came now, the log is emptied: it would still hold what was there before.
    """
    found = connection.execute(sql.READ_DISGUISE, (PURPOSE,)).fetchone()
    kept = None if found is None else Kept(*found)
    disguise, wanted = settled(kept, codec)
    older = connection.execute(sql.ARE_THERE_OLDER_KEYS).fetchone() is not None
    if kept == wanted and not older:
        return disguise
    connection.execute("BEGIN IMMEDIATE")
    try:
        if older:
            _move_older_keys(connection, disguise if kept is None else None)
        connection.execute(sql.SAVE_DISGUISE, (PURPOSE, wanted.data_key, wanted.secret))
        connection.execute("COMMIT")
    except BaseException:
        # Some errors, a full disk among them, have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    batch.empty_log(connection)
    return disguise


def _move_older_keys(connection: sqlite3.Connection, disguise: Disguise | None) -> None:
    """Into the table of today. Without a `disguise` they wear it already, in hex digits."""

    def moved(row: rows.Row) -> rows.Row:
        seq, scope, key, fingerprint, expires_at = row
        if disguise is not None:
            return rows.key_row(seq, disguise.wear(Key(scope, key, fingerprint, expires_at)))
        return rows.key_row(seq, Worn(scope, bytes.fromhex(key), bytes.fromhex(fingerprint), expires_at))

    connection.executemany(sql.ADD_KEY, map(moved, connection.execute(sql.READ_OLDER_KEYS)))
    connection.execute(sql.REMOVE_OLDER_KEYS)
