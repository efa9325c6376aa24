"""Keeps the audit's last room free: stops acceptance before the ledger is full, so that what was accepted can end."""

import anyio
from msgspec import Struct

from orchestrator.actors.events import Emit, SpaceBack, SpaceLow
from orchestrator.kernel.watch import Watch
from orchestrator.storage.ports import Ledger, Unreadable

LOOK_EVERY_S = 1.0
NEAR, LOOK_OFTEN_S = 8, 0.05
"""Within so many times the watermark it looks more often, since a busy clinic writes a lot in a second."""


class Watermarks(Struct, frozen=True):
    """Below `low` bytes of room no work is accepted, until there are `high` again; 0 and 0 never stop it."""

    low: int
    high: int

    def admits(self, room: int | None, admitted: bool) -> bool:
        """Whether work is accepted with so much room (None: nobody knows), after it was or was not before."""
        return room is None or room >= (self.low if admitted else self.high)


class SpaceWatch:
    """Looks at the ledger's room, once a second or more often, and says in `roomy` whether there is enough."""

    def __init__(self, ledger: Ledger, marks: Watermarks, roomy: Watch[bool], emit: Emit) -> None:
        self._ledger, self._marks, self._roomy, self._emit = ledger, marks, roomy, emit
        self.room: int | None = None

    async def run(self) -> None:
        """For ever. What was the case stays the case while the ledger cannot be read."""
        while True:
            try:
                self.room = await self._ledger.room()
            except Unreadable:
                pass
            else:
                self._decide(self.room)
            near = self.room is not None and self.room < NEAR * self._marks.low
            await anyio.sleep(LOOK_OFTEN_S if near else LOOK_EVERY_S)

    def _decide(self, room: int | None) -> None:
        before = self._roomy.value
        if (now := self._marks.admits(room, before)) is not before:
            self._roomy.publish(now)
            self._emit(SpaceBack() if now else SpaceLow())
