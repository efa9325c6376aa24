"""A typed client: `Orchestrator` for programs that wait with async, `BlockingOrchestrator` for those that do not.

`Client` under them makes one request a call, for the command line and the demo.
"""

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import ExitStack, aclosing
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from urllib.parse import quote

import aiohttp
import anyio
import msgspec
from anyio.from_thread import BlockingPortal, start_blocking_portal

from orchestrator.domain.retry import backoff
from orchestrator.kernel.environment import Environment

MARGIN_S = 15.0
SILENT_S = 45.0
"""A stream that says nothing for so long is broken: without news it says each 15 s that it is alive."""
STREAM = "text/event-stream"
MAX_LINE = 2**29
"""Bytes. A result stands in one line, and of an agent's answer no orchestrator takes half as much."""

Q = ParamSpec("Q")
T = TypeVar("T")


class Unreachable(Exception):
    """No orchestrator answers at that address; somebody else may."""


class Answer(msgspec.Struct, frozen=True):
    """Status and decoded JSON of an answer; `body` is empty where a refusal was no JSON object, as a proxy's is."""

    status: int
    body: dict[str, Any]
    retry_after: float | None = None
    """Seconds after which to come back, where the answer says so."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class Client:
    """Use it in `async with`. One call is one request: it retries nothing."""

    def __init__(
        self, url: str, authorization: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """`authorization` is the header that says who asks, `tls` holds authorities and a client certificate."""
        self._url, self._tls = url.rstrip("/"), tls
        self._authorization = authorization or {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Client":
        connector = aiohttp.TCPConnector(ssl=True if self._tls is None else self._tls)
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(
        self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None, wait_s: float = 0.0
    ) -> Answer:
        """One request; `wait_s` is how long its answer may be held back. Raises Unreachable."""
        if self._session is None:
            raise RuntimeError("use the client in `async with`")
        data = None if body is None else msgspec.json.encode(body)
        headers = {**self._authorization, **({} if body is None else {"Content-Type": "application/json"})}
        try:
            with anyio.fail_after(wait_s + MARGIN_S):
                request = self._session.request(
                    method, f"{self._url}{path}", data=data, headers=headers, params=query, allow_redirects=False
                )
                async with request as response:
                    return await self._answer(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(f"no orchestrator answers at {self._url} ({type(error).__name__})") from error

    async def _answer(self, response: aiohttp.ClientResponse) -> Answer:
        """Raises Unreachable for what no orchestrator says: a redirect, or that all is well and nothing else."""
        waits = _seconds(response.headers.get("Retry-After"))
        answer = Answer(response.status, _decoded(await response.read()), waits)
        if answer.status < 400 and not (answer.ok and answer.body):
            raise Unreachable(f"what answers at {self._url} is no orchestrator (status {answer.status})")
        return answer

    async def submit(self, task: Mapping[str, Any]) -> Answer:
        """`POST /route_task`."""
        return await self.call("POST", "/route_task", task)

    async def task(self, task_id: str, wait_s: float = 0.0) -> Answer:
        """`GET /task/{id}`, held back until the task ends or `wait_s` is over."""
        query = {"wait": f"{wait_s:.3f}"} if wait_s else None
        return await self.call("GET", f"/task/{segment(task_id)}", query=query, wait_s=wait_s)

    async def events(self, task_id: str, last: str | None = None) -> AsyncGenerator["Event"]:
        """`GET /task/{id}/events` after the event `last`; ends where the stream does. Raises Refused or Unreachable."""
        if self._session is None:
            raise RuntimeError("use the client in `async with`")
        headers = {**self._authorization, **({} if last is None else {"Last-Event-ID": last})}
        url = f"{self._url}/task/{segment(task_id)}/events"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=MARGIN_S, sock_read=SILENT_S)
        try:
            async with self._session.get(url, headers=headers, timeout=timeout, allow_redirects=False) as response:
                if response.status != 200 or response.content_type != STREAM:
                    raise Refused(await self._answer(response))
                fields: dict[str, str] = {}
                async for line in _lines(response.content):
                    name, _, value = line.decode().rstrip("\r").partition(": ")
                    if name:
                        fields[name] = value
                    elif "data" in fields:
                        yield Event(fields.get("event", ""), fields.get("id", ""), _decoded(fields["data"].encode()))
                        fields = {}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(f"no orchestrator answers at {self._url} ({type(error).__name__})") from error

    async def audit(self, task_id: str) -> list[dict[str, Any]]:
        """The audit entries of a task."""
        answer = await self.call("GET", "/audit", query={"task_id": task_id, "limit": "1000"})
        return cast("list[dict[str, Any]]", answer.body.get("entries", []))


def segment(name: str) -> str:
    """A name as one segment of a path, whatever characters are in it (RFC 3986 §3.3)."""
    return quote(name, safe="")


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[bytearray]:
    """The lines of a stream as they come. Raises ValueError for one that has no end."""
    rest = bytearray()
    async for some in content.iter_any():
        rest += some
        if b"\n" in some:
            *lines, rest = rest.split(b"\n")
            for line in lines:
                yield line
        if len(rest) > MAX_LINE:
            raise ValueError("a line without an end")


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None


class Refused(Exception):
    """The orchestrator says no: `code` is one of those in the description of the API, `status` that of HTTP."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.status = answer, answer.status
        self.code, self.detail = str(answer.body.get("code", "")), str(answer.body.get("detail", ""))
        super().__init__(f"{answer.status} {self.code}: {self.detail}")

    @property
    def passing(self) -> bool:
        """Whether the same request may be answered otherwise in a while: by us, or by a proxy that finds us again."""
        return self.status in (429, 502, 503, 504) or self.code == "E_IN_PROGRESS"


