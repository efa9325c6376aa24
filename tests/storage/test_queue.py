"""The embedded queue: fair, bounded, and never the only one that knows of a task."""

from collections import Counter
from collections.abc import Iterable

import anyio
import pytest
import trio.testing
from anyio import wait_all_tasks_blocked
from ledger_builders import LANE, NOW, accept, move, stored

from orchestrator.domain.lifecycle import Progress, Step
from orchestrator.domain.task import Priority
from orchestrator.storage.memory import MemoryLedger
from orchestrator.storage.ports import Ticket
from orchestrator.storage.queue import EmbeddedQueue

pytestmark = pytest.mark.anyio

URGENT, HIGH, NORMAL, LOW = Priority


class Clock:
    """Seconds since the epoch, moved by hand; for what depends on age."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class World:
    """A ledger in memory, a queue over it, and takers that are never without an agent unless a test says so."""

    def __init__(self, **options: float) -> None:
        self.ledger, self.clock = MemoryLedger(), Clock()
        self.options = options
        self.queue = self.new_queue()
        self.made = 0
        self.unroutable: set[str] = set()
        self.asked: list[Ticket] = []

    def new_queue(self) -> EmbeddedQueue:
        """As after a restart of the process."""
        return EmbeddedQueue(self.ledger, self.clock, **self.options)  # pyright: ignore[reportArgumentType]

    async def put(
        self, count: int = 1, priority: Priority = NORMAL, lane: str = LANE, *, announce: bool = True
    ) -> list[Ticket]:
        """Accepts tasks, and announces them."""
        numbers = range(self.made + 1, self.made + count + 1)
        self.made += count
        commands = [accept(number, priority=priority, lane=lane, at=self.clock.now) for number in numbers]
        records = await stored(self.ledger, *commands)
        tickets = [Ticket(r.task.task_id, priority, lane, r.seq, r.updated_at) for r in records]
        for ticket in tickets if announce else []:
            self.queue.announce(ticket)
        return tickets

    def routable(self, ticket: Ticket) -> bool:
        self.asked.append(ticket)
        return ticket.lane not in self.unroutable

    async def take(self) -> Ticket:
        """The next ticket, which must be there."""
        with anyio.fail_after(60):
            return await self.queue.take(self.routable)

    async def lease(self, ticket: Ticket) -> None:
        """Leases the task, as a consumer does, and is done with the ticket."""
        record = await self.ledger.task(ticket.task_id)
        assert record is not None
        await self.ledger.commit([move(record, Step.LEASE)])
        self.queue.done(ticket)

    async def work(self, count: int) -> list[Ticket]:
        """Takes and leases so many tasks, one after the other."""
        tickets: list[Ticket] = []
        for _ in range(count):
            tickets.append(await self.take())
            await self.lease(tickets[-1])
        return tickets

    def held(self) -> int:
        """Tickets in memory."""
        return sum(len(line.window) for line in self.queue._lines.values())

    def check(self) -> None:
        """What the queue believes of its tickets agrees with its lines."""
        queue = self.queue
        waiting = [ticket.task_id for line in queue._lines.values() for ticket in line.window]
        assert len(waiting) == len(set(waiting))
        assert queue._known == set(waiting) | queue._taken
        assert not set(waiting) & queue._taken
        for line in queue._lines.values():
            seqs = [ticket.seq for ticket in line.window]
            assert seqs == sorted(seqs)
            assert len(seqs) <= queue._size
        assert len(queue._lines) <= queue._max_lines


def seqs(tickets: Iterable[Ticket]) -> list[int]:
    return [ticket.seq for ticket in tickets]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    if request.param == "trio":
        return ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})
    return request.param


virtual_time = pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
"""For what is about waiting: on trio the time jumps, on asyncio it would have to pass."""


async def test_order_in_a_class():
    """First accepted, first taken, also across lanes, and whatever the order of the announcements."""
    world = World()
    tickets = await world.put(5, announce=False) + await world.put(5, lane="other|--|", announce=False)
    tickets += await world.put(5, announce=False)
    for ticket in reversed(tickets):
        world.queue.announce(ticket)
    assert await world.work(15) == tickets
    world.check()


@pytest.mark.parametrize("window", [1, 2, 3, 64, 512])
async def test_order_while_tasks_arrive(window):
    """It holds when more arrive than the window has room for, between any two takes."""
    world = World(window=window)
    taken: list[Ticket] = []
    for burst in (3, 1, 7, 1, 0, 0, 20, 0, 2):
        await world.put(burst)
        world.check()
        taken += await world.work(2)
        world.check()
    taken += await world.work(world.made - len(taken))
    assert seqs(taken) == list(range(1, world.made + 1))
    assert world.queue._known == set()


async def test_shares_under_load():
    """While all classes have work, of fifteen tasks eight are urgent, four high, two normal and one low."""
    world = World()
    for priority in Priority:
        await world.put(200, priority)
    for _ in range(5):
        shares = Counter(ticket.priority for ticket in await world.work(15))
        assert shares == {URGENT: 8, HIGH: 4, NORMAL: 2, LOW: 1}


async def test_classes_without_work():
    """Their shares go to the others, and are not saved up: what comes back is served at its share, not more."""
    world = World()
    await world.put(300, URGENT)
    await world.put(300, LOW)
    await world.work(90)
    await world.put(100, HIGH)
    shares = Counter(ticket.priority for ticket in await world.work(26))
    assert shares[URGENT] in (15, 16, 17)
    assert shares[HIGH] in (7, 8, 9)
    assert shares[LOW] in (1, 2, 3)


async def test_urgent_task_in_a_backlog_of_low_ones():
    """It is the next or the one after."""
    world = World()
    await world.put(300, LOW)
    for _ in range(10):
        await world.work(7)
        await world.put(1, URGENT)
        assert URGENT in [ticket.priority for ticket in await world.work(2)]


async def test_low_task_under_an_endless_flood_of_urgent_ones():
    """It is taken all the same, and the sooner the longer it waits."""

    async def turns(age: float) -> int:
        world = World(aging_s=60.0)
        await world.put(1, LOW)
        world.clock.now += age
        await world.put(100, URGENT)
        return [ticket.priority for ticket in await world.work(50)].index(LOW)

    assert 1 < await turns(60.0) < await turns(0.0) <= 9


async def test_backlog_of_a_day_without_agents():
    """However old the lower work is, of what comes now the urgent is served first and gets its share."""
    world = World(aging_s=60.0)
    for priority in (HIGH, NORMAL, LOW):
        await world.put(200, priority)
    world.clock.now += 86_400.0
    await world.put(100, URGENT)
    taken = [ticket.priority for ticket in await world.work(37)]
    assert URGENT in taken[:2]
    shares = Counter(taken)
    assert shares[URGENT] > shares[HIGH] > shares[NORMAL] > shares[LOW] > 0


async def test_lane_without_agents():
    """It holds up nothing else, not even its own class, is asked once a look, and keeps its order for later."""
    world = World(window=8)
    stuck = await world.put(50, URGENT, "nobody|--|")
    others = await world.put(20, URGENT) + await world.put(20, LOW)
    world.unroutable = {"nobody|--|"}
    taken = await world.work(40)
    assert sorted(seqs(taken)) == seqs(others)
    world.asked.clear()
    await world.put(1)
    await world.work(1)
    assert len(world.asked) <= 2
    world.unroutable = set()
    assert await world.work(50) == stuck


async def test_memory_bound():
    """Of ten thousand tasks never more than a window of tickets is held, and each is handed out once."""
    world = World(window=64)
    await world.put(5_000)
    await world.put(5_000, announce=False)
    assert world.held() <= 64
    taken: list[Ticket] = []
    for _ in range(1_000):
        taken += await world.work(10)
        assert world.held() <= 64
        assert len(world.queue._known) <= 64
        assert len(world.queue._ended) <= 64
    assert seqs(taken) == list(range(1, 10_001))
    assert repr(world.queue).startswith("<EmbeddedQueue 0 tickets")


async def test_memory_bound_over_many_lanes():
    """The lines share one bound, and every lane keeps its order."""
    world = World(tickets=200)
    lanes = [f"type-{number:02}|--|" for number in range(20)]
    for _ in range(30):
        for lane in lanes:
            await world.put(1, lane=lane, announce=False)
    taken: list[Ticket] = []
    for _ in range(60):
        taken += await world.work(10)
        assert world.held() <= 200
        world.check()
    for lane in lanes:
        of_lane = [ticket.seq for ticket in taken if ticket.lane == lane]
        assert (len(of_lane), of_lane) == (30, sorted(of_lane))


@virtual_time
async def test_work_that_comes_during_a_long_sweep():
    """It waits for no more than a slice of it; the sweep goes on, and finds what was lost."""
    world = World(sweep_s=5.0)
    world.unroutable = {f"type-{number:02}|--|" for number in range(40)}
    for lane in sorted(world.unroutable):
        await world.put(1, lane=lane)
    await world.put(1, URGENT)
    await world.work(1)
    ready = world.ledger.ready

    async def slowly(priority: Priority, lane: str, *, after: int, limit: int) -> list[Ticket]:
        await anyio.sleep(0.05)
        return await ready(priority, lane, after=after, limit=limit)

    world.ledger.ready = slowly
    await anyio.sleep(6.0)
    (lost,) = await world.put(1, NORMAL, lane="zoo|--|", announce=False)
    taken, began = list[Ticket](), anyio.current_time()
    for number in range(1, 11):
        await world.put(1, URGENT)
        taken += await world.work(1)
        assert anyio.current_time() - began <= number * 0.15
    assert lost in [*taken, *await world.work(1)]
    assert anyio.current_time() - began <= 6.0


async def test_many_tasks_one_by_one():
    """What is done leaves nothing in memory, also while nothing needs to be read from the ledger."""
    world = World(sweep_s=1000.0)
    await world.work(0)
    for _ in range(200):
        await world.put(1)
        await world.work(1)
    assert len(world.queue._ended) <= 1
    assert world.queue._known == world.queue._taken == set()


@virtual_time
async def test_announcement_that_was_lost():
    """The sweep finds the task, within its interval."""
    world = World(sweep_s=5.0)
    await world.put(1)
    await world.work(1)
    (lost,) = await world.put(1, announce=False)
    began = anyio.current_time()
    assert await world.take() == lost
    assert anyio.current_time() - began <= 6.0


@virtual_time
async def test_clock_that_is_set_back():
    """The sweep goes on all the same."""
    world = World(sweep_s=5.0)
    await world.put(1)
    await world.work(1)
    world.clock.now -= 3600.0
    (lost,) = await world.put(1, announce=False)
    began = anyio.current_time()
    assert await world.take() == lost
    assert anyio.current_time() - began <= 6.0


async def test_after_a_restart():
    """A new queue knows from the ledger what waits, in its order, and what comes meanwhile stands behind it."""
    world = World(window=4)
    tickets = await world.put(10, announce=False)
    world.queue = world.new_queue()
    tickets += await world.put(3)
    assert await world.work(13) == tickets


async def test_given_back():
    """The task has its place again: it is the next of its class."""
    world = World(window=4)
    await world.put(10)
    first = await world.take()
    second = await world.take()
    world.queue.give_back(second)
    world.queue.give_back(first)
    world.check()
    assert seqs(await world.work(10)) == list(range(1, 11))


async def test_given_back_to_another_lane():
    """It waits there, and its old lane does not bring it back a second time."""
    world = World(window=4)
    await world.put(6)
    ticket = await world.take()
    moved = Ticket(ticket.task_id, ticket.priority, "other|--|", ticket.seq, ticket.queued_at)
    world.queue.done(ticket)
    world.queue.give_back(moved)
    taken = await world.work(6)
    assert seqs(taken) == [1, 2, 3, 4, 5, 6]
    assert len({ticket.task_id for ticket in taken}) == 6


@virtual_time
async def test_taken_tickets():
    """None is handed out twice, over announcements, refills and sweeps, while its taker has it."""
    world = World(window=2, sweep_s=1.0)
    tickets = await world.put(9)
    taken = [await world.take() for _ in range(5)]
    for ticket in tickets:
        world.queue.announce(ticket)
    await anyio.sleep(5.0)
    taken += [await world.take() for _ in range(4)]
    assert taken == tickets
    with anyio.move_on_after(30.0) as waiting:
        await world.queue.take(world.routable)
    assert waiting.cancelled_caught
    world.check()


class SlowLedger(MemoryLedger):
    """Answers with what was ready when it was asked, when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answer = anyio.Event(), anyio.Event()
        self.slow = False

    async def ready(self, priority: Priority, lane: str, *, after: int, limit: int) -> list[Ticket]:
        found = await super().ready(priority, lane, after=after, limit=limit)
        if self.slow:
            self.asked.set()
            await self.answer.wait()
        return found


