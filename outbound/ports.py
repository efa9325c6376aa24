"""Calling an agent, as a port: what is sent, and every way in which it can end."""

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from orchestrator.domain.discretion import discreet


class Call(Struct, frozen=True):
    """One attempt at one agent. `deadline_at` is in seconds since the epoch; `traceparent` as in W3C Trace Context."""

    endpoint: str
    task_id: str
    case_id: str
    task_type: str
    payload: dict[str, Any]
    meta: dict[str, Any]
    attempt: int
    deadline_at: float
    traceparent: str

    __repr__ = discreet


class Succeeded(Struct, frozen=True):
    """The agent did it."""

    output: Any
    model_version: str | None = None

    __repr__ = discreet


class Declined(Struct, frozen=True):
    """The agent answered that it failed. Its words are not kept."""

    retryable: bool


class Refused(Struct, frozen=True):
    """No connection came about: the agent has not seen the task. `reason` is a word of ours."""

    reason: str = "refused"


class TimedOut(Struct, frozen=True):
    """No answer came in time; the agent may still be at it."""


class Garbled(Struct, frozen=True):
    """What came was no answer by the contract; `reason` is a word of ours, such as `status_500` or `not_json`."""

    reason: str


class Busy(Struct, frozen=True):
    """The agent answered 429 or 503, and when to come back in seconds if it said so."""

    retry_after_s: float | None


Ending = Succeeded | Declined | Refused | TimedOut | Garbled | Busy


class Notice(Struct, frozen=True):
    """Something that somebody asked to be told, signed by its headers."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    __repr__ = discreet


class NoticeClient(Protocol):
    """Tells it, by the rules that calls to agents follow."""

    async def post(self, notice: Notice, within: float) -> Ending:
        """Sends it once, within so many seconds; a 2xx is success, and what the answer says is not read."""
        ...


class AgentClient(Protocol):
    """Makes calls. One for a process."""

    async def call(self, call: Call, within: float) -> Ending:
        """Makes one call, of at most `within` seconds, and never a second one. Cancelling breaks the connection."""
        ...

    async def check(self, endpoint: str) -> None:
        """Raises InvalidRequest if an agent at `endpoint` would never be called, as far as can be told now."""
        ...

    async def close(self) -> None:
        """Closes the connections. Twice is safe."""
        ...


class OutboundClient(AgentClient, NoticeClient, Protocol):
    """All that goes out."""
