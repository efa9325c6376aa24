"""Calls to agents over HTTP, by aiohttp. It retries nothing: the orchestrator is the only retry loop."""

from email.utils import parsedate_to_datetime
from typing import Any, cast

import aiohttp
import anyio
import msgspec

from orchestrator.domain.errors import InvalidJSON
from orchestrator.domain.strict_json import decode
from orchestrator.outbound.ports import Busy, Call, Declined, Ending, Garbled, Refused, Succeeded, TimedOut

MAX_MODEL_VERSION = 200


class HttpAgentClient:
    """Needs asyncio. Keeps connections alive, follows no redirect, uses no proxy, stores no cookie."""

    def __init__(self, session: aiohttp.ClientSession, max_answer_bytes: int) -> None:
        self._session = session
        self._max_bytes = max_answer_bytes

    @classmethod
    async def opened(cls, *, max_answer_bytes: int, connect_timeout_s: float) -> "HttpAgentClient":
        """A client with a session of its own, in the running event loop."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=15),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"User-Agent": "routing-orchestrator", "Accept": "application/json", "Accept-Encoding": "identity"},
        )
        return cls(session, max_answer_bytes)

    async def call(self, call: Call, within: float) -> Ending:
        with anyio.move_on_after(within):
            return await self._exchange(call)
        return TimedOut()

    async def close(self) -> None:
        await self._session.close()

    async def _exchange(self, call: Call) -> Ending:
        body = msgspec.json.encode(
            {
                "request_id": call.task_id,
                "case_id": call.case_id,
                "task_type": call.task_type,
                "payload": call.payload,
                "meta": call.meta,
            }
        )
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": call.task_id,
            "X-Attempt": str(call.attempt),
            "X-Deadline": f"{call.deadline_at:.3f}",
            "traceparent": call.traceparent,
        }
        try:
            request = self._session.post(f"{call.endpoint}/call", data=body, headers=headers, allow_redirects=False)
            async with request as response:
                return await self._ending(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return Refused()
        except TimeoutError:
            return TimedOut()
        except (aiohttp.ClientError, ValueError, OSError) as error:
            return Garbled(_transport(error))

    async def _ending(self, response: aiohttp.ClientResponse) -> Ending:
        if response.status in (429, 503):
            return Busy(retry_after(response.headers.get("Retry-After"), response.headers.get("Date")))
        if response.status != 200:
            return Garbled(f"status_{response.status}")
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if response.content_type != "application/json" or encoding != "identity":
            return Garbled("not_json")
        body = await self._limited(response)
        return Garbled("too_large") if body is None else read_answer(body)

    async def _limited(self, response: aiohttp.ClientResponse) -> bytes | None:
        """The body, read no further than the limit; None beyond it."""
        if (response.content_length or 0) > self._max_bytes:
            return None
        body = bytearray()
        async for chunk in response.content.iter_chunked(65_536):
            body += chunk
            if len(body) > self._max_bytes:
                return None
        return bytes(body)


def _transport(error: Exception) -> str:
    """A word of ours for what broke: the library's names for it change with its versions, and with the timing."""
    match error:
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return "transport_garbled"
        case aiohttp.ClientConnectionError() | OSError():
            return "transport_closed"
        case _:
            return "transport_failed"


def read_answer(body: bytes) -> Ending:
    """What the body of a 200 says, read as strictly as what clients send."""
    try:
        value = decode(body)
    except InvalidJSON:
        return Garbled("not_json")
    if not isinstance(value, dict):
        return Garbled("not_an_object")
    answer = cast("dict[str, Any]", value)
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
    if value.strip().isascii() and value.strip().isdigit() and len(value.strip()) <= 9:
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(date or "")).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
