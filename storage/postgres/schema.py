"""Numbered migrations: each file of `storage/migrations/postgres` runs once, in order, by one replica at a time."""

from importlib import resources

from orchestrator.storage.ports import LedgerCorrupt, SchemaTooNew
from orchestrator.storage.postgres import sql
from orchestrator.storage.postgres.connecting import THERE_ALREADY, Connection


def migrations() -> list[tuple[int, str]]:
    """Version and SQL text of each migration, in order."""
    folder = resources.files("orchestrator.storage.migrations").joinpath("postgres")
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return [(int(name[:4]), folder.joinpath(name).read_text("utf-8")) for name in files]


def latest_version() -> int:
    """The version that this program knows."""
    return migrations()[-1][0]


async def version(connection: Connection) -> int:
    """The schema's version; 0 where there is none."""
    if not await connection.fetchval(sql.FIND_VERSION):
        return 0
    return int(await connection.fetchval(sql.READ_VERSION) or 0)


async def migrate(connection: Connection) -> int:
    """Brings the schema up to date, in one transaction, and returns its version.

    Twice, and by several replicas at once, is safe. After an error the connection is to be closed.

    Raises SchemaTooNew for a database of a newer program, LedgerCorrupt for one of something else, and one of FAILURES.
    """
    if await connection.fetchval(sql.ENCODING) != "UTF8":
        raise LedgerCorrupt("the database's encoding is not UTF8")
    steps = migrations()
    # Without the lock first: a replica that only works here needs no right to create anything.
    if await version(connection) != steps[-1][0]:
        await connection.execute(sql.BEGIN)
        await connection.execute(sql.MIGRATE_ONE_AT_A_TIME)
        await _apply(connection, await version(connection), steps)
        await connection.execute(sql.COMMIT)
    return steps[-1][0]


async def _apply(connection: Connection, found: int, steps: list[tuple[int, str]]) -> None:
    if found > steps[-1][0]:
        raise SchemaTooNew(f"its schema is version {found}, this program knows {steps[-1][0]}")
    try:
        for number, text in steps:
            if number > found:
                await connection.execute(text)
    except THERE_ALREADY as error:
        raise LedgerCorrupt("the database holds tables of something else") from error
    await connection.execute(sql.CREATE_VERSION)
    await connection.execute(sql.CLEAR_VERSION)
    await connection.execute(sql.WRITE_VERSION, steps[-1][0])
