"""Calls to agents over HTTP. It retries nothing: the orchestrator is the only retry loop."""

import asyncio
import re
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, cast

import anyio
import msgspec

from orchestrator.domain.endpoint import Endpoint, read_endpoint
from orchestrator.domain.errors import InvalidJSON, InvalidRequest
from orchestrator.domain.reach import Reach
from orchestrator.domain.strict_json import decode
from orchestrator.outbound.connections import Connections
from orchestrator.outbound.exchange import Answer
from orchestrator.outbound.ports import Busy, Call, Declined, Ending, Garbled, Notice, Refused, Succeeded, TimedOut
from orchestrator.outbound.resolving import Lookup, NotAllowed, allowed, by_the_system

MAX_MODEL_VERSION = 200
_encode = msgspec.json.Encoder().encode
# What Python strips from a text as space is more than what it reads a number around.
_SECONDS = re.compile(r"[ \t]*[0-9]{1,9}[ \t]*")


class Target(msgspec.Struct, frozen=True):
    """Where a POST goes, and how it begins."""

    endpoint: Endpoint
    head: str


class HttpAgentClient:
    """Needs asyncio. Calls agents only where `reach` allows: each connection stays with the address that was checked.

    Follows no redirect, uses no proxy, stores no cookie.
    """

    def __init__(
        self,
        *,
        reach: Reach,
        max_answer_bytes: int,
        connect_timeout_s: float,
        tls: ssl.SSLContext | None = None,
        lookup: Lookup = by_the_system,
    ) -> None:
        """In the running event loop. `tls` is how agents are known by https, and we to them; without it, by what this
        machine trusts. `lookup` finds the addresses of names.
        """
        self._reach, self._lookup, self._connect_timeout = reach, lookup, connect_timeout_s
        self._connections = Connections(reach, lookup, tls, connect_timeout_s, max_answer_bytes)

    async def call(self, call: Call, within: float) -> Ending:
        body = _encode(
            {
                "request_id": call.task_id,
                "case_id": call.case_id,
                "task_type": call.task_type,
                "payload": call.payload,
                "meta": call.meta,
            }
        )
        headers = {
            "Idempotency-Key": call.task_id,
            "X-Attempt": str(call.attempt),
            "X-Deadline": f"{call.deadline_at:.3f}",
            "traceparent": call.traceparent,
        }
        answer = await self._sent(call.endpoint, "/call", body, headers, within)
        return _ending(answer, call.task_id) if isinstance(answer, Answer) else answer

    async def post(self, notice: Notice, within: float) -> Ending:
        answer = await self._sent(notice.url, "", notice.body, notice.headers, within)
        return _taken(answer) if isinstance(answer, Answer) else answer

    async def check(self, endpoint: str) -> None:
        try:
            await allowed(read_endpoint(endpoint), self._reach, self._lookup, self._connect_timeout)
        except NotAllowed as error:
            raise InvalidRequest(str(error)) from None
        except OSError:
            # The name leads nowhere now, which may be a matter of moments. Where it leads counts when it is called.
            return

    async def close(self) -> None:
        self._connections.close()

    async def _sent(
        self, url: str, path: str, body: bytes, headers: Mapping[str, str], within: float
    ) -> Answer | Ending:
        """The answer to one POST to a path below `url`, or how it ends where none comes."""
        try:
            target = _target(url, path)
        except InvalidRequest:
            return Refused("not_allowed")
        request = _request(target.head, headers, body)
        exchange = self._connections.idle(target.endpoint)
        if exchange is None:
            began = asyncio.get_running_loop().time()
            try:
                with anyio.move_on_after(within):
                    exchange = await self._connections.open(target.endpoint)
            except NotAllowed:
                return Refused("not_allowed")
            except OSError:
                return Refused()
            within -= asyncio.get_running_loop().time() - began
        if exchange is None:
            return TimedOut()
        answer = await exchange.call(request, within)
        self._connections.keep(target.endpoint, exchange)
        return answer


@lru_cache(4096)
def _target(url: str, path: str) -> Target:
    """Raises InvalidRequest."""
    endpoint = read_endpoint(url)
    _, _, rest = endpoint.url.partition("://")
    authority, slash, below = rest.partition("/")
    lines = (
        f"POST {slash}{below}{path} HTTP/1.1" if slash or path else "POST / HTTP/1.1",
        f"Host: {authority}",
        "User-Agent: routing-orchestrator",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "Content-Type: application/json",
    )
    return Target(endpoint, "\r\n".join(lines))


def _request(head: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Raises ValueError for a header that would be two."""
    lines = "".join([f"\r\n{name}: {value}" for name, value in headers.items()])
    if not (lines.count("\r") == lines.count("\n") == len(headers)):
        raise ValueError("a header that is no line")
    return f"{head}{lines}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _ending(answer: Answer, task_id: str) -> Ending:
    """What the answer to a call says."""
    headers = answer.headers
    if answer.status in (429, 503):
        return Busy(retry_after(headers.get("retry-after"), headers.get("date")))
    if answer.status != 200:
        return Garbled(f"status_{answer.status}")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" or headers.get("content-encoding", "identity").lower() != "identity":
        return Garbled("not_json")
    return Garbled("too_large") if answer.body is None else read_answer(answer.body, task_id)


def _taken(answer: Answer) -> Ending:
    """Whether a notice was taken; the words of the answer are nobody's business."""
    if answer.status in (429, 503):
        return Busy(None)
    return Succeeded(None) if 200 <= answer.status < 300 else Garbled(f"status_{answer.status}")


def read_answer(body: bytes, task_id: str) -> Ending:
    """What the body of a 200 says of that task, read as strictly as what clients send."""
    try:
        value = decode(body)
    except InvalidJSON:
        return Garbled("not_json")
    if not isinstance(value, dict):
        return Garbled("not_an_object")
    answer = cast("dict[str, Any]", value)
    # Something between us and the agent may have mixed up answers, whatever the connection says.
    if answer.get("request_id", task_id) != task_id:
        return Garbled("another_task")
    match answer.get("success"):
        case True if "output" in answer:
            version = answer.get("model_version")
            known = isinstance(version, str) and len(version) <= MAX_MODEL_VERSION
            return Succeeded(answer["output"], version if known else None)
        case True:
            return Garbled("no_output")
        case False:
            return Declined(_retryable(answer.get("error")))
        case _:
            return Garbled("no_success")


def _retryable(error: Any) -> bool:
    """A failure may be tried again unless the agent says that it is no use."""
    return not (isinstance(error, dict) and cast("dict[str, Any]", error).get("retryable") is False)


def retry_after(value: str | None, date: str | None) -> float | None:
    """Retry-After in seconds (RFC 9110 §10.2.3): a number, or a date, compared with the answer's own Date."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(date or "")).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
