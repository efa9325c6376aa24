import gc
from dataclasses import dataclass

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from orchestrator.kernel.errors import NotDelivered
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.kernel.reply import Reply, Request

pytestmark = pytest.mark.anyio


async def test_full_mailbox():
    """It refuses the message at once, and keeps those that it has."""
    mailbox = Mailbox[int]("router", 2)
    mailbox.ref.tell(1)
    mailbox.ref.tell(2)
    with pytest.raises(NotDelivered, match="router is full"):
        mailbox.ref.tell(3)
    assert mailbox.take_waiting(9) == [1, 2]


@dataclass(frozen=True, slots=True)
class Question(Request[int]):
    reply: Reply[int]


async def test_closed_mailbox():
    """It refuses new messages, and tells the askers whose requests were still waiting; closing twice is safe."""
    mailbox = Mailbox[Question]("router", 2)
    reply = Reply[int]()
    mailbox.post(Question(reply))
    mailbox.close()
    mailbox.close()
    with pytest.raises(NotDelivered, match="router is closed"):
        await reply.wait()
    with pytest.raises(NotDelivered, match="router is closed"):
        mailbox.ref.tell(Question(reply))


async def test_repr_and_measures():
    """Depth, capacity and the highest depth so far can be read, also in the repr."""
    mailbox = Mailbox[int]("router", 64)
    for number in range(17):
        mailbox.post(number)
    mailbox.take_waiting(14)
    assert (mailbox.depth, mailbox.capacity, mailbox.peak) == (3, 64, 17)
    assert repr(mailbox) == "<Mailbox router 3/64 peak 17>"
    assert repr(mailbox.ref) == "<Ref router>"


async def test_closed_while_somebody_waits():
    """Who waits for a message is told that none will come."""
    mailbox = Mailbox[int]("router", 1)

    async def close():
        await wait_all_tasks_blocked()
        mailbox.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close)
        with anyio.fail_after(5), pytest.raises(anyio.EndOfStream):
            await Inbox(mailbox).take(1)


async def test_full_mailbox_of_a_busy_actor():
    """However much waits for one, others have their turn between two messages."""
    mailbox, turns = Mailbox[int]("router", 8), list[int]()
    for number in range(8):
        mailbox.post(number)
    inbox = Inbox(mailbox)

    async def other():
        while len(turns) < 3:
            turns.append(mailbox.depth)
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        for _ in range(8):
            await inbox.take(1)
    # Trio draws lots for whose turn is first, so that there may be one message more.
    assert turns[2] >= 8 - 3 - 1


def test_no_room_at_all():
    """A mailbox without room would refuse everything: it is refused itself."""
    with pytest.raises(ValueError, match="room"):
        Mailbox[int]("router", 0)


def test_mailbox_dropped_unclosed():
    """It is only memory, so nothing warns of it (warnings are errors here), not even when it is part of a cycle."""
    mailbox = Mailbox[object]("router", 1)
    mailbox.post(mailbox)
    del mailbox
    gc.collect()


@pytest.mark.parametrize("cancel_first", [True, False])
@pytest.mark.parametrize("steps", range(4))
async def test_receiver_cancelled_while_a_message_arrives(cancel_first, steps):
    """The message is either taken or stays, however close together the message and the cancellation come."""
    mailbox = Mailbox[str]("router", 1)
    taken: list[str] = []
    scope = anyio.CancelScope()

    async def receive():
        with scope:
            taken.extend(await Inbox(mailbox).take(1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        await wait_all_tasks_blocked()
        first, second = (
            (scope.cancel, lambda: mailbox.post("m")) if cancel_first else (lambda: mailbox.post("m"), scope.cancel)
        )
        first()
        for _ in range(steps):
            await checkpoint()
        second()
    assert taken + mailbox.take_waiting(9) == ["m"]
