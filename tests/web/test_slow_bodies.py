"""How long a body may take, in virtual time: as long as is said, however it comes."""

from typing import Any

import anyio
import pytest
import trio.testing
from werkzeug.exceptions import RequestTimeout

from orchestrator.web.asked import DirectRequest
from orchestrator.web.site import AT_ONCE

pytestmark = pytest.mark.anyio

WITHIN_S = 10.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


class Client:
    """Sends its pieces at these times; a whole body is there already where that time is 0."""

    def __init__(self, *times: float) -> None:
        self._times, self._sent = times, 0
        self.scope = {
            "method": "POST", "path": "/", "query_string": b"", "headers": [], AT_ONCE: self,
        }  # fmt: skip
        self._began = anyio.current_time()

    def take(self) -> bytes | None:
        return b"x" if self._times == (0,) else None

    async def receive(self) -> Any:
        await anyio.sleep_until(self._began + self._times[self._sent])
        self._sent += 1
        return {"type": "http.request", "body": b"x", "more_body": self._sent < len(self._times)}

    async def send(self, message: Any) -> None:
        raise AssertionError(message)

    async def read(self) -> bytes:
        return await DirectRequest(self.scope, self.receive, self.send, most=100, within_s=WITHIN_S).get_data()


@pytest.mark.parametrize("times", [(0,), (0, 9.999), (9.999,), (1, 9.999), (3, 6, 9.999), (0, 0, 5, 9.999)], ids=str)
async def test_a_body_that_comes_in_time(times: tuple[float, ...]) -> None:
    """Is read as a whole."""
    assert await Client(*times).read() == b"x" * len(times)


@pytest.mark.parametrize(
    "times",
    [(10.001,), (0, 10.001), (1, 10.001), (9.999, 10.001), (9.999, 19.998), (5, 9, 60), (0, 0, 9, 99)],
    ids=str,
)
async def test_a_body_that_does_not(times: tuple[float, ...]) -> None:
    """Is waited for no longer than that, whether its first piece comes late or only the next."""
    client, began = Client(*times), anyio.current_time()
    with pytest.raises(RequestTimeout):
        await client.read()
    assert anyio.current_time() - began == pytest.approx(WITHIN_S)
