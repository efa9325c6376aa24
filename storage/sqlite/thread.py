"""A thread of one's own: it does one thing after the other, and says on the loop when each is done."""

import threading
from collections.abc import Callable
from math import inf
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

import anyio

from orchestrator.kernel.signal import Signal, signal

R = TypeVar("R")


class _Job(Generic[R]):
    __slots__ = ("_done", "_error", "_result", "_work")

    def __init__(self, work: Callable[[], R], done: Signal) -> None:
        self._work, self._done = work, done
        self._result: R | None = None
        self._error: BaseException | None = None

    def do(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the work was asked for
            self._error = error
        self._done.set_from_thread()

    def result(self) -> R:
        if self._error is not None:
            raise self._error
        return cast(R, self._result)


class OwnThread:
    """Lives until `end`, or as long as the process: what it does at that moment must stand being broken off.

    One that serves all who ask, as `anyio.to_thread` has, costs more for each hand-over, and every commit has one.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self.ended = False

    async def run(self, work: Callable[[], R]) -> R:
        """What `work` gives or raises, once all that was asked for before is done. Cancellation waits for it.

        asyncio's own cancellation (Ctrl-C) does not: the work is done all the same, before what is asked for next.
        Raises RuntimeError once the thread has ended.
        """
        if self.ended:
            raise RuntimeError(f"the {self._thread.name} is closed")
        done = signal()
        job = _Job(work, done)
        self._jobs.put(job)
        try:
            await done.wait()
        except anyio.get_cancelled_exc_class():
            if anyio.current_effective_deadline() > -inf:
                raise
            # Around each wait, a scope would take a quarter of the time that it takes to hand work over and back.
            with anyio.CancelScope(shield=True):
                await done.wait()
        return job.result()

    def end(self) -> None:
        """It ends once all is done that was asked for. Twice is safe."""
        self.ended = True
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.do()
            # Not kept while there is nothing to do: a batch holds all that its tasks hold.
            del job
