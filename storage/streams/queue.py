"""The queue of a replica among several: streams bring it work, and the ledger whatever they do not bring.

While the streams are away it is the embedded queue. While they carry the work, it holds no more than its takers want,
so that what one replica has no slot for is left to the others; and it looks through the ledger for the lanes of which
it has nothing in hand: what streams have lost, and what stands in them behind tasks that nobody can do now. Now and
then it looks into every lane: one in which there is always something in hand may hide what was lost before it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import anyio

from orchestrator.domain.task import Priority
from orchestrator.storage.ports import LedgerReader, StreamEntry, Ticket
from orchestrator.storage.queue import EmbeddedQueue, Line, for_any

HUNGRY_S = 5.0
"""How often the ledger is looked through while a taker has nothing to do."""
BLOCKED_S = 0.05
"""And while what is in hand cannot go anywhere, though other work may stand behind it."""
SATED_S = 60.0
"""And while there is always something to do."""
AHEAD = 8
"""How many entries of a class are wanted beyond the slots that are free: the next ones, when one becomes free."""


class StreamQueue(EmbeddedQueue):
    """One for a process, fed by a stream reader. All belongs to one event loop."""

    def __init__(
        self,
        ledger: LedgerReader,
        now: Callable[[], float],
        *,
        hold: int = 512,
        aging_s: float = 60.0,
    ) -> None:
        """`hold` bounds the entries in hand of each class, however many slots there are; the rest as for the embedded
        queue. With many slots as many are read in one go: by few at a time, it would wait for the round trips.
        """
        super().__init__(ledger, now, aging_s=aging_s)
        self._hold = hold
        self._attached = False
        self._hungry = self._fruitful = False
        self._saw_all_at: float | None = None
        """When the ledger was last looked through for lanes of which something was in hand too."""
        self._takers: list[Callable[[Priority], int]] = []
        """What each who waits has slots for."""
        self._entries: dict[str, list[StreamEntry]] = {}
        self._held: Counter[Priority] = Counter()
        self._finished: list[StreamEntry] = []
        self._wanting, self._finishing = anyio.Event(), anyio.Event()

    def __repr__(self) -> str:
        state = "attached" if self._attached else "detached"
        return f"<StreamQueue {state}, {self._held.total()} entries in hand, {len(self._lines)} lines>"

    def attach(self) -> None:
        self._attached = True

    def detach(self) -> None:
        if self._attached:
            self._attached, self._swept_at = False, None
            self._unswept.clear()
            self.wake()

    def room(self) -> Mapping[Priority, int]:
        slots = {priority: sum(free(priority) for free in self._takers) for priority in Priority}
        wanted = {p: min(self._hold, free + AHEAD) - self._held[p] for p, free in slots.items() if free > 0}
        return {priority: more for priority, more in wanted.items() if more > 0}

    async def wanting(self) -> None:
        while not self.room():
            self._wanting = anyio.Event()
            await self._wanting.wait()

    def deliver(self, entries: Sequence[StreamEntry], tickets: Sequence[Ticket]) -> None:
        ready = {ticket.task_id: ticket for ticket in tickets}
        for entry in entries:
            ticket = ready.get(entry.task_id)
            if ticket is None:
                self.forget(entry.task_id)
                self._finish([entry])
                continue
            self._take_in(entry)
            super().announce(ticket)
            if ticket.task_id not in self._known:
                self._let_go(ticket.task_id)

    def finished(self) -> list[StreamEntry]:
        finished, self._finished = self._finished, []
        return finished

    async def finishing(self) -> None:
        while not self._finished:
            self._finishing = anyio.Event()
            await self._finishing.wait()

    def held(self) -> list[StreamEntry]:
        return [entry for entries in self._entries.values() for entry in entries]

    def announce(self, ticket: Ticket) -> None:
        """While the streams carry the work they bring this too, to whoever has a slot for it."""
        if not self._attached:
            super().announce(ticket)

    async def take(self, routable: Callable[[Ticket], bool], free: Callable[[Priority], int] = for_any) -> Ticket:
        self._takers.append(free)
        self._want()
        try:
            return await super().take(routable, free)
        finally:
            self._takers.remove(free)

    def take_now(self, routable: Callable[[Ticket], bool], free: Callable[[Priority], int] = for_any) -> Ticket | None:
        # A taker that has something already is not hungry.
        return super()._next(routable, free)

    def wake(self) -> None:
        # What waits may be in the ledger alone, or in the streams.
        self._tell_takers()
        self._want()

    def done(self, ticket: Ticket) -> None:
        super().done(ticket)
        self._let_go(ticket.task_id)

    def give_back(self, ticket: Ticket) -> None:
        super().done(ticket)
        super().announce(ticket)
        if ticket.task_id not in self._known:
            self._let_go(ticket.task_id)

    def _next(self, routable: Callable[[Ticket], bool], free: Callable[[Priority], int]) -> Ticket | None:
        ticket = super()._next(routable, free)
        self._hungry = ticket is None
        return ticket

    async def _read_ahead(self) -> bool:
        if not self._attached:
            return await super()._read_ahead()
        async with self._reading:
            now = anyio.current_time()
            if self._swept_at is None or now - self._swept_at >= self._look_every():
                await self._look_through()
                self._swept_at = now
            for name in [name for name, line in self._lines.items() if not line.window]:
                del self._lines[name]
        return False

    def _pause(self) -> float:
        pause = super()._pause()
        return min(pause, self._look_every()) if self._attached else pause

    def _look_every(self) -> float:
        if not self._hungry:
            return SATED_S
        blocked = any(held >= AHEAD for held in self._held.values())
        return BLOCKED_S if blocked or self._fruitful else HUNGRY_S

    async def _look_through(self) -> None:
        """Reads the front of each lane of which nothing is in hand: elsewhere the streams bring what there is, and a
        short look now and then is enough to find what they do not.
        """
        self._fruitful = False
        now = anyio.current_time()
        all_of_them = self._saw_all_at is None or now - self._saw_all_at >= SATED_S
        for priority, lane in await self._ledger.lanes():
            line = self._line(priority, lane)
            if line is not None and not line.window:
                await self._look_into(priority, lane, self._hold)
            elif line is not None and all_of_them:
                await self._look_into(priority, lane, len(line.window) + AHEAD)
        if all_of_them:
            self._saw_all_at = now

    async def _look_into(self, priority: Priority, lane: str, limit: int) -> None:
        """Takes in what is not known of so many at its front, not counting what is taken."""
        self._ended.clear()
        found = await self._ledger.ready(priority, lane, after=0, limit=limit + len(self._taken))
        for ticket in found:
            if ticket.task_id not in self._known and ticket.task_id not in self._ended:
                self._fruitful = True
                super().announce(ticket)

    def _line(self, priority: Priority, lane: str) -> Line | None:
        line = super()._line(priority, lane)
        if line is not None and self._attached:
            # Whatever else there is of it the streams will bring.
            line.complete = True
        return line

    def _forget(self, tickets: Iterable[Ticket]) -> None:
        """What is not in hand any more is the ledger's to bring."""
        gone = list(tickets)
        super()._forget(gone)
        for ticket in gone:
            self._let_go(ticket.task_id)

    def _take_in(self, entry: StreamEntry) -> None:
        entries = self._entries.setdefault(entry.task_id, [])
        if entry not in entries:
            entries.append(entry)
            self._held[entry.priority] += 1

    def _let_go(self, task_id: str) -> None:
        entries = self._entries.pop(task_id, [])
        for entry in entries:
            self._held[entry.priority] -= 1
        self._finish(entries)

    def _finish(self, entries: Sequence[StreamEntry]) -> None:
        if entries:
            self._finished.extend(entries)
            self._finishing.set()
            self._want()

    def _want(self) -> None:
        self._wanting.set()
