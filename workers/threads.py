"""Running a blocking function beside the event loop, in a thread that never holds up the end of the process."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run_in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns or raises, from a daemon thread of its own.

    A thread cannot be stopped: when the waiting ends early (a deadline), the function goes on and its outcome is lost.
    A thread pool would be joined at exit, so one that hangs would keep a draining agent from ending.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T | _Raised] = loop.create_future()

    def settle(outcome: "T | _Raised") -> None:
        if not done.done():
            done.set_result(outcome)

    def work() -> None:
        try:
            outcome = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - handed over, and raised by whoever waits
            outcome = _Raised(error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, outcome)

    Thread(target=work, daemon=True, name=getattr(function, "__name__", "handler")).start()
    outcome = await done
    if isinstance(outcome, _Raised):
        raise outcome.error
    return outcome


class _Raised:
    # A result, not the future's exception: an exception nobody fetches would be logged with its text.
    def __init__(self, error: BaseException) -> None:
        self.error = error
