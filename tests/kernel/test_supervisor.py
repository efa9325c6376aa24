"""Start, stop and restarts, without any time passing: on both event loops."""

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from orchestrator.kernel.errors import Fatal, KernelError, NotDelivered, RestartsExhausted
from orchestrator.kernel.events import ActorFailed, ActorRestarting, ActorStarted, ActorStopped, SupervisorGaveUp
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.restart import Intensity
from orchestrator.kernel.supervisor import Restart, State, Strategy
from orchestrator.testing import stress_start_stop

pytestmark = pytest.mark.anyio


async def up(tasks, supervisor):
    await tasks.start(supervisor.run)
    return supervisor


async def fault(supervisor, act):
    """Does `act` when the supervisor is up, and returns what its `run` raises in the end."""
    raised: list[KernelError] = []

    async def run(*, task_status):
        try:
            await supervisor.run(task_status=task_status)
        except KernelError as error:
            raised.append(error)

    async with anyio.create_task_group() as tasks:
        await tasks.start(run)
        act()
    return raised.pop()


async def test_start_and_stop(tree):
    """Children start in order and stop in reverse."""
    for name in "abc":
        tree.child(name)
    async with anyio.create_task_group() as tasks:
        supervisor = await up(tasks, tree.supervisor())
        assert tree.log == ["a+", "b+", "c+"]
        assert [child.state for child in supervisor.status()] == [State.RUNNING] * 3
        supervisor.stop()
    assert tree.log == ["a+", "b+", "c+", "c-", "b-", "a-"]
    assert tree.events == [*map(ActorStarted, "abc"), *(ActorStopped(name, "clean") for name in "cba")]
    assert [child.state for child in supervisor.status()] == [State.STOPPED] * 3


async def test_child_that_is_not_ready_yet(tree):
    """The next one is not started before it is."""
    gate = anyio.Event()

    async def slow(inbox: Inbox[object]) -> None:
        await gate.wait()
        await tree.serve("a", inbox)

    tree.child("a", slow)
    tree.child("b")
    supervisor = tree.supervisor()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        await wait_all_tasks_blocked()
        assert tree.log == []
        assert [child.state for child in supervisor.status()] == [State.STARTING, State.WAITING]
        gate.set()
        await wait_all_tasks_blocked()
        assert tree.log == ["a+", "b+"]
        supervisor.stop()


async def test_stop_with_messages_waiting(tree):
    """They are drained: what was in the mailbox is handled."""
    mailbox = tree.child("a")
    async with anyio.create_task_group() as tasks:
        supervisor = await up(tasks, tree.supervisor())
        for number in range(5):
            mailbox.ref.tell(number)
        supervisor.stop()
    assert tree.log == ["a+", "a:0", "a:1", "a:2", "a:3", "a:4", "a-"]


async def test_message_after_the_stop(tree):
    """It is refused: nobody would ever handle it."""
    mailbox = tree.child("a")
    async with anyio.create_task_group() as tasks:
        (await up(tasks, tree.supervisor())).stop()
    with pytest.raises(NotDelivered, match="closed"):
        mailbox.ref.tell("late")


async def test_crash_with_messages_waiting(tree):
    """The message in hand is lost with the actor; those in the mailbox are handled by the next incarnation."""
    mailbox = tree.child("a")
    async with anyio.create_task_group() as tasks:
        supervisor = await up(tasks, tree.supervisor())
        for message in (1, KeyError("private"), 2, 3):
            mailbox.ref.tell(message)
        await wait_all_tasks_blocked()
        assert tree.log == ["a+", "a:1", "a+", "a:2", "a:3"]
        (status,) = supervisor.status()
        assert (status.restarts, status.last_error, status.state) == (1, "KeyError", State.RUNNING)
        supervisor.stop()
    assert tree.events[1:4] == [ActorFailed("a", "KeyError"), ActorRestarting("a", 0.0), ActorStarted("a")]


