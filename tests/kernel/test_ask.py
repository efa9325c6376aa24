from dataclasses import dataclass
from functools import partial

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from orchestrator.kernel.errors import ActorCrashed, AskTimeout, NotDelivered
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.kernel.reply import Reply, Request

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, slots=True)
class Double(Request[int]):
    reply: Reply[int]
    number: int


class HandlerSaysNo(Exception):
    pass


async def test_answered_request(tree):
    """`ask` returns what the actor sent."""

    async def double(inbox: Inbox[Double]) -> None:
        inbox.ready()
        async for request in inbox:
            request.reply.send(request.number * 2)

    ref = tree.child("doubler", double).ref
    supervisor = tree.supervisor()
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        assert await ref.ask(partial(Double, number=21), within=5) == 42
        assert await ref.ask(lambda reply: Double(reply, 4), within=5) == 8
        supervisor.stop()


async def test_handler_says_no():
    """`ask` raises the very error that the actor gave to the reply."""
    mailbox = Mailbox[Double]("doubler", 1)

    async def refuse():
        (request,) = await Inbox(mailbox).take(1)
        request.reply.fail(HandlerSaysNo())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refuse)
        with pytest.raises(HandlerSaysNo):
            await mailbox.ref.ask(partial(Double, number=1), within=5)


async def test_mailbox_full_at_ask():
    """It fails at once with `NotDelivered`, without waiting for room."""
    mailbox = Mailbox[Double]("doubler", 1)
    mailbox.post(Double(Reply(), 1))
    with pytest.raises(NotDelivered):
        await mailbox.ref.ask(partial(Double, number=1), within=5)


async def test_no_answer_in_time():
    """`ask` gives up with `AskTimeout`; the request stays in the mailbox and can still be answered, to nobody."""
    mailbox = Mailbox[Double]("doubler", 1)
    with pytest.raises(AskTimeout, match="doubler"):
        await mailbox.ref.ask(partial(Double, number=1), within=0)
    (request,) = mailbox.take_waiting(1)
    assert request.reply.send(2)


async def test_asker_goes_away(tree):
    """The command completes although nobody waits for its answer any more."""
    gate, done = anyio.Event(), anyio.Event()

    async def slow(inbox: Inbox[Double]) -> None:
        inbox.ready()
        async for request in inbox:
            await gate.wait()
            request.reply.send(request.number * 2)
            done.set()

    ref = tree.child("doubler", slow).ref
    supervisor = tree.supervisor()
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        async with anyio.create_task_group() as asker:
            asker.start_soon(partial(ref.ask, partial(Double, number=1), within=5))
            await wait_all_tasks_blocked()
            asker.cancel_scope.cancel()
        gate.set()
        await done.wait()
        supervisor.stop()


async def test_actor_crashes_with_a_request_in_hand(tree):
    """Its asker gets `ActorCrashed`, which names the actor and nothing of the error."""

    async def crash(inbox: Inbox[Double]) -> None:
        inbox.ready()
        async for _ in inbox:
            raise RuntimeError("a patient's name")

    ref = tree.child("doubler", crash).ref
    supervisor = tree.supervisor()
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        with pytest.raises(ActorCrashed) as caught:
            await ref.ask(partial(Double, number=1), within=5)
        supervisor.stop()
    assert caught.value.actor == "doubler"
    assert caught.value.__cause__ is caught.value.__context__ is None


async def test_actor_crashes_over_a_request_that_a_spawned_task_works_on(tree):
    """That asker gets `ActorCrashed` as well, although the actor had long asked for the next message."""

    async def spawn(inbox: Inbox[Double]) -> None:
        inbox.ready()
        async with anyio.create_task_group() as tasks:
            async for request in inbox:
                if request.number < 0:
                    raise RuntimeError
                tasks.start_soon(anyio.sleep_forever)

    ref = tree.child("doubler", spawn).ref
    supervisor = tree.supervisor()
    crashed: list[int] = []

    async def ask(number: int) -> None:
        with pytest.raises(ActorCrashed):
            await ref.ask(partial(Double, number=number), within=5)
        crashed.append(number)

    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        async with anyio.create_task_group() as askers:
            askers.start_soon(ask, 1)
            await wait_all_tasks_blocked()
            askers.start_soon(ask, -1)
        supervisor.stop()
    assert sorted(crashed) == [-1, 1]


async def test_actor_returns_without_answering(tree):
    """Ending is ending: its asker gets `ActorCrashed`, not a timeout."""

    async def forget(inbox: Inbox[Double]) -> None:
        inbox.ready()
        async for _ in inbox:
            return

    ref = tree.child("doubler", forget).ref
    supervisor = tree.supervisor()
    async with anyio.create_task_group() as tasks:
        await tasks.start(supervisor.run)
        with pytest.raises(ActorCrashed):
            await ref.ask(partial(Double, number=1), within=5)
        supervisor.stop()


async def test_two_answers():
    """The first wins; who answers too late is told so."""
    reply = Reply[int]()
    assert reply.send(1)
    assert not reply.send(2)
    assert not reply.fail(HandlerSaysNo())
    assert await reply.wait() == 1


async def test_unanswered_requests():
    """An inbox remembers those that it handed out, and no longer than until they are answered."""
    mailbox = Mailbox[Double]("doubler", 8)
    inbox = Inbox(mailbox)
    answered, open_ = Reply[int](), Reply[int]()
    mailbox.post(Double(answered, 1))
    mailbox.post(Double(open_, 2))
    await inbox.take(2)
    assert repr(inbox) == "<Inbox doubler 2 unanswered>"
    answered.send(2)
    assert repr(inbox) == "<Inbox doubler 1 unanswered>"
    inbox.abandon()
    assert repr(inbox) == "<Inbox doubler 0 unanswered>"
    assert await answered.wait() == 2
    with pytest.raises(ActorCrashed):
        await open_.wait()
