"""What streams promise, in memory and on a real server; and what a real server may do to them."""

from copy import deepcopy

import anyio
import pytest
import trio.testing

from orchestrator.domain.agent import Sighting
from orchestrator.domain.task import Priority
from orchestrator.storage.agent_store import AgentsUnavailable
from orchestrator.storage.opening import UnsupportedURL, open_agents, open_streams
from orchestrator.storage.ports import Message, StreamEntry, Streams, StreamsUnavailable
from orchestrator.storage.streams.memory import Board, Broker, MemoryAgents, MemoryStreams
from orchestrator.storage.streams.names import StreamNames
from orchestrator.testing import an_agent

pytestmark = pytest.mark.anyio

NAMES = StreamNames({priority: f"tasks:{priority.value}" for priority in Priority}, "tasks:dlq")
ALL = dict.fromkeys(Priority, 100)
URGENT, HIGH, NORMAL, LOW = Priority
CLAIM_S = 0.05
NOW = 1_700_000_000.0


def a_message(number: int, priority: Priority | None = NORMAL) -> Message:
    return Message(priority, {"task_id": f"task-{number}", "task_type": "embed"})


def told(entries: list[StreamEntry]) -> list[tuple[Priority, str]]:
    return [(entry.priority, entry.task_id) for entry in entries]


async def claimed(streams: Streams) -> list[StreamEntry]:
    """Once it is old enough."""
    while True:
        entries = await streams.claim(10)
        if entries:
            return entries
        await anyio.sleep(CLAIM_S / 5)


class StreamsContract:
    """`streams` and `other` are two processes' ways to the same streams."""

    async def test_in_order(self, streams):
        """Each class by itself, in the order in which it was told, and no more than is wanted."""
        await streams.add([a_message(1), a_message(2, URGENT), a_message(3), a_message(4)])
        assert told(await streams.read({NORMAL: 2, URGENT: 2}, 0)) == [
            (NORMAL, "task-1"),
            (NORMAL, "task-3"),
            (URGENT, "task-2"),
        ]
        assert told(await streams.read(ALL, 0)) == [(NORMAL, "task-4")]
        assert await streams.read(ALL, 0) == []

    async def test_told_before_anybody_read(self, streams, other):
        """What came before the first reader is work as well."""
        await other.add([a_message(1, LOW)])
        assert told(await streams.read(ALL, 0)) == [(LOW, "task-1")]

    async def test_forgotten(self, streams, other):
        """Of a task that is forgotten no stream holds an entry, whoever has it; all others stay in their places."""
        await streams.add([a_message(number) for number in range(1, 1203)] + [a_message(1, HIGH), a_message(7, None)])
        assert told(await other.read({NORMAL: 2}, 0)) == [(NORMAL, "task-1"), (NORMAL, "task-2")]
        await streams.forget({"task-1", "task-7", "task-1202"})
        await streams.forget({"task-1"})
        assert await streams.lengths() == {URGENT: 0, HIGH: 0, NORMAL: 1199, LOW: 0, None: 0}
        assert told(await claimed(streams)) == [(NORMAL, "task-2")]
        assert told(await streams.read({NORMAL: 6, HIGH: 1}, 0)) == [(NORMAL, f"task-{n}") for n in (3, 4, 5, 6, 8, 9)]

    async def test_emptied(self, streams, other):
        """No class has an entry any more, whoever has it; the dead letters stay, and what is told then is read."""
        await streams.add([a_message(1), a_message(2), a_message(3, URGENT), a_message(4, None)])
        await other.read({NORMAL: 1}, 0)
        for _ in range(2):
            await streams.empty()
        assert await streams.lengths() == {URGENT: 0, HIGH: 0, NORMAL: 0, LOW: 0, None: 1}
        await streams.add([a_message(5)])
        while not (entries := await other.read(ALL, 0)):
            pass
        assert told(entries) == [(NORMAL, "task-5")]

    async def test_nothing_wanted(self, streams):
        """Then nothing is taken."""
        await streams.add([a_message(1)])
        assert await streams.read({}, 1.0) == []
        assert await streams.read({NORMAL: 0, HIGH: 1}, 0) == []
        assert told(await streams.read(ALL, 0)) == [(NORMAL, "task-1")]

    async def test_waiting(self, streams, other):
        """Who waits gets what comes, of the classes that it wants."""
        await streams.read(ALL, 0)
        got: list[StreamEntry] = []

        async def wait() -> None:
            got.extend(await streams.read({HIGH: 5}, 2.0))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await other.add([a_message(1)])
            await other.add([a_message(2, HIGH)])
        assert told(got) == [(HIGH, "task-2")]

    async def test_each_entry_to_one_process(self, streams, other):
        """Of two readers only one is told."""
        await streams.add([a_message(n) for n in range(10)])
        first, second = await streams.read({NORMAL: 5}, 0), await other.read({NORMAL: 100}, 0)
        assert len({entry.entry_id for entry in first + second}) == 10

    async def test_lengths(self, streams):
        """Everything counts that is not removed, taken or not."""
        await streams.add([a_message(1), a_message(2), a_message(3, None)])
        (entry,) = await streams.read({NORMAL: 1}, 0)
        assert await streams.lengths() == {URGENT: 0, HIGH: 0, NORMAL: 2, LOW: 0, None: 1}
        await streams.remove([entry])
        await streams.remove([entry])
        assert (await streams.lengths())[NORMAL] == 1

    async def test_process_that_is_gone(self, streams, other):
        """What it took, and did not finish, goes to others after a while, and not what it removed."""
        await other.add([a_message(1), a_message(2, HIGH), a_message(3)])
        done, *_ = await other.read({NORMAL: 9}, 0)
        (high,) = await other.read({HIGH: 9}, 0)
        await other.remove([done])
        # What it claimed, and did not finish either, it may claim again.
        found: dict[str, StreamEntry] = {}
        while len(found) < 2:
            found |= {entry.task_id: entry for entry in await claimed(streams)}
        assert sorted(told([*found.values()])) == [(HIGH, "task-2"), (NORMAL, "task-3")]
        assert found["task-2"] == high
        await streams.remove([*found.values()])
        assert sum((await streams.lengths()).values()) == 0

    async def test_given_back(self, slow, other):
        """What a process gives back another may claim at once, and nothing else of it."""
        await slow.add([a_message(1), a_message(2)])
        first, _ = await slow.read(ALL, 0)
        assert await other.claim(10) == []
        await slow.give_back([first])
        assert await other.claim(10) == [first]

    async def test_vouching(self, streams, other):
        """Once one process has told everything, the streams are intact for all."""
        assert not await streams.intact()
        await streams.vouch()
        assert await streams.intact()
        assert await other.intact()

    async def test_nothing_to_do(self, streams):
        """Empty calls are nothing."""
        await streams.add([])
        await streams.remove([])
        await streams.give_back([])


