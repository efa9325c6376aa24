"""Everything about time, in virtual time."""

import time
from dataclasses import dataclass
from functools import partial

import anyio
import pytest

from orchestrator.kernel.environment import Environment
from orchestrator.kernel.errors import ActorCrashed, AskTimeout, Fatal, NotDelivered, RestartsExhausted, Stuck
from orchestrator.kernel.events import ActorFailed, ActorRestarting, ActorStarted, ActorStopped
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.kernel.reply import Reply, Request
from orchestrator.kernel.restart import Backoff, Intensity
from orchestrator.kernel.supervisor import State
from orchestrator.testing import stress_start_stop, virtual_environment

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock):
    return virtual_clock


@dataclass(frozen=True, slots=True)
class Work(Request[str]):
    reply: Reply[str]
    seconds: float


async def worker(inbox: Inbox[Work]) -> None:
    """Takes as long over a request as it says, without a sign of progress; a negative time is too much for it."""
    inbox.ready()
    async for request in inbox:
        await anyio.sleep(request.seconds)
        request.reply.send("done")


async def test_ask_has_a_deadline():
    """`ask` waits exactly so long."""
    begin = anyio.current_time()
    with pytest.raises(AskTimeout):
        await Mailbox[Work]("worker", 1).ref.ask(partial(Work, seconds=1), within=5.0)
    assert anyio.current_time() - begin == pytest.approx(5.0)


async def test_asks_of_a_running_actor_have_a_deadline_each(tree):
    """One timer serves them all; each waits exactly as long as it said, in whatever order they came."""
    ref = tree.child("a", worker, stall_after=100.0).ref
    supervisor = tree.supervisor()
    waited: dict[float, float] = {}

    async def ask(begin: float, within: float) -> None:
        await anyio.sleep(begin)
        with pytest.raises(AskTimeout):
            await ref.ask(partial(Work, seconds=50), within=within)
        waited[within] = anyio.current_time() - began

    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        began = anyio.current_time()
        async with anyio.create_task_group() as askers:
            for begin, within in [(0, 5), (0, 9), (0, 3), (1, 1), (4, 4), (4, 0)]:
                askers.start_soon(ask, begin, within)
        supervisor.stop()
    assert waited == {5: 5, 9: 9, 3: 3, 1: 2, 4: 8, 0: 4}


async def test_an_answer_that_comes_in_time(tree):
    """Its asker gets it, though others have given up before; a cancelled ask leaves nothing behind."""
    mailbox = tree.child("a", worker, stall_after=100.0)
    supervisor = tree.supervisor()
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        with pytest.raises(AskTimeout):
            await mailbox.ref.ask(partial(Work, seconds=2), within=1)
        with anyio.move_on_after(0.5):
            await mailbox.ref.ask(partial(Work, seconds=2), within=9)
        assert await mailbox.ref.ask(partial(Work, seconds=2), within=9) == "done"
        assert mailbox.deadlines.waiting == 0
        supervisor.stop()


async def test_stalled_child(tree):
    """No progress with a message in hand is a crash: it is cancelled, its asker is told, and it is started again."""
    ref = tree.child("a", worker, stall_after=10.0).ref
    supervisor = tree.supervisor()
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        begin = anyio.current_time()
        with pytest.raises(ActorCrashed):
            await ref.ask(partial(Work, seconds=3600), within=60)
        assert 10.0 <= anyio.current_time() - begin <= 12.5
        assert await ref.ask(partial(Work, seconds=1), within=60) == "done"
        supervisor.stop()
    assert tree.events[1:4] == [ActorFailed("a", "Stalled"), ActorRestarting("a", 0.0), ActorStarted("a")]


