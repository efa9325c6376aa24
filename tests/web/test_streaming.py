"""Answers that go on: what somebody is told who was let in, and may then read no more."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext

import anyio.lowlevel
import pytest
from quart import Quart, Response

from orchestrator.domain.errors import OrchestratorError, Overloaded, Unauthenticated
from orchestrator.web.streaming import RETRY_MS, Source, Streams, streaming

pytestmark = pytest.mark.anyio

BEGINNING = b"retry: %d\n\n" % RETRY_MS


async def told(may_read: Callable[[], Awaitable[object]], *, closing: bool = False) -> bytes:
    """The whole stream of a source that has an event at each look."""
    app, looks = Quart("streams"), iter((b"first\n\n", b"second\n\n", b"third\n\n"))

    async def look() -> tuple[list[bytes], bool]:
        return [next(looks)], False

    @app.get("/")
    async def stream() -> Response:
        source = Source(look, may_read, lambda: closing, anyio.lowlevel.checkpoint, nullcontext(), b"gone\n\n")
        return streaming(Streams(1), source)

    answer = await app.test_client().get("/")
    return bytes(await answer.get_data(as_text=False))


@pytest.mark.parametrize(
    ("error", "last"), [(Overloaded("The connection is to end."), b""), (Unauthenticated("Who?"), b"gone\n\n")]
)
async def test_a_reader_who_may_read_no_more(error: OrchestratorError, last: bytes) -> None:
    """It was let in, so it is told once where things stand: also if the end of service had begun by then."""

    async def refuse() -> None:
        raise error

    assert await told(refuse) == BEGINNING + b"first\n\n" + last


async def test_the_end_of_service() -> None:
    """Comes after a look."""
    assert await told(anyio.lowlevel.checkpoint, closing=True) == BEGINNING + b"first\n\n"
