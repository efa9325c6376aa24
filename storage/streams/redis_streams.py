"""Redis Streams, by the commands that Redis 7 has: a stream for each class, one consumer group.

Redis may lose everything at any moment. So nothing is trimmed by length, groups begin at the start of a stream, and
whether the streams are still those that were told everything is asked of the server again and again. Nothing is tried
twice in here: who calls knows whether twice is safe. See https://redis.io/docs/latest/develop/data-types/streams/.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio
from redis.exceptions import ResponseError

from orchestrator.domain.task import Priority
from orchestrator.storage.ports import Message, StreamEntry
from orchestrator.storage.streams.connecting import (
    ANSWER_S,
    GroupGone,
    GroupThere,
    answer,
    answers,
    client,
    let_go,
    named,
)
from orchestrator.storage.streams.names import StreamNames

LONGEST_WAIT_S = 2.0
LONG_AGO_MS = 10**9
CLEAN_UP_EVERY_S = 60.0
PAGE = 500
CONSUMER_GONE_MS = 600_000


class RedisStreams:
    """One process's way to the streams, as the consumer `consumer`. Runs on asyncio, which its driver needs."""

    def __init__(self, url: str, names: StreamNames, consumer: str, *, claim_s: float = 30.0) -> None:
        """Connects at the first call. What was taken and not removed for `claim_s` may be claimed.

        Raises InvalidRedisURL.
        """
        self._names, self._consumer, self._claim_ms = names, consumer, int(claim_s * 1000)
        self._commands = client(url, ANSWER_S)
        # Waiting for new entries has a connection of its own, with time for it.
        self._reads = client(url, LONGEST_WAIT_S + ANSWER_S)
        self._grouped = False
        self._server: str | None = None
        self._cleaned_at = 0.0

    def __repr__(self) -> str:
        return f"<RedisStreams {self._consumer} in {self._names.group}>"

    async def add(self, messages: Sequence[Message]) -> None:
        pipe = self._commands.pipeline(transaction=False)
        for message in messages:
            pipe.xadd(self._name(message.priority), message.fields)
        await answers(pipe)

    async def lengths(self) -> Mapping[Priority | None, int]:
        pipe = self._commands.pipeline(transaction=False)
        for stream in (*Priority, None):
            pipe.xlen(self._name(stream))
        return dict(zip((*Priority, None), await answers(pipe), strict=True))

    async def read(self, wanted: Mapping[Priority, int], wait_s: float) -> list[StreamEntry]:
        limits = {priority: limit for priority, limit in wanted.items() if limit > 0}
        if not limits:
            return []
        if not self._grouped:
            await self._make_groups()
        try:
            found = await self._new(limits)
            if not found and wait_s > 0 and self._grouped:
                found = await self._next(limits, min(wait_s, LONGEST_WAIT_S))
        except GroupGone:
            self._grouped = False
            return []
        return [entry for name, entries in found for entry in self._entries(name, entries)]

    async def claim(self, limit: int) -> list[StreamEntry]:
        pipe = self._commands.pipeline(transaction=False)
        for priority in Priority:
            pipe.xautoclaim(self._name(priority), *self._as, self._claim_ms, "0-0", count=limit)
        try:
            given = await answers(pipe)
            await self._forget_consumers()
        except GroupGone:
            self._grouped = False
            return []
        names = [self._name(priority) for priority in Priority]
        return [entry for name, claimed in zip(names, given, strict=True) for entry in self._entries(name, claimed[1])]

    async def give_back(self, entries: Sequence[StreamEntry]) -> None:
        pipe = self._commands.pipeline(transaction=False)
        for name, ids in self._by_name(entries).items():
            pipe.xclaim(name, *self._as, 0, ids, idle=LONG_AGO_MS, justid=True)
        # Of a group that is gone there is nothing to give back.
        with suppress(GroupGone):
            await answers(pipe)

    async def remove(self, entries: Sequence[StreamEntry]) -> None:
        await self._drop(self._by_name(entries))

    async def forget(self, task_ids: Collection[str]) -> None:
        for name in (*self._names.streams.values(), self._names.dead_letters):
            after = "-"
            while page := await answer(self._commands.xrange(name, after, count=PAGE)):
                ids = [entry_id for entry_id, fields in page if _task_id(fields) in task_ids]
                if ids:
                    await self._drop({name: ids})
                after = f"({page[-1][0]}"

    async def empty(self) -> None:
        # The groups go with them, as if the server had lost them.
        await answer(self._commands.delete(*self._names.streams.values()))

    async def intact(self) -> bool:
        # Another process is a server that was restarted, or one that took over: what it holds, nobody knows.
        self._server = str((await answer(self._commands.info("server")))["run_id"])
        return await answer(self._commands.get(self._names.voucher)) == self._server

    async def vouch(self) -> None:
        if self._server is not None:
            await answer(self._commands.set(self._names.voucher, self._server))

    async def evicts(self) -> str | None:
        memory = await answer(self._commands.info("memory"))
        policy = str(memory.get("maxmemory_policy", "noeviction"))
        return None if policy == "noeviction" else policy

    async def close(self) -> None:
        for connections in (self._commands, self._reads):
            await let_go(connections)

    async def _drop(self, found: Mapping[str, Sequence[str]]) -> None:
        pipe = self._commands.pipeline(transaction=False)
        for name, ids in found.items():
            pipe.xack(name, self._names.group, *ids)
            pipe.xdel(name, *ids)
        await answers(pipe)

    @property
    def _as(self) -> tuple[str, str]:
        return self._names.group, self._consumer

    def _name(self, stream: Priority | None) -> str:
        return self._names.dead_letters if stream is None else self._names.streams[stream]

    def _entries(self, stream: str, entries: Sequence[Any]) -> list[StreamEntry]:
        """Entries as we know them. What is not ours to understand, or was removed meanwhile, names no task."""
        priority = next(priority for priority in Priority if self._names.streams[priority] == stream)
        return [StreamEntry(priority, str(name), _task_id(fields)) for name, fields in entries if name]

    def _by_name(self, entries: Sequence[StreamEntry]) -> dict[str, list[str]]:
        ids: dict[str, list[str]] = {}
        for entry in entries:
            ids.setdefault(self._name(entry.priority), []).append(entry.entry_id)
        return ids

    async def _new(self, limits: Mapping[Priority, int]) -> list[Any]:
        """What is there now, of each class as much as is wanted."""
        pipe = self._reads.pipeline(transaction=False)
        for priority, limit in limits.items():
            pipe.xreadgroup(*self._as, {self._name(priority): ">"}, count=limit)
        answers = await answer(pipe.execute(raise_on_error=False))
        gone = [answer for answer in answers if isinstance(answer, ResponseError)]
        # What the others have given is ours by now, and nobody else's.
        found = [stream for answer in answers if not isinstance(answer, ResponseError) for stream in answer or ()]
        if gone and not found:
            raise named(gone[0])
        self._grouped = not gone
        return found

    async def _next(self, limits: Mapping[Priority, int], wait_s: float) -> list[Any]:
        """What comes next."""
        streams = {self._name(priority): ">" for priority in limits}
        block, count = max(1, int(wait_s * 1000)), min(limits.values())
        return await answer(self._reads.xreadgroup(*self._as, streams, count=count, block=block), wait_s) or []

    async def _make_groups(self) -> None:
        """At the start of each stream: what came before the group is work as well."""
        self._grouped = True
        for stream in self._names.streams.values():
            with suppress(GroupThere):
                await answer(self._commands.xgroup_create(stream, self._names.group, id="0", mkstream=True))

    async def _forget_consumers(self) -> None:
        """Each process has a name of its own, so names of those that are long gone would pile up."""
        if anyio.current_time() - self._cleaned_at < CLEAN_UP_EVERY_S:
            return
        self._cleaned_at = anyio.current_time()
        for stream in self._names.streams.values():
            for consumer in await answer(self._commands.xinfo_consumers(stream, self._names.group)):
                if consumer["pending"] == 0 and consumer["idle"] > CONSUMER_GONE_MS:
                    await answer(self._commands.xgroup_delconsumer(stream, self._names.group, consumer["name"]))


def _task_id(fields: dict[str, str] | None) -> str:
    return fields.get("task_id", "") if fields else ""