async def during_a_sweep(world: World) -> SlowLedger:
    """Has the ledger read slowly from now on, and forces a sweep at the next take."""
    ledger = SlowLedger()
    ledger.__dict__.update(world.ledger.__dict__)
    world.ledger = ledger
    world.queue._ledger = ledger
    world.queue._swept_at = None
    ledger.slow = True
    return ledger


async def test_task_leased_while_the_ledger_is_read():
    """The answer still names it; it is not handed out again."""
    world = World()
    tickets = await world.put(3)
    first = await world.take()
    ledger = await during_a_sweep(world)
    taken: list[Ticket] = []

    async def take() -> None:
        taken.append(await world.take())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        await ledger.asked.wait()
        await world.lease(first)
        ledger.answer.set()
    assert taken == [tickets[1]]
    ledger.slow = False
    assert await world.take() == tickets[2]
    world.check()


@pytest.mark.parametrize("burst", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("before", [0, 2, 4, 5, 9])
async def test_burst_while_the_ledger_is_read(before, burst):
    """Whatever arrives before the answer does, none is passed over: the order stays that of acceptance."""
    world = World(window=4)
    await world.put(before)
    ledger = await during_a_sweep(world)
    taken: list[Ticket] = []

    async def take() -> None:
        taken.append(await world.take())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        if before:
            await ledger.asked.wait()
        await world.put(burst)
        ledger.answer.set()
    ledger.slow = False
    await world.put(3)
    await world.lease(taken[0])
    taken += await world.work(world.made - 1)
    assert seqs(taken) == list(range(1, world.made + 1))
    world.check()


async def test_reading_that_is_broken_off():
    """A taker that goes away in the middle of a sweep leaves the queue in order for the next one."""
    world = World(window=4)
    tickets = await world.put(9, announce=False) + await world.put(9, lane="other|--|", announce=False)
    ledger = await during_a_sweep(world)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.take)
        await ledger.asked.wait()
        tickets += await world.put(3)
        tasks.cancel_scope.cancel()
    ledger.slow = False
    assert seqs(await world.work(21)) == seqs(tickets)


