"""Connections to Redis, and what its silence and its errors mean."""

from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import anyio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import RedisError, ResponseError

from orchestrator.storage.ports import StreamsUnavailable

ANSWER_S = 3.0
"""How long a command may take, beyond what it is told to wait."""
CONNECT_S = 2.0


class InvalidRedisURL(Exception):
    """The address of Redis cannot be understood."""


class GroupGone(Exception):
    """The streams, and their groups with them, are not there."""


class GroupThere(Exception):
    """The group was made already."""


class _Packing:
    """What connections of the driver's asyncio half lack: commands are packed by hiredis, at a fifth of the price."""

    _packer: Any = HiredisRespSerializer()

    def pack_command(self, *args: Any) -> list[bytes]:
        packed: list[bytes] = self._packer.pack(*args)
        return packed


_CODES = {"NOGROUP": GroupGone, "UNBLOCKED": GroupGone, "BUSYGROUP": GroupThere}


async def answer(command: Awaitable[Any], wait_s: float = 0.0) -> Any:
    """The answer to a command that may take `wait_s` by itself. Errors get the one name by which the port knows them.

    A caller that is cancelled takes its connection with it, so that nobody else reads an answer that was meant for it.
    """
    try:
        with anyio.fail_after(ANSWER_S + wait_s):
            return await command
    except ResponseError as error:
        raise named(error) from error
    except (RedisError, OSError) as error:
        raise StreamsUnavailable(type(error).__name__) from error


async def answers(pipe: Any) -> list[Any]:
    """The answers to several commands; raises for the first that failed, whatever the others did."""
    # The driver's own error would quote the command.
    given = await answer(pipe.execute(raise_on_error=False))
    for one in given:
        if isinstance(one, ResponseError):
            raise named(one)
    return given


def named(error: ResponseError) -> Exception:
    return _CODES.get(_word(error), StreamsUnavailable)(_word(error))


def _word(error: ResponseError) -> str:
    """The first word of the server's answer, which is its code; what follows may quote values."""
    word = str(error).split(" ", 1)[0]
    return word if word.isupper() and word.isalpha() else type(error).__name__


async def let_go(client: Any) -> None:
    """Closes the client's connections; a server that does not answer holds nobody up."""
    with suppress(RedisError, OSError), anyio.move_on_after(ANSWER_S):
        await client.aclose()


def client(url: str, answer_s: float = ANSWER_S) -> Any:
    """A client whose commands are answered within `answer_s` seconds, and tried once. Raises InvalidRedisURL."""
    from_url: Any = getattr(Redis, "from_url")  # noqa: B009 - its type is partly unknown
    try:
        made = from_url(
            url,
            protocol=2,
            decode_responses=True,
            encoding_errors="replace",
            retry=Retry(NoBackoff(), 0),
            socket_timeout=answer_s,
            socket_connect_timeout=CONNECT_S,
            socket_keepalive=True,
            max_connections=16,
        )
    except ValueError as error:
        raise InvalidRedisURL("redis:// or rediss:// with host, port and database is needed") from error
    pool = made.connection_pool
    # TLS, or a socket file: what the address asks for is known by now.
    pool.connection_class = type("Packing", (_Packing, pool.connection_class), {})
    return made
