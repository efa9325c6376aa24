"""The ledger's own thread: what it is asked for it does in turn, and says so to whoever asked."""

import asyncio
import threading
from functools import partial

import anyio
import pytest

from orchestrator.storage.sqlite.thread import OwnThread

pytestmark = pytest.mark.anyio


@pytest.fixture
def thread():
    thread = OwnThread("ledger")
    yield thread
    thread.end()


async def test_answers_and_errors(thread: OwnThread):
    """Each is given to who asked for it, from one thread that is not the loop's."""
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 // 0)
    served = [await thread.run(threading.get_ident) for _ in range(3)]
    assert len(set(served)) == 1
    assert threading.get_ident() not in served


async def test_one_after_the_other(thread: OwnThread):
    """What is asked for is done in the order of asking, though who asked first was cancelled as Ctrl-C does."""
    reached, opened, done = threading.Event(), threading.Event(), list[int]()

    def work(number: int) -> None:
        reached.set()
        opened.wait()
        done.append(number)

    # Not by a scope of anyio, which waits for the work: asyncio's own runner cancels so.
    first = asyncio.create_task(thread.run(partial(work, 1)))
    await anyio.to_thread.run_sync(reached.wait)
    async with anyio.create_task_group() as group:
        group.start_soon(thread.run, partial(work, 2))
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert done == []
        opened.set()
    assert done == [1, 2]


async def test_whoever_asked_is_cancelled(thread: OwnThread):
    """It waits for the work, and has what the work gave; what it waits for next ends it."""
    reached, opened, given = threading.Event(), threading.Event(), list[int]()

    def work() -> int:
        reached.set()
        opened.wait()
        return 7

    async def ask() -> None:
        given.append(await thread.run(work))
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.to_thread.run_sync(reached.wait)
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
            assert given == []
            opened.set()
    assert given == [7]


async def test_asked_after_its_end(thread: OwnThread):
    """What was asked for before is done; after it nobody waits in vain."""
    opened, seen = threading.Event(), list[bool]()
    async with anyio.create_task_group() as group:
        group.start_soon(thread.run, lambda: seen.append(opened.wait(5)))
        await anyio.wait_all_tasks_blocked()
        thread.end()
        thread.end()
        opened.set()
    assert seen == [True]
    with pytest.raises(RuntimeError, match="closed"):
        await thread.run(lambda: 1)
