"""Callers that go away while an answer to them is on its way: it reaches nobody, and nothing is left of them."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import anyio
import pytest
from ledger_builders import accept, recount, stored, task_id
from proxy import Proxy

from orchestrator.domain.task import Priority
from orchestrator.storage.opening import open_streams
from orchestrator.storage.ports import Message, Streams, StreamsUnavailable
from orchestrator.storage.postgres.ledger import PostgresLedger
from orchestrator.storage.streams.names import StreamNames

pytestmark = pytest.mark.anyio

NAMES = StreamNames({priority: f"tasks:{priority.value}" for priority in Priority}, "tasks:dlq")
PATIENCE_S = 20.0
TOLD = 60
OURS = "SELECT state FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'orchestrator'"


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - it happens on the line
            await anyio.sleep(0.005)


def message(priority: Priority, number: int) -> Message:
    return Message(priority, {"task_id": f"{priority.value}-{number}"})


@asynccontextmanager
async def streams_behind(proxy: Proxy, redis, redis_url: str) -> AsyncIterator[Streams]:
    streams = open_streams(redis.url(int(redis_url.rpartition("/")[2]), proxy.port), NAMES, "one", claim_s=0.0)
    try:
        yield streams
    finally:
        await streams.close()


async def all_read(streams: Streams, expected: set[str]) -> None:
    """Every entry is found, and nothing else, whoever was told of it before."""
    found: set[str] = set()
    with anyio.fail_after(PATIENCE_S):
        # Who was broken off while it made the groups leaves some of them to the next one that reads.
        while found != expected:
            entries = [*await streams.read(dict.fromkeys(Priority, 10_000), 0), *await streams.claim(10_000)]
            found |= {entry.task_id for entry in entries}
            assert found <= expected


class TestRedis:
    @pytest.mark.parametrize("waiting", [False, True], ids=["new entries", "what comes next"])
    async def test_who_reads_is_gone_when_the_answer_comes(self, redis, redis_url, waiting):
        """The answer is held back until its caller is gone: the next one on any connection gets its own."""
        async with Proxy(redis.port) as proxy, streams_behind(proxy, redis, redis_url) as streams:
            await streams.read(dict.fromkeys(Priority, 1), 0)
            if not waiting:
                await streams.add([message(Priority.URGENT, 1)])
            proxy.hold()
            async with anyio.create_task_group() as group:
                group.start_soon(streams.read, {Priority.URGENT: 1}, 2.0)
                await until(lambda: proxy.held > 0)
                if waiting:
                    # The first answer, that there is nothing; the second is that to the read that waits.
                    proxy.let_through()
                    await until(lambda: proxy.held == 0)
                    proxy.hold()
                    with redis.client(int(redis_url.rpartition("/")[2])) as client:
                        client.xadd("tasks:urgent", {"task_id": "urgent-1"})
                    await until(lambda: proxy.held > 0)
                group.cancel_scope.cancel()
            proxy.let_through()
            assert await streams.read({Priority.LOW: 5}, 0) == []
            assert (await streams.lengths())[Priority.URGENT] == 1
            await all_read(streams, {"urgent-1"})

    async def test_a_storm(self, redis, redis_url):
        """Answers come late and callers go at any moment: each gets its own, no entry is lost, no connection leaks."""
        chance = Random(5)
        before = redis.connections
        async with (
            Proxy(redis.port, delay=lambda: chance.random() * 0.01) as proxy,
            streams_behind(proxy, redis, redis_url) as streams,
        ):
            await streams.read(dict.fromkeys(Priority, 1), 0)
            await streams.add([message(priority, n) for n in range(TOLD) for priority in Priority])
            answered = dict.fromkeys(("read", "lengths", "intact"), 0)

            async def read(priority: Priority) -> None:
                entries = await streams.read({priority: 1}, chance.random() * 0.02)
                assert {entry.priority for entry in entries} <= {priority}
                assert all(entry.task_id.startswith(priority.value) for entry in entries)
                answered["read"] += 1

            async def lengths() -> None:
                assert set((await streams.lengths()).values()) == {0, TOLD}
                answered["lengths"] += 1

            async def intact() -> None:
                assert await streams.intact() is False
                answered["intact"] += 1

            async def leave(call: Callable[[], Any], within: float) -> None:
                with anyio.move_on_after(within):
                    try:
                        await call()
                    except StreamsUnavailable:
                        # More callers than connections: so it is said.
                        return

            for _ in range(12):
                async with anyio.create_task_group() as crowd:
                    for priority in Priority:
                        crowd.start_soon(leave, lambda p=priority: read(p), chance.random() * 0.05)
                    crowd.start_soon(leave, lengths, chance.random() * 0.05)
                    crowd.start_soon(leave, intact, chance.random() * 0.05)
                    crowd.start_soon(lengths)
                    crowd.start_soon(intact)
                    crowd.start_soon(read, Priority.URGENT)
            assert all(answered.values()), answered
            await all_read(streams, {f"{p.value}-{n}" for p in Priority for n in range(TOLD)})
            await until(lambda: redis.connections - before <= 2 * len(Priority) + 2)
        await until(lambda: redis.connections <= before)


class TestPostgres:
    async def test_who_commits_is_gone_when_the_answer_comes(self, postgres):
        """A commit whose caller is gone is finished, its answer is nobody else's, and its connection stays."""
        database = await postgres.new_database()
        async with Proxy(postgres.port) as proxy:
            ledger = await PostgresLedger.opened(postgres.url(database, proxy.port), "clinic", time.time)
            try:
                await stored(ledger, accept(1))
                for number in range(2, 8):
                    proxy.hold()
                    async with anyio.create_task_group() as group:
                        group.start_soon(ledger.commit, [accept(number)])
                        await until(lambda: proxy.held > 0)
                        group.cancel_scope.cancel()
                        proxy.let_through()
                    assert (await stored(ledger, accept(100 + number)))[0].task.task_id == task_id(100 + number)
                    assert await ledger.task(task_id(number)) is not None
                assert ledger.depths() == await recount(ledger)
                assert ledger.writer == "clinic"
            finally:
                await ledger.close()

    async def test_a_storm(self, postgres):
        """Answers come late and callers go at any moment: each reads its own task, and no connection leaks."""
        database, chance = await postgres.new_database(), Random(6)
        async with Proxy(postgres.port, delay=lambda: chance.random() * 0.005) as proxy:
            url = postgres.url(database, proxy.port) + "?sslmode=disable"
            ledger = await PostgresLedger.opened(url, "clinic", time.time)
            try:
                await stored(ledger, *(accept(number) for number in range(20)))
                seen = 0

                async def look(number: int) -> None:
                    nonlocal seen
                    record = await ledger.task(task_id(number))
                    assert record is not None
                    assert record.task.task_id == task_id(number)
                    seen += 1

                async def commit(number: int) -> None:
                    await ledger.commit([accept(number)])

                for turn in range(15):
                    async with anyio.create_task_group() as crowd:
                        for number in range(8):
                            within = chance.random() * 0.03 if number % 2 else PATIENCE_S
                            crowd.start_soon(_leave, look, (turn + number) % 20, within)
                        crowd.start_soon(_leave, commit, 1000 + turn, chance.random() * 0.02)
                assert seen >= 15 * 4
                assert ledger.depths() == await recount(ledger)
                states = [state for (state,) in await postgres.execute(OURS.format(database))]
                assert len(states) <= 5
                assert set(states) == {"idle"}
            finally:
                await ledger.close()


async def _leave(call: Callable[[int], Any], number: int, within: float) -> None:
    with anyio.move_on_after(within):
        await call(number)
