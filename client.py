"""A small client of the HTTP surface, for the command line and the demo."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote

import aiohttp
import anyio
import msgspec

MARGIN_S = 15.0


class Unreachable(Exception):
    """No orchestrator answers at that address."""


class Answer(msgspec.Struct, frozen=True):
    """Status and decoded JSON of an answer; `body` is empty where the answer was no JSON object."""

    status: int
    body: dict[str, Any]

    @property
    def ok(self) -> bool:
        return self.status < 400


class Client:
    """Use it in `async with`. One call is one request: it retries nothing."""

    def __init__(self, url: str, authorization: Mapping[str, str] | None = None) -> None:
        """`authorization` is the header that says who asks, if one is needed."""
        self._url = url.rstrip("/")
        self._authorization = authorization or {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Client":
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), trust_env=False)
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
                    return Answer(response.status, _decoded(await response.read()))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(f"no orchestrator answers at {self._url} ({type(error).__name__})") from error

    async def submit(self, task: Mapping[str, Any]) -> Answer:
        """`POST /route_task`."""
        return await self.call("POST", "/route_task", task)

    async def task(self, task_id: str, wait_s: float = 0.0) -> Answer:
        """`GET /task/{id}`, held back until the task ends or `wait_s` is over."""
        query = {"wait": str(wait_s)} if wait_s else None
        return await self.call("GET", f"/task/{segment(task_id)}", query=query, wait_s=wait_s)

    async def audit(self, task_id: str) -> list[dict[str, Any]]:
        """The audit entries of a task."""
        answer = await self.call("GET", "/audit", query={"task_id": task_id, "limit": "1000"})
        return cast("list[dict[str, Any]]", answer.body.get("entries", []))


def segment(name: str) -> str:
    """A name as one segment of a path, whatever characters are in it (RFC 3986 §3.3)."""
    return quote(name, safe="")


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