async def test_rest_for_one(tree):
    """Those after the one that failed are stopped in reverse and started again in order; those before go on."""
    boxes = {name: tree.child(name) for name in "abcd"}
    async with anyio.create_task_group() as tasks:
        supervisor = await up(tasks, tree.supervisor(strategy=Strategy.REST_FOR_ONE))
        tree.log.clear()
        boxes["b"].ref.tell(KeyError())
        await wait_all_tasks_blocked()
        assert tree.log == ["d-", "c-", "b+", "c+", "d+"]
        assert [child.restarts for child in supervisor.status()] == [0, 1, 1, 1]
        supervisor.stop()


async def test_one_for_one(tree):
    """Only the one that failed is started again."""
    boxes = {name: tree.child(name) for name in "abc"}
    async with anyio.create_task_group() as tasks:
        supervisor = await up(tasks, tree.supervisor(strategy=Strategy.ONE_FOR_ONE))
        tree.log.clear()
        boxes["a"].ref.tell(KeyError())
        await wait_all_tasks_blocked()
        assert tree.log == ["a+"]
        supervisor.stop()


async def test_dependant_restarted_with_messages_waiting(tree):
    """It ends at once and leaves them to its next incarnation."""
    gate = anyio.Event()

    async def gated(inbox: Inbox[object]) -> None:
        inbox.ready()
        async for message in inbox:
            tree.log.append(f"b:{message}")
            await gate.wait()
        tree.log.append("b-")

    first = tree.child("a")
    second = tree.child("b", gated)
    async with anyio.create_task_group() as tasks:
        supervisor = await up(tasks, tree.supervisor())
        second.ref.tell(1)
        second.ref.tell(2)
        await wait_all_tasks_blocked()
        first.ref.tell(KeyError())
        await wait_all_tasks_blocked()
        gate.set()
        await wait_all_tasks_blocked()
        assert tree.log == ["a+", "b:1", "b-", "a+", "b:2"]
        supervisor.stop()


async def test_two_fail_in_the_same_step(tree):
    """One restart serves both, and both are reported."""
    boxes = {name: tree.child(name) for name in "ab"}
    async with anyio.create_task_group() as tasks:
        supervisor = await up(tasks, tree.supervisor(intensity=Intensity(restarts=2)))
        boxes["a"].ref.tell(KeyError())
        boxes["b"].ref.tell(OSError())
        await wait_all_tasks_blocked()
        assert [child.last_error for child in supervisor.status()] == ["KeyError", "OSError"]
        assert [child.state for child in supervisor.status()] == [State.RUNNING] * 2
        supervisor.stop()


async def once(inbox: Inbox[object]) -> None:
    """Handles one message and returns."""
    inbox.ready()
    async for message in inbox:
        if isinstance(message, Exception):
            raise message
        return


async def test_permanent_child_returns(tree):
    """That is a failure, and it is started again."""
    mailbox = tree.child("a", once)
    async with anyio.create_task_group() as tasks:
        supervisor = await up(tasks, tree.supervisor())
        mailbox.ref.tell("done")
        await wait_all_tasks_blocked()
        (status,) = supervisor.status()
        assert (status.state, status.restarts, status.last_error) == (State.RUNNING, 1, "Returned")
        supervisor.stop()


async def test_transient_child_returns(tree):
    """It has finished: it is not started again, its mailbox refuses, and the others do not mind."""
    first = tree.child("a")
    second = tree.child("b", once, restart=Restart.TRANSIENT)
    tree.child("c")
    async with anyio.create_task_group() as tasks:
        supervisor = await up(tasks, tree.supervisor())
        second.ref.tell("done")
        await wait_all_tasks_blocked()
        with pytest.raises(NotDelivered):
            second.ref.tell("more")
        first.ref.tell(KeyError())
        await wait_all_tasks_blocked()
        assert [child.state for child in supervisor.status()] == [State.RUNNING, State.FINISHED, State.RUNNING]
        assert [child.restarts for child in supervisor.status()] == [1, 0, 1]
        supervisor.stop()
    assert ActorStopped("b", "clean") in tree.events


