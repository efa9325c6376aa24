"""When two requests are the same request."""

from hashlib import sha256

from msgspec.json import Encoder
from msgspec.structs import replace

from orchestrator.domain.task import TaskRequest

REPLAYS = "replay"
"""The scope of the keys under which dead letters are replayed, each by its task's id; callers have other scopes."""
CALLERS = "caller:"
"""Before a caller's name: the scope of its keys."""
_encode = Encoder(order="sorted").encode


def fingerprint(request: TaskRequest) -> str:
    """A hash of all that a request says but its key. Order, spaces and defaults spelt out make no difference."""
    return sha256(_encode(replace(request, idempotency_key=None))).hexdigest()
