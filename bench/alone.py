"""Work in a process of its own, on the core of what is measured."""

from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import anyio

from orchestrator.bench.cores import MEASURED, on


def alone(work: Callable[[], Coroutine[Any, Any, float]]) -> float:
    """What `work` gives, run on uvloop. It has to be picklable."""
    with on(MEASURED), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_run, work).result()


def _run(work: Callable[[], Coroutine[Any, Any, float]]) -> float:
    return anyio.run(work, backend_options={"use_uvloop": True})
