"""Both event loops for every test here; on trio the clock is virtual, and what waits in a test takes no time."""

import pytest
import trio.testing


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    if request.param == "asyncio":
        return "asyncio"
    return ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


@pytest.fixture
def virtual_clock():
    """For modules about time: `anyio_backend` is overridden there with trio under a clock that jumps."""
    return ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})
