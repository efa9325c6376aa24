"""The streams in Redis as workers read them: one consumer group for each capability, entries as hints, nothing retried.

Entries may vanish at any moment, since whoever leases a task takes its entry away; Redis may lose them all. So groups
begin at the start of a stream, and a worker asks the orchestrator itself now and then.
"""

from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

STREAMS: Mapping[str, int] = {"tasks:urgent": 8, "tasks:high": 4, "tasks:normal": 2, "tasks:low": 1}
"""The streams and their weights, as the orchestrator's own queue has them."""
BLOCK_MS = 2_000
ANSWER_S = 5.0
"""Above the longest wait, or the driver would break it off."""
CLAIM_AFTER_MS = 30_000


class StreamsAway(Exception):
    """Redis does not answer, or does not hold the groups: later."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; `task_type` is empty where it was removed meanwhile, or is not ours to understand."""

    stream: str
    entry_id: str
    task_id: str
    task_type: str


class TaskStreams:
    """The streams as the workers of one capability share them; `consumer` is this worker."""

    def __init__(self, url: str, capability: str, task_types: Collection[str], consumer: str) -> None:
        """Connects at the first call. Raises ValueError for a URL that is none."""
        from_url: Any = getattr(Redis, "from_url")  # noqa: B009 - its type is partly unknown
        self._redis = from_url(
            url, decode_responses=True, encoding_errors="replace", retry=Retry(NoBackoff(), 0),
            socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S, socket_keepalive=True,
        )  # fmt: skip
        self._group, self._task_types, self._consumer = f"capability:{capability}", frozenset(task_types), consumer
        self._credit = dict.fromkeys(STREAMS, 0)
        self._grouped = False

    def __repr__(self) -> str:
        return f"<TaskStreams {self._group} as {self._consumer}>"

    def wants(self, entry: Entry) -> bool:
        """Whether the entry is for this capability."""
        return entry.task_type in self._task_types

    async def next(self, limit: int) -> list[Entry]:
        """Up to `limit` new entries of the stream whose turn it is, or of the others; waits a little if there is none.

        Raises StreamsAway.
        """
        if not self._grouped:
            await self._make_groups()
        for stream in self._order():
            found = await self._read([stream], limit, None)
            if found:
                return found
        return await self._read(list(STREAMS), 1, BLOCK_MS)

    async def claim(self, limit: int) -> list[Entry]:
        """Entries that another worker took and did not acknowledge for long. Raises StreamsAway."""
        found: list[Entry] = []
        for stream in STREAMS:
            claiming = self._redis.xautoclaim(stream, self._group, self._consumer, CLAIM_AFTER_MS, "0-0", count=limit)
            found += _entries(stream, (await self._answer(claiming))[1])
        return found

    async def done(self, entry: Entry, *, leased: bool) -> None:
        """The entry is dealt with; once its task is `leased` it is nobody's any more. Raises StreamsAway."""
        await self._answer(self._redis.xack(entry.stream, self._group, entry.entry_id))
        if leased:
            await self._answer(self._redis.xdel(entry.stream, entry.entry_id))

    async def close(self) -> None:
        """Lets the connections go."""
        await self._redis.aclose()

    def _order(self) -> list[str]:
        """Smooth weighted round-robin for the first one; after it the more pressing first."""
        for stream, weight in STREAMS.items():
            self._credit[stream] += weight
        first = max(STREAMS, key=lambda stream: self._credit[stream])
        self._credit[first] -= sum(STREAMS.values())
        return [first, *(stream for stream in STREAMS if stream != first)]

    async def _read(self, streams: Sequence[str], limit: int, block: int | None) -> list[Entry]:
        new = dict.fromkeys(streams, ">")
        found = await self._answer(
            self._redis.xreadgroup(self._group, self._consumer, new, count=limit, block=block)
        )  # fmt: skip
        return [entry for stream, entries in _pairs(found) for entry in _entries(stream, entries)]

    async def _make_groups(self) -> None:
        for stream in STREAMS:
            try:
                await self._redis.xgroup_create(stream, self._group, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise StreamsAway(type(error).__name__) from None
            except (RedisError, OSError) as error:
                raise StreamsAway(type(error).__name__) from None
        self._grouped = True

    async def _answer(self, command: Awaitable[Any]) -> Any:
        try:
            return await command
        except (RedisError, OSError) as error:
            # Flushed or failed over, it has no groups any more; whatever it is, they are made again.
            self._grouped = False
            raise StreamsAway(type(error).__name__) from None


def _pairs(found: Any) -> list[tuple[str, Any]]:
    """RESP2 answers with pairs, RESP3 with a map of lists of lists."""
    if isinstance(found, dict):
        items = cast("dict[str, Any]", found)
        return [(stream, [entry for part in parts for entry in part]) for stream, parts in items.items()]
    return list(found or ())


def _entries(stream: str, entries: Sequence[tuple[str | None, dict[str, str] | None]]) -> list[Entry]:
    found: list[Entry] = []
    for entry_id, fields in entries:
        if entry_id:
            known = fields or {}
            found.append(Entry(stream, entry_id, known.get("task_id", ""), known.get("task_type", "")))
    return found
