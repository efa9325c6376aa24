"""The trace that a task belongs to (https://www.w3.org/TR/trace-context/): its sender's, or else one of its own.

The ids of spans come from the task's id, so that none has to be stored or handed on.
"""

import re
from hashlib import blake2b

from msgspec import Struct

_PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


class Trace(Struct, frozen=True):
    """Ids as hex digits; `parent_id` is the sender's span, if there is one, `acceptance_id` the span of acceptance."""

    task_id: str
    trace_id: str
    parent_id: str | None
    flags: str

    @property
    def acceptance_id(self) -> str:
        """The span of the task's acceptance."""
        return self.task_id[-16:]

    def call_id(self, attempt: int) -> str:
        """The span of one attempt at an agent."""
        return blake2b(f"{self.task_id}/{attempt}".encode(), digest_size=8).hexdigest()

    def call(self, attempt: int) -> str:
        """The header for the agent that makes the attempt."""
        return f"00-{self.trace_id}-{self.call_id(attempt)}-{self.flags}"


def checked(traceparent: str) -> str | None:
    """The header's value if it is one of version 00; a broken one counts as none."""
    return traceparent if _PARENT.fullmatch(traceparent) else None


def trace_of(task_id: str, traceparent: str | None) -> Trace:
    """The trace of the task, which came with that header. Without one it is sampled."""
    found = _PARENT.fullmatch(traceparent) if traceparent else None
    if found is None:
        return Trace(task_id, task_id.removeprefix("task-"), None, "01")
    return Trace(task_id, found[1], found[2], found[3])