async def test_stalled_child_with_work_of_its_own(tree):
    """Work that did not come as a message counts as well, once the actor has said that it has some."""

    async def digger(inbox: Inbox[object]) -> None:
        inbox.ready()
        await anyio.sleep(3600)
        inbox.at_work(True)
        await anyio.sleep(5)
        inbox.at_work(False)
        await anyio.sleep(3600)
        inbox.at_work(True)
        await anyio.sleep_forever()

    tree.child("a", digger, stall_after=10.0)
    supervisor = tree.supervisor()
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        await anyio.sleep(7205 + 9)
        assert tree.events == [ActorStarted("a")]
        await anyio.sleep(5)
        supervisor.stop()
    assert tree.events[1:4] == [ActorFailed("a", "Stalled"), ActorRestarting("a", 0.0), ActorStarted("a")]


async def test_work_waits_for_a_child_that_does_not_read(tree):
    """Messages that nobody takes are a stall too; it counts from when they came, not from when the child was idle."""
    mailbox = tree.child("a", idle, stall_after=10.0)
    async with anyio.create_task_group() as tasks:
        supervisor = tree.supervisor(intensity=Intensity(restarts=100))
        await tasks.start(supervisor.run)
        await anyio.sleep(3600)
        assert tree.events == [ActorStarted("a")]
        mailbox.ref.tell("work")
        await anyio.sleep(9.9)
        assert tree.events == [ActorStarted("a")]
        await anyio.sleep(5)
        assert tree.events[1] == ActorFailed("a", "Stalled")
        supervisor.stop()


async def idle(inbox: Inbox[object]) -> None:
    inbox.ready()
    await inbox.wait_stopping()


async def test_busy_child_that_shows_progress(tree):
    """It may take as long as it wants."""

    async def busy(inbox: Inbox[Work]) -> None:
        inbox.ready()
        async for request in inbox:
            for _ in range(int(request.seconds)):
                await anyio.sleep(1)
                inbox.progress()
            request.reply.send("done")

    ref = tree.child("a", busy, stall_after=2.0).ref
    supervisor = tree.supervisor()
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        assert await ref.ask(partial(Work, seconds=600), within=1000) == "done"
        supervisor.stop()
    assert tree.events == [ActorStarted("a"), ActorStopped("a", "clean")]


async def test_child_that_waits_for_another(tree):
    """An ask has its own deadline, below the stall's: waiting in it is not a stall."""
    downstream = Mailbox[Work]("downstream", 1)

    async def asker(inbox: Inbox[Work]) -> None:
        inbox.ready()
        async for request in inbox:
            try:
                await downstream.ref.ask(partial(Work, seconds=0), within=9.0)
            except AskTimeout:
                request.reply.send("too slow")

    ref = tree.child("a", asker, stall_after=10.0).ref
    supervisor = tree.supervisor()
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        assert await ref.ask(partial(Work, seconds=0), within=60) == "too slow"
        supervisor.stop()
    assert len(tree.events) == 2


async def test_idle_child(tree):
    """Waiting for a message is not a stall, however long."""
    tree.child("a")
    supervisor = tree.supervisor()
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        await anyio.sleep(86_400)
        supervisor.stop()
    assert len(tree.events) == 2


async def test_child_that_is_never_ready(tree):
    """Each of its starts fails after `start_within`, until the supervisor gives up."""

    async def mute(_: Inbox[object]) -> None:
        await anyio.sleep_forever()

    tree.child("a", mute, start_within=4.0)
    begin = anyio.current_time()
    with pytest.raises(RestartsExhausted):
        await tree.supervisor().run()
    assert 12.0 <= anyio.current_time() - begin <= 15.0
    assert tree.events[0] == ActorFailed("a", "NotReady")


async def test_stop_during_the_start(tree):
    """It does not wait for a child that is still starting any longer than for one that is stopping."""

    async def mute(_: Inbox[object]) -> None:
        await anyio.sleep_forever()

    tree.child("a")
    tree.child("b", mute, stop_within=2.0)
    supervisor = tree.supervisor()
    begin = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(1)
        supervisor.stop()
    assert anyio.current_time() - begin == pytest.approx(3.0)
    assert tree.events == [ActorStarted("a"), ActorStopped("b", "cancelled"), ActorStopped("a", "clean")]


