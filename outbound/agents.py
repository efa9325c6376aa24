"""Calls to agents over HTTP, by aiohttp. It retries nothing: the orchestrator is the only retry loop."""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, cast

import aiohttp
import anyio
import msgspec
from aiohttp.abc import AbstractResolver

from orchestrator.domain.endpoint import Endpoint, read_endpoint
from orchestrator.domain.errors import InvalidJSON, InvalidRequest
from orchestrator.domain.reach import Reach
from orchestrator.domain.strict_json import decode
from orchestrator.outbound.ports import Busy, Call, Declined, Ending, Garbled, Notice, Refused, Succeeded, TimedOut
from orchestrator.outbound.resolving import NotAllowed, PinningResolver, check

MAX_MODEL_VERSION = 200


_read_endpoint = lru_cache(4096)(read_endpoint)


class HttpAgentClient:
    """Needs asyncio. Calls agents only where `reach` allows: each connection stays with the address that was checked.

    Follows no redirect, uses no proxy, stores no cookie.
    """

    def __init__(
        self,
        sessions: Mapping[str, aiohttp.ClientSession],
        resolvers: Mapping[str, PinningResolver],
        reach: Reach,
        max_answer_bytes: int,
    ) -> None:
        self._sessions, self._resolvers, self._reach = sessions, resolvers, reach
        self._max_bytes = max_answer_bytes

    @classmethod
    async def opened(
        cls,
        *,
        reach: Reach,
        max_answer_bytes: int,
        connect_timeout_s: float,
        tls: ssl.SSLContext | None = None,
        lookup: AbstractResolver | None = None,
    ) -> "HttpAgentClient":
        """A client with sessions of its own, in the running event loop.

        `tls` is how agents are known by https, and we to them; without it, by what this machine trusts.
        `lookup` finds the addresses of names; without it, the operating system does.
        """
        found = lookup or aiohttp.ThreadedResolver()
        # One for each scheme: a resolver is not told by which one it is asked, and plain http reaches less far.
        resolvers = {scheme: PinningResolver(scheme, reach, found, connect_timeout_s) for scheme in ("http", "https")}
        sessions = {scheme: _session(resolvers[scheme], tls or True, connect_timeout_s) for scheme in resolvers}
        return cls(sessions, resolvers, reach, max_answer_bytes)

    async def call(self, call: Call, within: float) -> Ending:
        with anyio.move_on_after(within):
            return await self._exchange(call)
        return TimedOut()

    async def post(self, notice: Notice, within: float) -> Ending:
        headers = {**notice.headers, "Content-Type": "application/json"}
        with anyio.move_on_after(within):
            return await self._sent(notice.url, "", notice.body, headers, _taken)
        return TimedOut()

    async def check(self, endpoint: str) -> None:
        read = read_endpoint(endpoint)
        try:
            self._check_written(read)
            if read.address is None:
                await self._resolvers[read.scheme].resolve(read.host, read.port)
        except NotAllowed as error:
            raise InvalidRequest(str(error)) from None
        except OSError:
            # The name leads nowhere now, which may be a matter of moments. Where it leads counts when it is called.
            return

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    def _check_written(self, endpoint: Endpoint) -> None:
        """Raises NotAllowed for what the URL itself says; where a name leads is the resolver's to check."""
        refusal = self._reach.refusal(endpoint)
        if refusal is not None:
            raise NotAllowed(refusal)
        if endpoint.address is not None:
            check(endpoint, endpoint.address, self._reach)

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
        return await self._sent(call.endpoint, "/call", body, headers, self._ending)

    async def _sent(
        self,
        url: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        ending: Callable[[aiohttp.ClientResponse], Awaitable[Ending]],
    ) -> Ending:
        """How one POST to a path below `url` ends; `ending` reads the answer, where one comes."""
        try:
            endpoint = _read_endpoint(url)
            self._check_written(endpoint)
            session = self._sessions[endpoint.scheme]
            async with session.post(
                f"{endpoint.url}{path}", data=body, headers=headers, allow_redirects=False
            ) as response:
                return await ending(response)
        except (NotAllowed, InvalidRequest):
            return Refused("not_allowed")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            refused = isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, NotAllowed)
            return Refused("not_allowed") if refused else Refused()
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


def _session(resolver: PinningResolver, tls: ssl.SSLContext | bool, connect_timeout_s: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, limit_per_host=0, keepalive_timeout=15, resolver=resolver, ssl=tls, use_dns_cache=False
        ),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        headers={"User-Agent": "routing-orchestrator", "Accept": "application/json", "Accept-Encoding": "identity"},
    )


async def _taken(response: aiohttp.ClientResponse) -> Ending:
    """Whether a notice was taken; the words of the answer are nobody's business."""
    response.close()
    if response.status in (429, 503):
        return Busy(None)
    return Succeeded(None) if 200 <= response.status < 300 else Garbled(f"status_{response.status}")


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
