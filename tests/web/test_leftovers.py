"""What a request used is gone with its answer: what waits for the collector makes everybody else wait with it."""

import gc
from collections.abc import Callable, Iterator

import pytest
from quart import Request

from orchestrator.testing import Service
from orchestrator.web.asked import DirectRequest

pytestmark = pytest.mark.anyio

MANY = 10


@pytest.fixture
def left() -> Iterator[Callable[[], int]]:
    """Counts the requests since now that only the collector finds."""

    def count() -> int:
        gc.collect()
        return sum(isinstance(it, DirectRequest | Request) for it in gc.garbage)

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield count
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


async def test_accepted_tasks(service: Service, left: Callable[[], int]) -> None:
    for _ in range(MANY):
        assert (await service.route({})).status == 202
    assert left() == 0


@pytest.mark.parametrize("path", ["/agents", "/task/none", "/audit", "/health"])
async def test_what_is_read(service: Service, left: Callable[[], int], path: str) -> None:
    for _ in range(MANY):
        await service.ask("GET", path)
    assert left() == 0
