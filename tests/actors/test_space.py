"""Room on the disk, and who may still use it. Time is virtual."""

import anyio
import pytest

from orchestrator.actors.events import Event, SpaceBack, SpaceLow
from orchestrator.actors.space import LOOK_OFTEN_S, NEAR, SpaceWatch, Watermarks
from orchestrator.domain.errors import Overloaded
from orchestrator.kernel.watch import Watch
from orchestrator.storage.memory import MemoryLedger
from orchestrator.storage.ports import Unreadable
from orchestrator.testing import ScriptedAgents, a_request, embedded

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock):
    return virtual_clock


class Disk(MemoryLedger):
    """A ledger whose room is what a test says, look by look; a word: it cannot be asked."""

    def __init__(self, *rooms: int | str) -> None:
        super().__init__()
        self._rooms = list(rooms)
        self.looks = 0

    async def room(self) -> int | None:
        self.looks += 1
        now = self._rooms.pop(0) if len(self._rooms) > 1 else self._rooms[0]
        if isinstance(now, str):
            raise Unreadable(now)
        return now


@pytest.mark.parametrize(
    ("rooms", "says"),
    [
        ([100, 99, 124, 125], [True, False, False, True]),
        ([124, 100, 99, 100], [True, True, False, False]),
        ([99, "away", 125, "away"], [False, False, True, True]),
    ],
)
async def test_watermarks(rooms: list[int | str], says: list[bool]) -> None:
    """Below the lower one it stops, from the higher one on it goes on; what cannot be told changes nothing."""
    roomy, heard, said = Watch(True), list[Event](), list[bool]()
    watch = SpaceWatch(Disk(*rooms), Watermarks(100, 125), roomy, heard.append)
    async with anyio.create_task_group() as group:
        group.start_soon(watch.run)
        await anyio.sleep(LOOK_OFTEN_S / 2)
        for _ in rooms:
            said.append(roomy.value)
            await anyio.sleep(LOOK_OFTEN_S)
        group.cancel_scope.cancel()
    assert said == says
    changes = [after for before, after in zip([True, *says], says, strict=False) if before is not after]
    assert heard == [SpaceBack() if back else SpaceLow() for back in changes]


@pytest.mark.parametrize(("room", "looks"), [(100 * NEAR, 10), (100 * NEAR - 1, 200)])
async def test_how_often_it_looks(room: int, looks: int) -> None:
    """Once a second, and often where little is left: a busy clinic writes a lot in a second."""
    disk = Disk(room)
    async with anyio.create_task_group() as group:
        group.start_soon(SpaceWatch(disk, Watermarks(100, 125), Watch(True), lambda _: None).run)
        await anyio.sleep(9.99)
        group.cancel_scope.cancel()
    assert disk.looks == looks


async def test_nobody_knows_the_room() -> None:
    """Nothing is refused where nobody can tell, nor where no room is to be kept."""
    assert Watermarks(100, 125).admits(None, admitted=False)
    assert Watermarks(0, 0).admits(0, admitted=False)


async def test_acceptance_without_room() -> None:
    """New work and replays are refused; what is there is served, and readiness says why."""
    async with embedded(ScriptedAgents(), Disk(0)) as running:
        await anyio.sleep(0.5)
        gateway = running.gateway
        assert gateway.unready() == ["space_low"]
        for refused in (gateway.route(a_request()), gateway.route_all([a_request()]), gateway.replay("x")):
            with pytest.raises(Overloaded):
                await refused
        assert gateway.agents() == {}
