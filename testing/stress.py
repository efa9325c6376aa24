"""Stress for what starts and stops."""

from collections.abc import Callable
from itertools import product

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus

from orchestrator.kernel.supervisor import State, Supervisor


async def stress_start_stop(make: Callable[[], Supervisor]) -> None:
    """Start and stop supervisors from `make` in any order: before, during and after the start, twice, and cancelled.

    The interleavings are counted in event-loop steps, nothing sleeps. Raises AssertionError when a child is left, and
    TimeoutError when an end takes longer than a minute.
    """
    orders = [("stop", "stop"), ("stop", "cancel"), ("cancel", "stop"), ("cancel", "cancel")]
    for up_first, order, steps in product((False, True), orders, (0, 1, 2, 3, 5, 8, 13, 21)):
        supervisor = make()
        scope = anyio.CancelScope()
        actions = {"stop": supervisor.stop, "cancel": scope.cancel}
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                if up_first:
                    await tasks.start(_run_in, scope, supervisor)
                else:
                    tasks.start_soon(_run_in, scope, supervisor)
                for action in order:
                    await _let_run(steps)
                    actions[action]()
        left = [
            child for child in supervisor.status() if child.state in (State.STARTING, State.RUNNING, State.STOPPING)
        ]
        assert not left, f"{order} after {steps} steps left {left}"


async def _run_in(
    scope: anyio.CancelScope, supervisor: Supervisor, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with scope:
        await supervisor.run(task_status=task_status)


async def _let_run(steps: int) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