class TestMemoryStreams(StreamsContract):
    """On both event loops; time is virtual on trio."""

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request):
        return (
            ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}) if request.param == "trio" else "asyncio"
        )

    @pytest.fixture
    def broker(self):
        return Broker()

    @pytest.fixture
    def streams(self, broker):
        return MemoryStreams(broker, claim_s=CLAIM_S)

    @pytest.fixture
    def slow(self, broker):
        return MemoryStreams(broker)

    @pytest.fixture
    def other(self, broker):
        return MemoryStreams(broker)

    async def test_everything_lost(self, broker, streams):
        """It is noticed."""
        await streams.add([a_message(1)])
        await streams.vouch()
        broker.flush()
        assert not await streams.intact()
        assert await streams.read(ALL, 0) == []

    async def test_down(self, broker, streams):
        """Every call says so."""
        broker.up = False
        with pytest.raises(StreamsUnavailable):
            await streams.lengths()


@pytest.fixture
async def opened(redis, redis_url):
    """Ways to one database of a real server; how many connections they have when they are closed is checked."""
    made: list[Streams] = []

    def way(consumer: str, claim_s: float = CLAIM_S, url: str = redis_url) -> Streams:
        made.append(open_streams(url, NAMES, consumer, claim_s=claim_s))
        return made[-1]

    yield way
    for streams in made:
        await streams.close()
        await streams.close()


