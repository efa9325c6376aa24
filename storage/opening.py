"""From a URL to the ledger it names."""

from collections.abc import Callable
from errno import ENOENT
from importlib import import_module
from socket import gethostname
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import anyio

from orchestrator.kernel.environment import Environment
from orchestrator.storage.agent_store import AgentStore
from orchestrator.storage.memory import MemoryLedger
from orchestrator.storage.ports import Ledger, Streams
from orchestrator.storage.sealing import PLAIN, Codec
from orchestrator.storage.sqlite import schema as sqlite_schema
from orchestrator.storage.sqlite.ledger import SqliteLedger
from orchestrator.storage.sqlite.reader import SqliteReader

if TYPE_CHECKING:
    from orchestrator.storage.postgres.reader import PostgresReader
    from orchestrator.storage.streams.names import StreamNames


class UnsupportedURL(ValueError):
    """No ledger, and no streams, of this program answer to that URL."""


def sqlite_path(url: str) -> str:
    """The file of `sqlite:///relative.db` or `sqlite:////absolute.db`; a driver (`sqlite+aiosqlite`) may be named.

    Raises UnsupportedURL for another scheme, a host, parameters, or SQLite's own in-memory database.
    """
    parts = urlsplit(url)
    if parts.scheme.partition("+")[0] != "sqlite":
        raise UnsupportedURL("only postgresql://, sqlite:///file.db and memory:// are supported")
    path = unquote(parts.path[1:])
    if parts.netloc or parts.query or parts.fragment or not path or path == ":memory:":
        raise UnsupportedURL("a SQLite URL is sqlite:///relative.db or sqlite:////absolute.db")
    return path


def is_postgres(url: str) -> bool:
    """Whether the URL names a PostgreSQL database; a driver (`postgresql+asyncpg`) may be named."""
    return url.partition(":")[0].partition("+")[0] in ("postgresql", "postgres")


async def open_ledger(
    url: str,
    *,
    max_bytes: int = 0,
    writer: str = "",
    now: Callable[[], float] | None = None,
    outbox: bool = False,
    codec: Codec = PLAIN,
) -> Ledger:
    """The ledger at `url`, migrated, and owned where it is exclusive.

    With an `outbox` it writes down what streams are to be told, for the relay.
    `writer` names the audit chain of this replica in a ledger that is shared (the host's name if empty), `now` is the
    wall clock. Raises UnsupportedURL, and what the ledger raises on opening.
    """
    if url == "memory://":
        return MemoryLedger(outbox=outbox)
    if is_postgres(url):
        _need_driver("asyncpg", "postgresql://", "postgres")
        from orchestrator.storage.postgres.connecting import InvalidAddress
        from orchestrator.storage.postgres.ledger import PostgresLedger

        try:
            clock = now or Environment.real().now
            return await PostgresLedger.opened(url, writer or gethostname(), clock, outbox=outbox, codec=codec)
        except InvalidAddress as error:
            raise UnsupportedURL(str(error)) from None
    return await SqliteLedger.opened(sqlite_path(url), max_bytes=max_bytes, outbox=outbox, codec=codec)


async def open_reader(url: str) -> "SqliteReader | PostgresReader":
    """Only the reading half of the ledger at `url`, whoever owns it, as it is at this moment.

    Raises UnsupportedURL, FileNotFoundError, and what the reader raises on opening.
    """
    if is_postgres(url):
        return await _open_postgres_reader(url)
    if url == "memory://":
        raise UnsupportedURL("memory:// keeps nothing that another process could read")
    path = sqlite_path(url)
    if not await anyio.Path(path).is_file():
        raise FileNotFoundError(ENOENT, "there is no database", path)
    reader = SqliteReader(path)
    await reader.open()
    await reader.hold()
    return reader


def latest_version(url: str) -> int:
    """The version of the schema that this program knows for the kind of ledger at `url`."""
    if is_postgres(url):
        from orchestrator.storage.postgres import schema

        return schema.latest_version()
    return sqlite_schema.latest_version()


async def _open_postgres_reader(url: str) -> "PostgresReader":
    _need_driver("asyncpg", "postgresql://", "postgres")
    from orchestrator.storage.postgres.clock import Clock
    from orchestrator.storage.postgres.connecting import InvalidAddress, dsn_of
    from orchestrator.storage.postgres.reader import PostgresReader

    try:
        reader = PostgresReader(dsn_of(url), Clock(Environment.real().now))
        await reader.hold()
    except InvalidAddress as error:
        raise UnsupportedURL(str(error)) from None
    return reader


def open_streams(url: str, names: "StreamNames", consumer: str, *, claim_s: float) -> Streams:
    """The streams at `url`, which are reached when they are first used: they may be away. Raises UnsupportedURL."""
    _need_driver("redis", "redis://", "redis")
    from orchestrator.storage.streams.connecting import InvalidRedisURL
    from orchestrator.storage.streams.redis_streams import RedisStreams

    try:
        return RedisStreams(url, names, consumer, claim_s=claim_s)
    except InvalidRedisURL as error:
        raise UnsupportedURL(str(error)) from None


def open_agents(url: str, key: str, now: Callable[[], float]) -> AgentStore:
    """The agents at `url`, under names that begin with `key`. They may be away. Raises UnsupportedURL."""
    _need_driver("redis", "redis://", "redis")
    from orchestrator.storage.streams.connecting import InvalidRedisURL
    from orchestrator.storage.streams.redis_agents import RedisAgents

    try:
        return RedisAgents(url, key, now)
    except InvalidRedisURL as error:
        raise UnsupportedURL(str(error)) from None


def _need_driver(module: str, scheme: str, extra: str) -> None:
    """Raises UnsupportedURL where the extra is not installed."""
    try:
        import_module(module)
    except ImportError:
        raise UnsupportedURL(f"{scheme} needs the extra: pip install 'routing-orchestrator[{extra}]'") from None
