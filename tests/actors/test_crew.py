"""Tasks of the event loop that are used again."""

import anyio
import pytest

from orchestrator.actors.crew import Crew

pytestmark = pytest.mark.anyio


async def test_one_thing_after_another():
    """One task does them all; it ends when the crew is dismissed."""
    done: list[tuple[int, object]] = []

    async def work(number: int) -> None:
        done.append((number, anyio.get_current_task().id))

    async with anyio.create_task_group() as group:
        crew = Crew(group, work)
        for number in range(3):
            crew.give(number)
            await anyio.wait_all_tasks_blocked()
        crew.dismiss()
    assert [number for number, _ in done] == [0, 1, 2]
    assert len({task for _, task in done}) == 1


async def test_several_things_at_once():
    """None waits for another, and what is given after the crew was dismissed is done as well."""
    together, done = 0, list[int]()
    all_here, go = anyio.Event(), anyio.Event()

    async def work(number: int) -> None:
        nonlocal together
        together += 1
        if together == 3:
            all_here.set()
        await go.wait()
        done.append(number)

    async with anyio.create_task_group() as group:
        crew = Crew(group, work)
        for number in range(3):
            crew.give(number)
        await all_here.wait()
        crew.dismiss()
        crew.give(3)
        go.set()
    assert sorted(done) == [0, 1, 2, 3]


async def test_broken_off():
    """Who has nothing to do is cancelled with the group, as who has."""
    async with anyio.create_task_group() as group:
        crew = Crew(group, anyio.sleep)
        crew.give(0.0)
        crew.give(1_000.0)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