async def test_ledger_that_cannot_be_read():
    """The error comes out; afterwards all is found, without waiting for the next sweep."""
    world = World()
    tickets = await world.put(3, announce=False)

    async def fail(*_: object, **__: object) -> list[Ticket]:
        raise OSError("away")

    real, world.ledger.ready = world.ledger.ready, fail
    with pytest.raises(OSError, match="away"):
        await world.queue.take(world.routable)
    world.ledger.ready = real
    assert await world.work(3) == tickets


@pytest.mark.parametrize("lines", [1, 2, 3, 8])
@virtual_time
async def test_more_lanes_than_lines(lines):
    """They take turns; every task of every lane is taken, and memory holds no more lines than it may."""
    world = World(lines=lines, window=4, sweep_s=1.0)
    for number in range(20):
        await world.put(3, lane=f"type-{number:02}|--|")
    taken: list[Ticket] = []
    with anyio.fail_after(3600):
        for _ in range(60):
            ticket = await world.queue.take(world.routable)
            taken.append(ticket)
            await world.lease(ticket)
            world.check()
    assert sorted(seqs(taken)) == list(range(1, 61))


@virtual_time
async def test_more_lanes_without_agents_than_lines():
    """They do not keep the others out."""
    world = World(lines=4, window=4, sweep_s=1.0)
    for number in range(10):
        await world.put(3, URGENT, lane=f"nobody-{number}|--|")
        world.unroutable.add(f"nobody-{number}|--|")
    for _ in range(5):
        (ticket,) = await world.put(1)
        with anyio.fail_after(60):
            assert await world.queue.take(world.routable) == ticket
        await world.lease(ticket)


