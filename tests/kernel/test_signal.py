"""Who waits for a signal, and who gives it from where."""

import threading

import anyio
import pytest
from anyio.lowlevel import checkpoint

from orchestrator.kernel.signal import signal

pytestmark = pytest.mark.anyio


async def test_given_from_another_thread():
    """It wakes who waits on the loop; twice is safe."""
    awaited = signal()
    other = threading.Thread(target=lambda: [awaited.set_from_thread() for _ in range(2)])
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, other.start)
            await awaited.wait()
    await anyio.to_thread.run_sync(other.join)
    await checkpoint()


async def test_given_before_anybody_waits():
    """Who comes later does not wait."""
    awaited = signal()
    await anyio.to_thread.run_sync(awaited.set_from_thread)
    with anyio.fail_after(5):
        await awaited.wait()


@pytest.mark.parametrize("given", ["before", "after"])
async def test_whoever_was_cancelled_waits_again(given: str):
    """Whether it was given meanwhile or is given then, it is not missed."""
    awaited, woken = signal(), list[str]()
    with anyio.move_on_after(0.01):
        await awaited.wait()
    if given == "before":
        awaited.set()

    async def wait() -> None:
        await awaited.wait()
        woken.append(given)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            if given == "after":
                awaited.set()
    assert woken == [given]


def test_given_when_the_loop_has_ended(anyio_backend_name: str):
    """Nobody is there to be woken, and the thread that worked for them does not fail for it."""

    async def made():
        return signal()

    anyio.run(made, backend=anyio_backend_name).set_from_thread()
