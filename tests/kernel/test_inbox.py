import anyio
import pytest
from anyio import wait_all_tasks_blocked

from orchestrator.kernel.inbox import Inbox, Stop
from orchestrator.kernel.mailbox import Mailbox

pytestmark = pytest.mark.anyio


@pytest.fixture
def mailbox():
    return Mailbox[int]("numbers", 8)


def fill(mailbox, count):
    for number in range(count):
        mailbox.post(number)


async def test_iteration(mailbox):
    """Messages come in the order in which they were told."""
    fill(mailbox, 3)
    inbox = Inbox(mailbox)
    inbox.stop(Stop.FINAL)
    assert [message async for message in inbox] == [0, 1, 2]


async def test_batches(mailbox):
    """A batch is what is waiting, up to the limit; the last one may be smaller."""
    fill(mailbox, 5)
    inbox = Inbox(mailbox)
    inbox.stop(Stop.FINAL)
    assert [batch async for batch in inbox.batches(2)] == [[0, 1], [2, 3], [4]]


async def test_batch_of_an_idle_actor(mailbox):
    """It waits for one message, and then does not wait for more."""
    inbox = Inbox(mailbox)
    batches: list[list[int]] = []

    async def collect():
        async for batch in inbox.batches(4):
            batches.append(batch)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect)
        await wait_all_tasks_blocked()
        mailbox.post(1)
        await wait_all_tasks_blocked()
        fill(mailbox, 2)
        await wait_all_tasks_blocked()
        inbox.stop(Stop.FINAL)
    assert batches == [[1], [0, 1]]


async def test_final_stop_with_messages_waiting(mailbox):
    """All of them are handled before the iteration ends."""
    inbox = Inbox(mailbox)
    seen: list[int] = []
    async for message in inbox_with(mailbox, inbox, 4):
        seen.append(message)
        inbox.stop(Stop.FINAL)
    assert seen == [0, 1, 2, 3]
    assert mailbox.depth == 0


async def test_stop_for_a_restart_with_messages_waiting(mailbox):
    """The iteration ends at once; the next incarnation gets them."""
    inbox = Inbox(mailbox)
    seen: list[int] = []
    async for message in inbox_with(mailbox, inbox, 4):
        seen.append(message)
        inbox.stop(Stop.RESTART)
    assert seen == [0]
    assert (await Inbox(mailbox).take(9)) == [1, 2, 3]


def inbox_with(mailbox, inbox, count):
    fill(mailbox, count)
    return inbox


@pytest.mark.parametrize("stop", Stop)
async def test_stop_while_waiting_for_a_message(mailbox, stop):
    """The wait is interrupted and the iteration ends, without an error."""
    inbox = Inbox(mailbox)
    seen: list[int] = []

    async def collect():
        async for message in inbox:
            seen.append(message)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect)
        await wait_all_tasks_blocked()
        inbox.stop(stop)
    assert seen == []


async def test_woken_for_nothing(mailbox):
    """The wait for a message goes on."""
    inbox = Inbox(mailbox)
    batches: list[list[int]] = []

    async def collect():
        batches.append(await inbox.take(1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect)
        await wait_all_tasks_blocked()
        mailbox.wake()
        await wait_all_tasks_blocked()
        mailbox.post(7)
    assert batches == [[7]]


@pytest.mark.parametrize("message_first", [True, False])
async def test_stop_and_message_in_the_same_step(mailbox, message_first):
    """The message is handled or stays, it is never between the two."""
    inbox = Inbox(mailbox)
    seen: list[int] = []

    async def collect():
        async for message in inbox:
            seen.append(message)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect)
        await wait_all_tasks_blocked()
        if message_first:
            mailbox.post(7)
        inbox.stop(Stop.RESTART)
        if not message_first:
            mailbox.post(7)
    assert seen + mailbox.take_waiting(9) == [7]


async def test_actor_with_work_of_its_own(mailbox):
    """It can see that a stop was asked, and wait for it."""
    inbox = Inbox(mailbox)
    assert not inbox.stopping
    inbox.stop(Stop.FINAL)
    await inbox.wait_stopping()
    assert inbox.stopping


async def test_two_readers(mailbox):
    """The second is refused: a stop could not reach both."""
    inbox = Inbox(mailbox)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbox.take, 1)
        await wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await inbox.take(1)
        tasks.cancel_scope.cancel()


async def test_pending_work(mailbox):
    """Work is pending while a message is in hand or in the mailbox, and not while the actor waits for one."""
    inbox = Inbox(mailbox)
    assert not inbox.pending
    fill(mailbox, 1)
    assert inbox.pending
    await inbox.take(1)
    assert inbox.pending
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbox.take, 1)
        await wait_all_tasks_blocked()
        assert not inbox.pending
        tasks.cancel_scope.cancel()
