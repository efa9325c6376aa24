"""Runs handlers: each attempt once, up to a bound at a time, none beyond its deadline."""

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from math import isinf
from typing import Any, cast

from orchestrator.workers.metrics import Metrics
from orchestrator.workers.recent import Key, RecentAnswers
from orchestrator.workers.task import AgentError, Handler, Permanent, Task
from orchestrator.workers.threads import run_in_thread
from orchestrator.workers.wire import failure, success
from orchestrator.workers.word import Words

log = logging.getLogger("orchestrator.workers")


class Busy(Exception):
    """The call was not taken: the agent is at its bound, or draining. Nothing ran."""


class Executor:
    """Turns tasks into answers (bytes, ready to send). Handlers map task types to functions."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        max_concurrency: int,
        model_version: str | None,
        words: Words | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`words` says how far tasks are, `metrics` counts them."""
        self.max_concurrency = max_concurrency
        self.draining = False
        self._handlers = handlers
        self._model_version = model_version
        self._words, self._metrics = words, metrics or Metrics()
        self._metrics.watch(lambda: self.in_flight)
        self._recent = RecentAnswers()
        self._running: dict[Key, asyncio.Task[bytes]] = {}
        self._left_behind: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Executor {self.in_flight}/{self.max_concurrency}{' draining' if self.draining else ''}>"

    @property
    def in_flight(self) -> int:
        """Calls running, and threads that outlived their call's deadline: both hold a place."""
        return len(self._running) + len(self._left_behind)

    @property
    def places(self) -> int:
        """How many more tasks it would take now."""
        return 0 if self.draining else max(0, self.max_concurrency - self.in_flight)

    def metrics(self) -> bytes:
        """Its metrics in Prometheus' text format."""
        return self._metrics.render()

    def load(self) -> float:
        """The share of places taken, 0 to 1."""
        return min(1.0, self.in_flight / self.max_concurrency)

    async def answer(self, task: Task) -> bytes:
        """The answer to `task`; a repeated attempt gets the first one's answer. Raises Busy.

        When the waiting is cancelled the handler goes on, and its answer is there for a repeated call.
        """
        key = (task.task_id, task.attempt)
        known = self._recent.get(key)
        if known is not None:
            return known
        running = self._running.get(key)
        if running is None:
            if self.draining or self.in_flight >= self.max_concurrency:
                raise Busy
            running = self._running[key] = asyncio.create_task(self._run(key, task))
        return await asyncio.shield(running)

    async def finish(self, deadline: float) -> None:
        """Takes no more calls and waits up to `deadline` seconds for those running; the rest fail retryably."""
        self.draining = True
        running = list(self._running.values())
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=deadline)
        for call in late:
            call.cancel()
        if late:
            log.warning("stopped %d calls at the drain deadline", len(late))
            await asyncio.wait(late, timeout=1.0)

    async def _run(self, key: Key, task: Task) -> bytes:
        answer = failure("the agent stopped", retryable=True)
        try:
            answer = await self._outcome(task)
        except asyncio.CancelledError:
            pass  # only finish() cancels, and it wants the answer above
        finally:
            self._recent.put(key, answer)
            del self._running[key]
        return answer

    async def _outcome(self, task: Task) -> bytes:
        left, began, outcome = task.time_left(), time.monotonic(), "retryable"
        if left <= 0:
            return failure("the deadline passed before the call began", retryable=True)
        limit = asyncio.timeout(None if isinf(left) else left)
        try:
            async with limit, self._speaking(task):
                answer = success(await self._handle(task), self._model_version)
                outcome = "succeeded"
                return answer
        except AgentError as error:
            outcome = "retryable" if error.retryable else "failed"
            log.info("%r failed: %s", task, type(error).__name__)
            return failure(error.message, retryable=error.retryable)
        except Exception as error:  # noqa: BLE001 - any bug: its text may hold health data, its class does not
            if limit.expired():
                return failure("the deadline passed", retryable=True)
            log.error("%r failed: %s", task, type(error).__name__)
            return failure(type(error).__name__, retryable=True)
        finally:
            known = task.task_type if task.task_type in self._handlers else "other"
            self._metrics.ended(known, outcome, time.monotonic() - began)

    def _speaking(self, task: Task) -> AbstractAsyncContextManager[None]:
        running = self._running.get((task.task_id, task.attempt))
        if self._words is None or running is None:
            return nullcontext()
        return self._words.about(task, running.cancel)

    async def _handle(self, task: Task) -> Mapping[str, Any]:
        handler = self._handler(task.task_type)
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
            return await cast("Awaitable[Mapping[str, Any]]", handler(task))
        thread = asyncio.ensure_future(run_in_thread(handler, task))
        try:
            return cast("Mapping[str, Any]", await asyncio.shield(thread))
        except asyncio.CancelledError:
            self._leave_behind(thread)
            raise

    def _handler(self, task_type: str) -> Handler:
        if not task_type and len(self._handlers) == 1:  # a caller that does not send it can mean only one thing
            return next(iter(self._handlers.values()))
        if task_type not in self._handlers:
            raise Permanent("this agent has no handler for the task type")
        return self._handlers[task_type]

    def _leave_behind(self, thread: asyncio.Task[Any]) -> None:
        def end(thread: asyncio.Task[Any]) -> None:
            self._left_behind.discard(thread)
            if not thread.cancelled():
                thread.exception()  # fetched, so that asyncio does not log it

        self._left_behind.add(thread)
        thread.add_done_callback(end)