@virtual_time
async def test_lanes_that_come_and_go():
    """The turn goes on behind the place where the lane of the last turn stood, even when that lane is empty by now."""
    world = World(lines=4, window=4, sweep_s=1.0)
    for letter in "bdfhj":
        await world.put(2, lane=f"{letter}|--|")
    waiting = await world.put(1, lane="z|--|")
    world.unroutable = {f"{letter}|--|" for letter in "bdfhj"}
    with anyio.fail_after(60):
        assert [await world.queue.take(world.routable)] == waiting


@virtual_time
async def test_wake():
    """A taker that waits looks again at once when what is routable may have changed."""
    world = World(patience_s=1000.0, sweep_s=1000.0)
    world.unroutable = {LANE}
    tickets = await world.put(1)
    taken: list[Ticket] = []

    async def take() -> None:
        taken.append(await world.queue.take(world.routable))

    async with anyio.create_task_group() as tasks:
        began = anyio.current_time()
        tasks.start_soon(take)
        await anyio.sleep(0.1)
        assert taken == []
        world.unroutable = set()
        world.queue.wake()
    assert taken == tickets
    assert anyio.current_time() - began < 1.0


@virtual_time
async def test_time_alone_brings_an_agent_back():
    """Nobody needs to wake the taker: it looks again after its patience."""
    world = World(patience_s=1.0, sweep_s=1000.0)
    await world.put(1)
    began = anyio.current_time()
    await world.queue.take(lambda ticket: anyio.current_time() >= began + 10.0)
    assert 10.0 <= anyio.current_time() - began <= 11.0