async def test_transient_child_crashes(tree):
    """It is started again."""
    mailbox = tree.child("a", once, restart=Restart.TRANSIENT)
    async with anyio.create_task_group() as tasks:
        supervisor = await up(tasks, tree.supervisor())
        mailbox.ref.tell(KeyError())
        await wait_all_tasks_blocked()
        assert [(child.state, child.restarts) for child in supervisor.status()] == [(State.RUNNING, 1)]
        supervisor.stop()


async def test_too_many_failures(tree):
    """The third in the period gives up: everything that runs is stopped in reverse, then `run` raises."""
    boxes = {name: tree.child(name) for name in "abc"}
    supervisor = tree.supervisor()

    def act():
        for _ in range(3):
            boxes["b"].ref.tell(KeyError("private"))

    error = await fault(supervisor, act)
    assert isinstance(error, RestartsExhausted)
    assert (error.child, error.restarts) == ("b", 2)
    assert "private" not in str(error)
    assert error.__cause__ is error.__context__ is None
    assert tree.log[-1] == "a-"
    gave_up = tree.events.index(SupervisorGaveUp("b", "RestartsExhausted"))
    assert tree.events[gave_up + 1 :][-1] == ActorStopped("a", "clean")
    assert [child.state for child in supervisor.status()] == [State.STOPPED, State.FAILED, State.STOPPED]


async def test_actor_that_cannot_be_made(tree):
    """Its factory's error is a crash like any other."""
    tree.child("a")

    def start():
        raise OSError

    tree.children[0] = type(tree.children[0])("a", tree.children[0].mailbox, start)
    with pytest.raises(RestartsExhausted):
        await tree.supervisor().run()
    assert tree.events[0] == ActorFailed("a", "OSError")


class Corrupt(Fatal):
    pass


class Worse(Fatal):
    pass


@pytest.mark.parametrize("error", [Corrupt(), ExceptionGroup("", [KeyError(), ExceptionGroup("", [Corrupt()])])])
async def test_fatal_error(tree, error):
    """There is no restart, in a group or not: the tree stops and `run` raises the error itself."""
    boxes = {name: tree.child(name) for name in "abc"}
    supervisor = tree.supervisor()
    assert isinstance(await fault(supervisor, lambda: boxes["b"].ref.tell(error)), Corrupt)
    assert tree.events[3:] == [
        ActorFailed("b", "Corrupt"),
        SupervisorGaveUp("b", "Corrupt"),
        ActorStopped("c", "clean"),
        ActorStopped("a", "clean"),
    ]


async def test_fatal_error_during_the_stop(tree):
    """It is not lost: `run` raises it after all have been stopped."""
    boxes = {name: tree.child(name) for name in "ab"}
    supervisor = tree.supervisor()

    def act():
        boxes["b"].ref.tell(1)
        boxes["b"].ref.tell(Corrupt())
        supervisor.stop()

    assert isinstance(await fault(supervisor, act), Corrupt)
    assert tree.log[-2:] == ["b:1", "a-"]


@pytest.mark.parametrize("first", [[KeyError()] * 3, [Worse()]])
async def test_fatal_error_after_the_supervisor_gave_up(tree, first):
    """A fatal error counts more than a child that failed too often; of two fatal errors the first counts."""
    boxes = {name: tree.child(name) for name in "ab"}

    def observe(event):
        tree.events.append(event)
        if isinstance(event, SupervisorGaveUp) and event.actor == "b":
            boxes["a"].ref.tell(Corrupt())

    supervisor = tree.supervisor(strategy=Strategy.ONE_FOR_ONE, observe=observe)
    error = await fault(supervisor, lambda: [boxes["b"].ref.tell(error) for error in first])
    assert type(error) is (Worse if isinstance(first[0], Worse) else Corrupt)
    assert SupervisorGaveUp("a", "Corrupt") in tree.events


