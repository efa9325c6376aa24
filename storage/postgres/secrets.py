"""The secret of the shared ledger's idempotency keys: made once, by whichever replica is first, and read by all."""

import anyio

from orchestrator.storage.commands import Key
from orchestrator.storage.disguise import PURPOSE, Disguise, Kept, settled
from orchestrator.storage.postgres import sql
from orchestrator.storage.postgres.connecting import Connection
from orchestrator.storage.sealing import Codec

PATIENCE_S = 600.0
"""For the keys of a ledger from before there was a secret, of which there may be millions."""
_AT_ONCE = 10_000


async def settle(connection: Connection, codec: Codec) -> Disguise:
    """The disguise that all replicas share. Raises Unreadable without the master key, or one of FAILURES.

    After an error the connection is to be closed.
    """
    disguise, kept, wanted = await _look(connection, codec)
    # Without the lock first, as with migrations.
    if kept != wanted:
        with anyio.fail_after(PATIENCE_S, shield=True):
            await connection.execute(sql.BEGIN)
            await connection.execute(sql.MIGRATE_ONE_AT_A_TIME)
            disguise, kept, wanted = await _look(connection, codec)
            if kept is None:
                await _disguise(connection, disguise)
            await connection.execute(sql.SAVE_DISGUISE, PURPOSE, wanted.data_key, wanted.secret)
            await connection.execute(sql.COMMIT)
    return disguise


async def _look(connection: Connection, codec: Codec) -> tuple[Disguise, Kept | None, Kept]:
    found = await connection.fetchrow(sql.READ_DISGUISE, PURPOSE)
    kept = None if found is None else Kept(*found)
    disguise, wanted = settled(kept, codec)
    return disguise, kept, wanted


async def _disguise(connection: Connection, disguise: Disguise) -> None:
    plain = [Key(*row) for row in await connection.fetch(sql.READ_PLAIN_KEYS)]
    changes = [
        (worn.digest.hex(), worn.fingerprint.hex(), key.scope, key.key)
        for key, worn in zip(plain, map(disguise.wear, plain), strict=True)
    ]
    for start in range(0, len(changes), _AT_ONCE):
        columns = zip(*changes[start : start + _AT_ONCE], strict=True)
        await connection.execute(sql.DISGUISE_KEYS, *map(list, columns))