async def test_taker_that_waits():
    """A task that is announced goes to it at once; one goes to one taker only."""
    world = World(patience_s=1000.0)
    taken: list[Ticket] = []
    put: list[Ticket] = []

    async def take() -> None:
        taken.append(await world.take())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        tasks.start_soon(take)
        for _ in range(2):
            await wait_all_tasks_blocked()
            assert taken == put
            put += await world.put(1)
    assert taken == put


async def test_task_that_waits_for_its_time():
    """It has no ticket before."""
    world = World()
    await stored(world.ledger, accept(90, progress=Progress(due_at=NOW + 5.0)))
    tickets = await world.put(1)
    assert await world.take() == tickets[0]
    assert world.held() == 0


async def test_oldest():
    """Per class, since when its longest waiting task has been ready; classes without work are left out."""
    world = World()
    await world.put(1, LOW)
    world.clock.now += 5.0
    await world.put(1, LOW)
    await world.put(2, URGENT)
    await world.work(1)
    assert world.queue.oldest() == {LOW: NOW, URGENT: NOW + 5.0}


async def test_work_that_comes_behind_what_nobody_can_do():
    """Who waits has looked at the first of that line, and is not woken for those behind it."""
    world = World()
    world.unroutable = {LANE}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.take)
        await wait_all_tasks_blocked()
        await world.put(5)
        await wait_all_tasks_blocked()
        await world.put(5)
        await wait_all_tasks_blocked()
        looked = len(world.asked)
        await world.put(5, lane="another")
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert looked == 1
    assert {ticket.lane for ticket in world.asked} == {LANE, "another"}


@pytest.mark.parametrize("taken", ["and done with", "and given back"])
async def test_first_of_a_line_taken_by_another(taken):
    """The one that is first then is looked at by who waits, as soon as one more comes."""
    world = World()
    first, second, *_ = await world.put(3)
    found: list[Ticket] = []

    async def wait_for_more() -> None:
        found.append(await world.queue.take(lambda ticket: ticket.seq != first.seq or came_back))

    came_back = False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait_for_more)
        await wait_all_tasks_blocked()
        await world.put()
        await wait_all_tasks_blocked()
        ticket = world.queue.take_now(world.routable)
        assert ticket is not None
        if taken == "and done with":
            world.queue.done(first)
            await world.put()
        else:
            came_back = True
            world.queue.give_back(ticket)
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert found == [second if taken == "and done with" else first]