async def test_error_in_a_task_group_of_the_actor(tree):
    """The class of a single error is reported, not that of the group around it."""

    async def grouped(inbox: Inbox[object]) -> None:
        inbox.ready()
        async with anyio.create_task_group():
            async for _ in inbox:
                raise KeyError

    mailbox = tree.child("a", grouped)
    async with anyio.create_task_group() as tasks:
        supervisor = await up(tasks, tree.supervisor())
        mailbox.ref.tell("go")
        await wait_all_tasks_blocked()
        supervisor.stop()
    assert tree.events[1] == ActorFailed("a", "KeyError")


async def test_run_is_cancelled(tree):
    """All children are cancelled, the last first, although one hangs; nothing is left and nothing is restarted."""
    boxes = {name: tree.child(name) for name in "abc"}
    supervisor = tree.supervisor()
    async with anyio.create_task_group() as tasks:
        await up(tasks, supervisor)
        boxes["b"].ref.tell("hang")
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert tree.log == ["a+", "b+", "c+", "c!", "b!", "a!"]
    assert {child.state for child in supervisor.status()} == {State.STOPPED}
    assert tree.events[-1] == ActorStopped("a", "cancelled")
    with pytest.raises(NotDelivered, match="closed"):
        boxes["c"].ref.tell("late")


async def test_actor_raises_when_run_is_cancelled(tree):
    """The cancellation goes on as one; the error is reported and does not leave `run`."""

    async def clumsy(inbox: Inbox[object]) -> None:
        inbox.ready()
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyError("private")

    tree.child("a", clumsy)
    async with anyio.create_task_group() as tasks:
        await up(tasks, tree.supervisor())
        tasks.cancel_scope.cancel()
    assert tree.events[-1] == ActorFailed("a", "KeyError")


async def test_stop_before_run(tree):
    """Nothing is started."""
    tree.child("a")
    supervisor = tree.supervisor()
    supervisor.stop()
    await supervisor.run()
    assert tree.log == []


async def test_any_order_of_start_and_stop(tree):
    """No child is ever left behind, and no end hangs."""

    def make():
        tree.children.clear()
        boxes = {name: tree.child(name) for name in "abc"}
        boxes["b"].ref.tell(1)
        boxes["b"].ref.tell(KeyError())
        boxes["c"].ref.tell(2)
        return tree.supervisor()

    await stress_start_stop(make)
    started, ended = (sum(entry.endswith(mark) for entry in tree.log) for mark in ("+", ("-", "!")))
    crashed = tree.events.count(ActorFailed("b", "KeyError"))
    assert started == ended + crashed


async def test_stress_finds_a_supervisor_that_leaves_a_child(tree):
    """The stress itself is not blind."""

    def make():
        tree.children.clear()
        tree.child("a")
        supervisor = tree.supervisor()
        supervisor.status = lambda: [
            type(status)("a", State.RUNNING, 0, 0, 0, 0, None) for status in type(supervisor).status(supervisor)
        ]
        return supervisor

    with pytest.raises(AssertionError, match="left"):
        await stress_start_stop(make)


async def test_whether_it_is_well(tree):
    """It is while every child is up, and while it stops: not before the start, nor while one that failed is away."""
    broken, gate = anyio.Event(), anyio.Event()
    lives: list[int] = []

    async def once(inbox: Inbox[object]) -> None:
        lives.append(1)
        if len(lives) == 1:
            inbox.ready()
            await broken.wait()
            raise ZeroDivisionError
        await gate.wait()
        await tree.serve("a", inbox)

    tree.child("a", once)
    tree.child("b")
    supervisor = tree.supervisor()
    assert not supervisor.well()
    async with anyio.create_task_group() as tasks:
        await up(tasks, supervisor)
        assert supervisor.well()
        broken.set()
        await wait_all_tasks_blocked()
        assert not supervisor.well()
        gate.set()
        await wait_all_tasks_blocked()
        assert supervisor.well()
        supervisor.stop()
        assert supervisor.well()
