"""Waiting for an answer: on asyncio and on trio the same, however it ends."""

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from orchestrator.kernel.reply import Expired, Reply

pytestmark = pytest.mark.anyio


async def test_answered_before_anybody_waits():
    """It is there, as often as it is asked for; what comes later is ignored."""
    reply = Reply[int]()
    assert reply.send(1)
    assert not reply.send(2)
    assert not reply.fail(ValueError())
    assert [await reply.wait(), await reply.wait()] == [1, 1]


async def test_answered_while_somebody_waits():
    """Who waits goes on with it."""
    reply, heard = Reply[int](), list[int]()

    async def wait():
        heard.append(await reply.wait())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await wait_all_tasks_blocked()
        assert heard == []
        reply.send(1)
    assert heard == [1]


async def test_expired_while_somebody_waits():
    """Who waits hears so; an answer that comes later is still for the next."""
    reply = Reply[int]()
    async with anyio.create_task_group() as tasks:

        async def wait():
            with pytest.raises(Expired):
                await reply.wait()

        tasks.start_soon(wait)
        await wait_all_tasks_blocked()
        reply.expire()
    reply.send(1)
    assert await reply.wait() == 1


@pytest.mark.parametrize("answered", ["before the cancelled one has gone", "after it", "while another waits"])
async def test_who_waited_was_cancelled(answered):
    """The answer comes all the same, and is nobody's cancellation."""
    reply, heard = Reply[int](), list[int]()

    async def wait():
        heard.append(await reply.wait())

    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as cancelled:
            cancelled.start_soon(reply.wait)
            await wait_all_tasks_blocked()
            cancelled.cancel_scope.cancel()
            if answered == "before the cancelled one has gone":
                reply.send(1)
        tasks.start_soon(wait)
        if answered == "while another waits":
            await wait_all_tasks_blocked()
        reply.send(1)
    assert heard == [1]


async def test_two_wait_at_once():
    """The second is told that it may not: it would be the first who never hears."""
    reply = Reply[int]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reply.wait)
        await wait_all_tasks_blocked()
        with pytest.raises(RuntimeError):
            await reply.wait()
        reply.send(1)
