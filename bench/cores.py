"""Which core a process keeps to: what is measured has one for itself, load, agents and servers of others the other."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache

MEASURED, LOAD = 0, -1


@cache
def cores() -> list[int]:
    """Those that we were given when we started, in order; none where the system does not let us choose."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []


def separate() -> bool:
    """Whether load and what is measured have a core each."""
    return len(cores()) > 1


@contextmanager
def on(place: int) -> Generator[None]:
    """What is started inside stays on that core: a child inherits it, threads and all."""
    mine = os.sched_getaffinity(0) if cores() else set[int]()
    pin(place)
    try:
        yield
    finally:
        if mine:
            os.sched_setaffinity(0, mine)


def pin(place: int) -> None:
    """Keeps this process, from now on, on MEASURED or LOAD, where there are two."""
    if separate():
        os.sched_setaffinity(0, {cores()[place]})