async def test_child_that_does_not_stop(tree):
    """After its deadline it is cancelled; those before it still get all of theirs. What it left is refused."""
    tree.child("a")
    mailbox = tree.child("b", worker, stop_within=3.0)
    supervisor = tree.supervisor()
    left = Reply[str]()
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        mailbox.ref.tell(Work(Reply(), 3600))
        mailbox.ref.tell(Work(left, 1))
        await anyio.sleep(1)
        begin = anyio.current_time()
        supervisor.stop()
    assert anyio.current_time() - begin == pytest.approx(3.0)
    assert tree.events[-2:] == [ActorStopped("b", "cancelled"), ActorStopped("a", "clean")]
    with pytest.raises(NotDelivered):
        await left.wait()


async def test_dependant_that_does_not_stop_for_a_restart(tree):
    """It gets the grace and no more, then it is cancelled and started again."""
    first = tree.child("a")
    second = tree.child("b", worker)
    supervisor = tree.supervisor(restart_grace=1.0)
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        second.ref.tell(Work(Reply(), 8))
        await anyio.sleep(1)
        begin = anyio.current_time()
        first.ref.tell(KeyError())
        await anyio.sleep(2)
        assert [child.state for child in supervisor.status()] == [State.RUNNING] * 2
        assert await second.ref.ask(partial(Work, seconds=0), within=1) == "done"
        assert anyio.current_time() - begin == pytest.approx(2.0)
        supervisor.stop()
    assert ActorStopped("b", "cancelled") in tree.events


async def stubborn(inbox: Inbox[object]) -> None:
    """Ignores its cancellation for a minute."""
    inbox.ready()
    with anyio.CancelScope(shield=True):
        await anyio.sleep(60)


async def test_child_that_ignores_its_cancellation(tree):
    """It does not hold up the stop of the others, and `run` ends with `Stuck` when it has ended at last."""
    tree.child("a")
    tree.child("b", stubborn, stop_within=2.0)
    supervisor = tree.supervisor()
    begin = anyio.current_time()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with anyio.create_task_group() as tasks:
            await tasks.start(supervisor.run)
            supervisor.stop()
            await anyio.sleep(5)
            assert [child.state for child in supervisor.status()] == [State.STOPPED, State.FAILED]
    assert caught.group_contains(Stuck)
    assert anyio.current_time() - begin == pytest.approx(60.0)


async def test_stalled_child_that_ignores_its_cancellation(tree):
    """It is not started a second time beside itself: the whole tree stops."""
    tree.child("a")
    mailbox = tree.child("b", stubborn, stall_after=4.0, stop_within=2.0)
    mailbox.ref.tell("work")
    with pytest.raises(Stuck):
        await tree.supervisor().run()
    assert [child.restarts for child in tree.supervisor().status()] == [0, 0]
    assert ActorStopped("a", "clean") in tree.events


class Corrupt(Fatal):
    pass


async def test_drain_after_the_actor_below_died(tree):
    """Who asks it is refused at once and not held up: nobody will start it again."""
    first = tree.child("a")
    refused: list[float] = []

    async def dependant(inbox: Inbox[str]) -> None:
        inbox.ready()
        await inbox.wait_stopping()
        async for _ in inbox:
            with pytest.raises(NotDelivered):
                await first.ref.ask(partial(Work, seconds=0), within=5.0)
            refused.append(anyio.current_time())

    second = tree.child("b", dependant)
    second.ref.tell("one")
    second.ref.tell("two")
    begin = anyio.current_time()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with anyio.create_task_group() as tasks:
            await tasks.start(tree.supervisor().run)
            first.ref.tell(Corrupt())
    assert caught.group_contains(Corrupt)
    assert refused == [begin, begin]


