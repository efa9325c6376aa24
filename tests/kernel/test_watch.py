"""A value that others read, wait for, and listen to."""

import anyio
import pytest

from orchestrator.kernel.watch import Watch

pytestmark = pytest.mark.anyio


async def test_who_waits_gets_the_latest():
    """Several publications before its turn are one change."""
    watch, seen = Watch(0), list[int]()

    async def wait() -> None:
        seen.append(await watch.changed())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        watch.publish(1)
        watch.publish(2)
    assert seen == [2, 2]


async def test_who_comes_after_a_publication():
    """It waits for the next one; cancelled, it leaves nothing behind."""
    watch, seen = Watch(0), list[int]()

    async def wait() -> None:
        seen.append(await watch.changed())

    watch.publish(1)
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    watch.publish(2)
    assert seen == []


async def test_who_listens_is_called_each_time():
    """At once, with the new value there to be read; until it listens no more."""
    watch, heard = Watch(0), list[tuple[str, int]]()
    watch.publish(1)
    with watch.heard_by(lambda: heard.append(("a", watch.value))):
        with watch.heard_by(lambda: heard.append(("b", watch.value))):
            watch.publish(2)
        watch.publish(3)
    watch.publish(4)
    assert heard == [("a", 2), ("b", 2), ("a", 3)]
