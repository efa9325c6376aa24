"""Connections to PostgreSQL: how they are made, how long anything may take, and what an error says of them."""

from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg  # pyright: ignore[reportMissingTypeStubs]

CONNECT_S = 2.0
"""While others wait for what they asked; a start, for which nobody waits yet, has START_S."""
START_S = 10.0
STATEMENT_S = 5.0
_SESSION = {
    "application_name": "orchestrator",
    # A replica that stands still in the middle of a batch holds up the others for no longer than this.
    "idle_in_transaction_session_timeout": "4000",
    # So that the server notices within a quarter of a minute that the machine of a replica is gone.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
}
_ENDED = ("08", "57P", "25006", "25P03", "28", "53300", "3D000")


class Connection(Protocol):
    """What we use of asyncpg's, with types."""

    async def execute(self, query: str, *args: Any) -> str: ...
    async def fetch(self, query: str, *args: Any) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: Any) -> Any: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...
    def is_closed(self) -> bool: ...


FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError, EOFError)
"""What can come of talking to a server. Their words may hold values or passwords: say `name(error)` instead."""
NOT_ALLOWED = asyncpg.InsufficientPrivilegeError
THERE_ALREADY = (asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError)


class SessionGone(ConnectionError):
    """The database does not know this session: it was restored, or is another one now."""


class InvalidAddress(ValueError):
    """The URL is none of PostgreSQL's."""


def dsn_of(url: str) -> str:
    """The URL as asyncpg reads it: a driver (`postgresql+asyncpg`) may be named. Raises InvalidAddress."""
    scheme, colon, rest = url.partition(":")
    if scheme.partition("+")[0] not in ("postgresql", "postgres") or not colon:
        raise InvalidAddress("a PostgreSQL URL is postgresql://user@host/database")
    return "postgresql:" + rest


async def connect(dsn: str, *, patience: float = STATEMENT_S, within: float = CONNECT_S) -> Connection:
    """A connection, within so many seconds; cancellation waits for that. Raises one of FAILURES, or InvalidAddress.

    A statement on it may take `patience` seconds, and may wait for a lock for three fifths of that.
    With several hosts it is the first that can be written, unless the URL asks for something else by
    `target_session_attrs`.
    """
    attributes = "read-write" if _asks_for_primary(dsn) else None
    limits = {"statement_timeout": f"{patience:.0f}s", "lock_timeout": f"{patience * 600:.0f}ms"}
    with anyio.fail_after(within, shield=True):
        try:
            return await asyncpg.connect(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
                dsn,
                command_timeout=patience,
                server_settings=_SESSION | limits,
                target_session_attrs=attributes,  # pyright: ignore[reportArgumentType]
            )
        except (asyncpg.ClientConfigurationError, ValueError):
            raise InvalidAddress("the PostgreSQL URL cannot be understood") from None


def _asks_for_primary(dsn: str) -> bool:
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    hosts = parts.netloc.rpartition("@")[2] or ",".join(query.get("host", []))
    return "," in hosts and "target_session_attrs" not in query


def name(error: BaseException) -> str:
    """What may be told of an error: its class and SQLSTATE."""
    state = _state(error)
    return f"{type(error).__name__} ({state})" if state else type(error).__name__


def is_lost(connection: Connection, error: BaseException) -> bool:
    """Whether the connection is of no more use, or leads to a server that is not the one to talk to."""
    if connection.is_closed() or not isinstance(error, asyncpg.PostgresError):
        return True
    return _state(error).startswith(_ENDED)


def is_of_the_command(error: BaseException) -> bool:
    """Whether the values of a command brought it about: no such type, too large, or there already."""
    return isinstance(error, asyncpg.PostgresError) and _state(error)[:2] in ("22", "23", "54")


def is_unexpected(error: BaseException) -> bool:
    """Whether `apply_batch` found that a command would not simply succeed."""
    return _state(error) == "OR001"


def is_damage(error: BaseException) -> bool:
    """Whether the server has found its files damaged."""
    return isinstance(error, asyncpg.PostgresError) and _state(error) in ("XX001", "XX002")


def _state(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", None) or "")
