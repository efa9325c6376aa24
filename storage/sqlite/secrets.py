"""The secret of the embedded ledger's idempotency keys: made at its first opening."""

import sqlite3

from orchestrator.storage.disguise import PURPOSE, Disguise, Kept, disguised, settled
from orchestrator.storage.sealing import Codec
from orchestrator.storage.sqlite import batch, sql


def settle(connection: sqlite3.Connection, codec: Codec) -> Disguise:
    """The ledger's disguise; the keys that stand in the clear are put in it. Raises Unreadable without the master key.

    With a secret, or a key, that came now, the log is emptied: it would still hold what was there before.
    """
    found = connection.execute(sql.READ_DISGUISE, (PURPOSE,)).fetchone()
    kept = None if found is None else Kept(*found)
    disguise, wanted = settled(kept, codec)
    if kept == wanted:
        return disguise
    connection.execute("BEGIN IMMEDIATE")
    try:
        if kept is None:
            plain = connection.execute(sql.READ_PLAIN_KEYS).fetchall()
            connection.executemany(sql.DISGUISE_KEY, disguised(plain, disguise))
        connection.execute(sql.SAVE_DISGUISE, (PURPOSE, wanted.data_key, wanted.secret))
        connection.execute("COMMIT")
    except BaseException:
        # Some errors, a full disk among them, have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    batch.empty_log(connection)
    return disguise