class TestRedisStreams(StreamsContract):
    """On a real server, on asyncio, which the driver needs."""

    @pytest.fixture
    def anyio_backend(self):
        return "asyncio"

    @pytest.fixture
    def streams(self, opened):
        return opened("one")

    @pytest.fixture
    def slow(self, opened):
        return opened("slow", 60.0)

    @pytest.fixture
    def other(self, opened):
        return opened("two", 60.0)

    async def test_flush(self, redis, streams):
        """The groups are made again, at the start, so that what was told before anybody noticed is found."""
        await streams.add([a_message(1)])
        await streams.read(ALL, 0)
        await streams.vouch()
        redis.flush()
        assert not await streams.intact()
        await streams.add([a_message(2)])
        assert await streams.read(ALL, 0) == []
        assert told(await streams.read(ALL, 0)) == [(NORMAL, "task-2")]
        redis.flush()
        assert await streams.claim(10) == []
        await streams.give_back([StreamEntry(NORMAL, "1-1", "task-1")])

    async def test_flush_while_it_waits(self, redis, streams):
        """Whoever waits for entries is not left waiting."""
        await streams.read(ALL, 0)
        await streams.read(ALL, 0)

        async with anyio.create_task_group() as group:

            async def flush() -> None:
                await anyio.to_thread.run_sync(redis.flush)

            group.start_soon(flush)
            with anyio.fail_after(10):
                assert await streams.read(ALL, 2.0) == []
        await streams.add([a_message(1)])
        while not (entries := await streams.read(ALL, 0)):
            pass
        assert told(entries) == [(NORMAL, "task-1")]

    async def test_restart(self, redis, streams):
        """A server that was started again is another one, whatever it holds: all is to be told again."""
        assert not await streams.intact()
        await streams.vouch()
        assert await streams.intact()
        await anyio.to_thread.run_sync(redis.restart)
        with anyio.fail_after(20):
            while True:
                try:
                    assert not await streams.intact()
                    break
                except StreamsUnavailable:
                    continue

    async def test_server_that_is_away(self, redis, streams):
        """Every call fails by its one name, and works again when the server is back."""
        await anyio.to_thread.run_sync(redis.stop)
        calls = (
            lambda: streams.add([a_message(1)]), lambda: streams.read(ALL, 1.0), lambda: streams.claim(1),
            lambda: streams.remove([StreamEntry(NORMAL, "1-1", "")]), streams.intact, streams.evicts, streams.lengths,
        )  # fmt: skip
        for call in calls:
            with pytest.raises(StreamsUnavailable):
                await call()
        await anyio.to_thread.run_sync(redis.start)
        assert set((await streams.lengths()).values()) == {0}

    async def test_server_that_hangs(self, redis, streams):
        """It accepts connections and answers nothing: a call ends all the same, and none reads another's answer."""
        await streams.add([a_message(1)])
        redis.freeze()
        try:
            with anyio.fail_after(30), pytest.raises(StreamsUnavailable):
                await streams.lengths()
        finally:
            redis.thaw()
        assert (await streams.lengths())[NORMAL] == 1
        assert told(await streams.read(ALL, 0)) in ([], [(NORMAL, "task-1")])

    async def test_eviction(self, redis, streams):
        """A server that may throw streams away says so."""
        assert await streams.evicts() is None
        with redis.client() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
            try:
                assert await streams.evicts() == "allkeys-lru"
            finally:
                client.config_set("maxmemory-policy", "noeviction")

    async def test_entry_of_somebody_else(self, redis, redis_url, streams):
        """What names no task is still an entry, so that it can be removed."""
        await streams.read(ALL, 0)
        with redis.client(int(redis_url.rpartition("/")[2])) as client:
            client.xadd("tasks:low", {"other": "field"})
        assert told(await streams.read(ALL, 0)) == [(LOW, "")]

    async def test_cancelled_in_the_middle(self, opened, redis):
        """A call that is broken off leaves no answer behind for the next one to read."""
        streams = opened("one")
        await streams.read(ALL, 0)
        for delay in (0.0, 0.0001, 0.0005, 0.001, 0.01):
            for _ in range(5):
                with anyio.move_on_after(delay):
                    await streams.read(ALL, 1.0)
                with anyio.move_on_after(delay):
                    await streams.lengths()
                await streams.add([a_message(1)])
                assert set(await streams.lengths()) == {*Priority, None}
        assert (await streams.lengths())[NORMAL] == 25
        assert await streams.intact() is False
        assert redis.connections <= 8


@pytest.mark.parametrize("url", ["http://localhost", "redis//localhost", "localhost:6379", "redis://localhost:port"])
def test_address_of_nothing(url):
    """It is refused when it is read, and its words are not repeated."""
    with pytest.raises(UnsupportedURL) as refused:
        open_streams(url, NAMES, "one", claim_s=1.0)
    assert "localhost" not in str(refused.value)