async def test_any_order_of_start_and_stop_with_a_child_that_hangs(tree):
    """No child is ever left behind: those that do not stop are cancelled."""

    def make():
        tree.children.clear()
        boxes = {name: tree.child(name) for name in "abc"}
        boxes["b"].ref.tell(KeyError())
        boxes["c"].ref.tell("hang")
        return tree.supervisor()

    await stress_start_stop(make)
    assert "c!" in tree.log
    assert sum(entry.endswith("+") for entry in tree.log) == sum(
        entry.endswith(("-", "!")) for entry in tree.log
    ) + tree.events.count(ActorFailed("b", "KeyError"))


async def test_fatal_error_of_a_dependant_that_is_stopped_for_a_restart(tree):
    """The restart is off, and not announced: the tree stops."""

    async def dependant(inbox: Inbox[object]) -> None:
        inbox.ready()
        await inbox.wait_stopping()
        raise Corrupt

    first = tree.child("a")
    tree.child("b", dependant)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with anyio.create_task_group() as tasks:
            await tasks.start(tree.supervisor().run)
            first.ref.tell(KeyError())
    assert caught.group_contains(Corrupt)
    assert not any(isinstance(event, ActorRestarting) for event in tree.events)


async def test_backoff(tree):
    """The restart comes after the announced delay, and messages wait for it."""
    ref = tree.child("a", worker).ref
    supervisor = tree.supervisor(backoff=Backoff(base=8.0, cap=8.0))
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        begin = anyio.current_time()
        with pytest.raises(ActorCrashed):
            await ref.ask(partial(Work, seconds=-1), within=1)
        assert await ref.ask(partial(Work, seconds=0), within=10) == "done"
        (restarting,) = (event for event in tree.events if isinstance(event, ActorRestarting))
        assert 0.1 < restarting.delay <= 8.0
        assert anyio.current_time() - begin == pytest.approx(restarting.delay)
        supervisor.stop()


async def test_stop_during_the_backoff(tree):
    """It does not wait for the delay."""
    mailbox = tree.child("a")
    supervisor = tree.supervisor(backoff=Backoff(base=3600.0, cap=3600.0))
    begin = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        mailbox.ref.tell(KeyError())
        await anyio.sleep(1)
        supervisor.stop()
    assert anyio.current_time() - begin == pytest.approx(1.0)


async def test_failures_far_apart(tree):
    """They never add up, however many they are."""
    mailbox = tree.child("a")
    supervisor = tree.supervisor()
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        for _ in range(20):
            mailbox.ref.tell(KeyError())
            await anyio.sleep(15.1)
        supervisor.stop()
    assert supervisor.status()[0].restarts == 20


async def test_virtual_environment():
    """Its clock begins at the epoch and follows the loop; the same seed gives the same run."""
    one, two, other = virtual_environment(1), virtual_environment(1), virtual_environment(2)
    assert one.now() == 1_700_000_000.0
    await anyio.sleep(90)
    assert one.now() == 1_700_000_090.0
    assert two.now() == 1_700_000_000.0
    assert one.token() == two.token() != other.token()
    assert one.random.random() == two.random.random() != other.random.random()


def test_real_environment():
    """It is the machine's: tokens are hex, of the asked length, and never the same."""
    environment = Environment.real()
    assert abs(environment.now() - time.time()) < 60
    assert len(environment.token(8)) == 16
    assert environment.token() != environment.token()


async def test_a_late_child_is_not_well(tree):
    """With work pending and no progress it is well until it counts as stalled, and again when it is back."""
    ref = tree.child("a", worker, stall_after=10.0).ref
    supervisor = tree.supervisor(backoff=Backoff(base=60.0, cap=60.0))
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        await anyio.sleep(3600)
        assert supervisor.well()
        with pytest.raises(AskTimeout):
            await ref.ask(partial(Work, seconds=100), within=9.0)
        assert supervisor.well()
        await anyio.sleep(4)
        assert not supervisor.well()
        await anyio.sleep(61)
        assert supervisor.well()
        supervisor.stop()