class Submitted(msgspec.Struct, frozen=True):
    """A task that is on stable storage; `result` where it is there already."""

    task_id: str
    status: str
    result: Any = None
    agent_id: str | None = None


class TaskStatus(msgspec.Struct, frozen=True):
    """A task as it is now."""

    task_id: str
    case_id: str
    task_type: str
    status: str
    attempts: int
    agent_id: str | None = None
    reason: str | None = None
    result: Any = None
    model_version: str | None = None
    progress: float | None = None
    progress_note: str | None = None

    @property
    def ended(self) -> bool:
        """Whether it never changes any more."""
        return self.status not in ("queued", "leased", "retry_wait")


class Event(msgspec.Struct, frozen=True):
    """What happened to a task: `state`, `transition`, `progress` as its agent tells, or `end` with all of it."""

    name: str
    number: str
    data: dict[str, Any]


class Orchestrator:
    """`async with Orchestrator(url) as orchestrator: task = await orchestrator.submit(case_id=…, …)`.

    What may be answered otherwise in a while is asked again, the same request under the same key, until `deadline_s`
    after it first failed; Retry-After is honoured. Then, and for every other refusal, it raises Refused or Unreachable.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        authorization: Mapping[str, str] | None = None,
        *,
        deadline_s: float = 60,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._client, self._within = Client(url, authorization, tls), deadline_s
        self._environment = Environment.real()

    async def __aenter__(self) -> "Orchestrator":
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    async def submit(self, **task: Any) -> Submitted:
        """Sends a task. Without an `idempotency_key` it gets one, so that trying again never makes two tasks of it."""
        task.setdefault("idempotency_key", self._environment.token(16))
        answer = await self._insist(partial(self._client.submit, task))
        return msgspec.convert(answer.body, Submitted)

    async def task(self, task_id: str) -> TaskStatus:
        """The task as it is now."""
        return msgspec.convert((await self._insist(partial(self._client.task, task_id))).body, TaskStatus)

    async def wait(self, task_id: str, within_s: float = 300.0) -> TaskStatus:
        """The task once it has ended, or as it is after `within_s` seconds."""
        end = anyio.current_time() + within_s
        while True:
            left = min(50.0, max(0.0, end - anyio.current_time()))
            answer = await self._insist(partial(self._client.task, task_id, left))
            status = msgspec.convert(answer.body, TaskStatus)
            if status.ended or anyio.current_time() >= end:
                return status

    async def stream(self, task_id: str) -> AsyncGenerator[Event]:
        """What happens to the task, to its end; over as many connections as it takes, without a gap."""
        last: str | None = None
        failures, since = 0, None
        while True:
            try:
                async with aclosing(self._client.events(task_id, last)) as events:
                    async for event in events:
                        last, failures, since = event.number, 0, None
                        yield event
                        if event.name == "end":
                            return
                await anyio.sleep(self._pause(1, None))
            except (Refused, Unreachable) as error:
                failures, since = failures + 1, since or anyio.current_time()
                await self._bear(error, failures, since)

    async def cancel(self, task_id: str) -> TaskStatus:
        """Ends a task that has not ended; twice is once. Raises Refused where it ended otherwise."""
        try:
            answer = await self._insist(partial(self._client.call, "DELETE", f"/task/{segment(task_id)}"))
        except Refused as refused:
            # Ours may be the second attempt at it, after an answer that was lost.
            if refused.code == "E_ALREADY_FINISHED" and (status := await self.task(task_id)).status == "cancelled":
                return status
            raise
        return msgspec.convert(answer.body, TaskStatus)

    async def dead_letters(self) -> AsyncGenerator[TaskStatus]:
        """All that were given up, in the order of their acceptance."""
        after: int | None = 0
        while after is not None:
            query = {"after": str(after), "limit": "1000"}
            page = (await self._insist(partial(self._client.call, "GET", "/dlq", query=query))).body
            for entry in page["entries"]:
                yield msgspec.convert(entry, TaskStatus)
            after = page["next"]

    async def replay(self, task_id: str) -> Submitted:
        """Makes a new task of a dead one; twice is once."""
        answer = await self._insist(partial(self._client.call, "POST", f"/dlq/{segment(task_id)}/replay"))
        return msgspec.convert(answer.body, Submitted)

    async def register(self, **agent: Any) -> dict[str, Any]:
        """Has an agent known, or known anew."""
        return (await self._insist(partial(self._client.call, "POST", "/register_agent", agent))).body

    async def _insist(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        failures, since = 0, None
        while True:
            try:
                answer = await ask()
                if answer.ok:
                    return answer
                raise Refused(answer)
            except (Refused, Unreachable) as error:
                # Not since it was asked: an answer may be held back on purpose.
                failures, since = failures + 1, since or anyio.current_time()
                await self._bear(error, failures, since)

    async def _bear(self, error: Refused | Unreachable, failures: int, since: float) -> None:
        """Waits for the next attempt; raises `error` where there is to be none."""
        asked = error.answer.retry_after if isinstance(error, Refused) else None
        pause = self._pause(failures, asked)
        if (isinstance(error, Refused) and not error.passing) or anyio.current_time() + pause >= since + self._within:
            raise error
        await anyio.sleep(pause)

    def _pause(self, failures: int, asked: float | None) -> float:
        return (asked or 0.0) + backoff(failures, 0.2, 10.0, self._environment.random.random())


def _blocking(
    call: Callable[Concatenate[Orchestrator, Q], Awaitable[T]],
) -> Callable[Concatenate["BlockingOrchestrator", Q], T]:
    @wraps(call)
    def wait_for(self: "BlockingOrchestrator", *args: Q.args, **options: Q.kwargs) -> T:
        return self.portal.call(partial(call, self.wrapped, *args, **options))

    return wait_for


def _stepping(
    call: Callable[Concatenate[Orchestrator, Q], AsyncGenerator[T]],
) -> Callable[Concatenate["BlockingOrchestrator", Q], Generator[T]]:
    @wraps(call)
    def steps(self: "BlockingOrchestrator", *args: Q.args, **options: Q.kwargs) -> Generator[T]:
        values = call(self.wrapped, *args, **options)
        try:
            while True:
                try:
                    yield self.portal.call(values.__anext__)
                except StopAsyncIteration:
                    return
        finally:
            self.portal.call(values.aclose)

    return steps


class BlockingOrchestrator:
    """The same for programs without an event loop: `with BlockingOrchestrator(url) as orchestrator: …`."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        authorization: Mapping[str, str] | None = None,
        *,
        deadline_s: float = 60,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.wrapped = Orchestrator(url, authorization, deadline_s=deadline_s, tls=tls)
        self.portal: BlockingPortal
        self._stack = ExitStack()

    def __enter__(self) -> "BlockingOrchestrator":
        self.portal = self._stack.enter_context(start_blocking_portal())
        self._stack.enter_context(self.portal.wrap_async_context_manager(self.wrapped))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    submit = _blocking(Orchestrator.submit)
    task = _blocking(Orchestrator.task)
    wait = _blocking(Orchestrator.wait)
    stream = _stepping(Orchestrator.stream)
    cancel = _blocking(Orchestrator.cancel)
    dead_letters = _stepping(Orchestrator.dead_letters)
    replay = _blocking(Orchestrator.replay)
    register = _blocking(Orchestrator.register)