class AgentStoreContract:
    """`agents` and `others` are two processes' ways to the same agents."""

    async def test_agents(self, agents, others):
        """What one saves the other knows, until one forgets it; what one has told of it as well."""
        one, two = an_agent("agent-1"), an_agent("agent-2")
        assert await agents.agents() is None
        await agents.restore([])
        assert await agents.agents() == []
        await agents.save(one)
        await others.restore([two])
        await agents.save(one)
        assert await others.agents() == [one, two]
        await others.tell([Sighting("agent-1", NOW, 0.5), Sighting("agent-2", NOW)])
        await agents.tell([Sighting("agent-1", NOW + 1.0, None, True)])
        await agents.tell([])
        found = sorted(await others.sightings(), key=lambda sighting: sighting.agent_id)
        assert [(s.agent_id, s.load, s.draining) for s in found] == [("agent-1", 0.5, True), ("agent-2", None, None)]
        assert [s.seen_at for s in found] == pytest.approx([NOW + 1.0, NOW], abs=0.5)
        await others.forget("agent-1")
        assert await agents.agents() == [two]
        assert [sighting.agent_id for sighting in await agents.sightings()] == ["agent-2"]

    async def test_everything_lost(self, agents, others, lose):
        """Each way notices, whoever is the first to restore what it knows."""
        for way in (agents, others):
            await way.agents()
            await way.restore([])
            await way.agents()
        await lose()
        assert await agents.agents() is None
        await agents.restore([an_agent("agent-1")])
        assert await agents.agents() == [an_agent("agent-1")]
        assert await others.agents() is None
        await others.restore([an_agent("agent-2"), an_agent("agent-1", cost=1.0)])
        assert await others.agents() == [an_agent("agent-1"), an_agent("agent-2")]

    async def test_older_copy(self, agents, others, copy, fall_back):
        """A server that took over, or was started again, may know less than replicas: what they know replaces it."""
        kept, gone, narrowed = an_agent("agent-1"), an_agent("agent-2"), an_agent("agent-3", cost=1.0)
        await agents.agents()
        await agents.restore([kept, gone, an_agent("agent-3")])
        older = await copy()
        await others.forget("agent-2")
        await agents.save(narrowed)
        await agents.save(an_agent("agent-4"))
        known = [kept, narrowed, an_agent("agent-4")]
        assert (await agents.agents(), await others.agents()) == (known, known)
        await fall_back(older)
        await others.save(narrowed)
        assert (await agents.agents(), await others.agents()) == (None, None)
        await agents.restore(known)
        assert await agents.agents() == known
        assert await others.agents() == known
        await others.save(gone)
        assert await agents.agents() == [kept, gone, narrowed, an_agent("agent-4")]


class TestMemoryAgents(AgentStoreContract):
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request):
        return request.param

    @pytest.fixture
    def board(self):
        return Board()

    @pytest.fixture
    def agents(self, board):
        return MemoryAgents(board)

    @pytest.fixture
    def others(self, board):
        return MemoryAgents(board)

    @pytest.fixture
    def lose(self, board):
        async def lose():
            board.flush()

        return lose

    @pytest.fixture
    def copy(self, board):
        async def copy():
            return deepcopy(vars(board) | {"lives": None})

        return copy

    @pytest.fixture
    def fall_back(self, board):
        async def fall_back(older):
            vars(board).update(older | {"lives": board.lives})

        return fall_back


class TestRedisAgents(AgentStoreContract):
    @pytest.fixture
    def anyio_backend(self):
        return "asyncio"

    @pytest.fixture
    async def agents(self, redis_url):
        store = open_agents(redis_url, "orchestrator", lambda: NOW)
        yield store
        await store.close()

    @pytest.fixture
    async def others(self, redis_url):
        store = open_agents(redis_url, "orchestrator", lambda: NOW)
        yield store
        await store.close()

    @pytest.fixture
    def lose(self, redis):
        async def lose():
            redis.flush()

        return lose

    @pytest.fixture
    def client(self, redis, redis_url):
        with redis.client(int(redis_url.rpartition("/")[2])) as client:
            yield client

    @pytest.fixture
    def copy(self, client):
        async def copy():
            return {key: client.copy(key, f"older:{key}") for key in client.scan_iter()}

        return copy

    @pytest.fixture
    def fall_back(self, client):
        async def fall_back(older):
            client.delete(*(key for key in client.scan_iter() if not key.startswith("older:")))
            for key in older:
                client.rename(f"older:{key}", key)

        return fall_back

    async def test_clock_that_is_wrong(self, agents, redis_url):
        """Times travel by the clock of the server: a replica an hour ahead hears of it in its own time."""
        ahead = open_agents(redis_url, "orchestrator", lambda: NOW + 3_600.0)
        await agents.tell([Sighting("agent-1", NOW - 5.0)])
        (sighting,) = await ahead.sightings()
        assert sighting.seen_at == pytest.approx(NOW + 3_595.0, abs=0.5)
        await ahead.close()

    async def test_server_away(self, redis, agents):
        """Every call says so."""
        await anyio.to_thread.run_sync(redis.stop)
        try:
            with pytest.raises(AgentsUnavailable):
                await agents.agents()
            with pytest.raises(AgentsUnavailable):
                await agents.save(an_agent("agent-1"))
        finally:
            await anyio.to_thread.run_sync(redis.start)
