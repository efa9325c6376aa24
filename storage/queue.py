"""The embedded queue: the ledger's ready rows, held as tickets in bounded memory, in the order in which to run them.

Tasks wait in lines, one for each class and lane: tasks of a line find the same agents, so a line that no agent serves
holds up no other. A line holds a window of tickets and is refilled from the ledger. The lines share one bound, so a
million tasks cost no more memory than it allows, in however many lanes they wait. Between classes a smooth weighted
round-robin chooses, in which waiting adds weight.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from math import inf

import anyio

from orchestrator.domain.task import Priority
from orchestrator.kernel.monotonic import monotonic
from orchestrator.storage.ports import LedgerReader, Ticket, Unreadable

WEIGHTS: Mapping[Priority, float] = {Priority.URGENT: 8, Priority.HIGH: 4, Priority.NORMAL: 2, Priority.LOW: 1}
AGING_LIMIT = 0.5
"""What share of its weight a class may gain by waiting: it stays below the class above it, so that after a day without
agents urgent work is still served first."""
LEAST_WINDOW = 8
"""Tickets that a line may hold however many lines there are."""
SLICE_S = 0.02
"""How long a taker reads ahead for the sweep before it looks for what it came for."""


def for_any(_: Priority) -> int:
    """A taker with a slot for every class."""
    return 1


class Line:
    """A window on the tasks of one class and lane, in the order of acceptance."""

    def __init__(self, *, complete: bool) -> None:
        self.window: deque[Ticket] = deque()
        self.complete = complete
        """Whether the ledger holds nothing of this line beyond the window."""
        self._told: Ticket | None = None

    @property
    def last(self) -> int:
        return self.window[-1].seq if self.window else 0

    def is_beyond(self, ticket: Ticket) -> bool:
        """Whether the ticket's place is behind the window, among what the ledger alone knows."""
        return not self.complete and ticket.seq > self.last

    def has_news(self) -> bool:
        """Whether those who wait have not been told of the line as it is: they look at its head alone."""
        head = self.window[0] if self.window else None
        told, self._told = self._told, head
        return head is None or head is not told

    def take(self) -> None:
        """Takes the head. Should it come back, that is news."""
        self.window.popleft()
        self._told = None

    def insert(self, ticket: Ticket, size: int) -> Ticket | None:
        """Puts a ticket that is not beyond the window in its place; returns the one that falls out, if it is full."""
        if not self.window or ticket.seq > self.last:
            self.window.append(ticket)
        else:
            insort(self.window, ticket, key=lambda waiting: waiting.seq)
        if len(self.window) <= size:
            return None
        self.complete = False
        return self.window.pop()


class EmbeddedQueue:
    """One for a process. Its methods but `take` never wait; all belong to one event loop."""

    def __init__(
        self,
        ledger: LedgerReader,
        now: Callable[[], float],
        *,
        window: int = 512,
        tickets: int = 10_000,
        lines: int = 1024,
        aging_s: float = 60.0,
        sweep_s: float = 5.0,
        patience_s: float = 1.0,
    ) -> None:
        """`now` is in seconds since the epoch. While its head waits `aging_s`, a class gains half its weight.

        A line holds at most `window` tickets, and its share of the `tickets` that all of them hold together. Every
        `sweep_s` the ledger is looked through for tasks whose announcement was lost; every `patience_s` a waiting taker
        looks again, since time alone may bring an agent back.
        """
        self._ledger, self._now = ledger, now
        self._window, self._tickets, self._max_lines = window, tickets, lines
        self._aging, self._sweep_every, self._patience = aging_s, sweep_s, patience_s
        self._lines: dict[tuple[Priority, str], Line] = {}
        self._known: set[str] = set()
        """Tasks in a window or taken."""
        self._taken: set[str] = set()
        self._ended: set[str] = set()
        """Tasks that were taken and done with while the ledger was being read: what it answers may still name them."""
        self._expected = 0
        """How many lines the lanes of the last sweep need."""
        self._all_lanes = False
        """Whether every lane of the ledger has had its line, so that a new line starts with nothing behind it."""
        self._all_found = False
        """The same, as far as the sweep in progress has come."""
        self._credit = dict.fromkeys(Priority, 0.0)
        self._swept_at: float | None = None
        self._unswept: deque[tuple[Priority, str]] = deque()
        """Lanes that the sweep in progress has still to look at."""
        self._lane_cursor: tuple[Priority, str] | None = None
        self._reading = anyio.Lock(fast_acquire=True)
        self._news = 0
        """How often something changed that a taker may want to know."""
        self._awaited: anyio.Event | None = None

    def __repr__(self) -> str:
        waiting = sum(len(line.window) for line in self._lines.values())
        return f"<EmbeddedQueue {waiting} tickets in {len(self._lines)} lines>"

    def announce(self, ticket: Ticket) -> None:
        if ticket.task_id in self._known:
            return
        self._ended.discard(ticket.task_id)
        line = self._line(ticket.priority, ticket.lane)
        if line is not None:
            if not line.is_beyond(ticket):
                self._insert(line, ticket)
            if line.has_news():
                self.wake()

    def wake(self) -> None:
        # Where nothing is known to wait there is nothing to look for again, and agents change with every call.
        if self._lines:
            self._tell_takers()

    def _tell_takers(self) -> None:
        self._news += 1
        if self._awaited is not None:
            self._awaited.set()
            self._awaited = None

    def done(self, ticket: Ticket) -> None:
        if ticket.task_id in self._taken:
            self._taken.discard(ticket.task_id)
            self._known.discard(ticket.task_id)
            if self._reading.locked():
                self._ended.add(ticket.task_id)

    def give_back(self, ticket: Ticket) -> None:
        self.done(ticket)
        self.announce(ticket)

    def forget(self, task_id: str) -> None:
        if task_id not in self._known or task_id in self._taken:
            return
        for line in self._lines.values():
            for ticket in line.window:
                if ticket.task_id == task_id:
                    line.window.remove(ticket)
                    self._forget([ticket])
                    return

    def oldest(self) -> Mapping[Priority, float]:
        oldest: dict[Priority, float] = {}
        for (priority, _), line in self._lines.items():
            if line.window:
                oldest[priority] = min(oldest.get(priority, inf), line.window[0].queued_at)
        return oldest

    async def take(self, routable: Callable[[Ticket], bool], free: Callable[[Priority], int] = for_any) -> Ticket:
        while True:
            seen, more = self._news, False
            # What cannot be read now is read later; what is known already goes on.
            with suppress(Unreadable):
                more = await self._read_ahead()
            ticket = self._next(routable, free)
            if ticket is not None:
                return ticket
            if not more:
                with anyio.move_on_after(self._pause()):
                    await self._changed(seen)

    async def _changed(self, seen: int) -> None:
        """Waits for news after the first `seen`."""
        if self._news == seen:
            self._awaited = self._awaited or anyio.Event()
            await self._awaited.wait()

    def take_now(self, routable: Callable[[Ticket], bool], free: Callable[[Priority], int] = for_any) -> Ticket | None:
        return self._next(routable, free)

    def _pause(self) -> float:
        """How long a taker waits before it looks again, if nothing changes."""
        return self._patience

    @property
    def _size(self) -> int:
        """How many tickets a line may hold, as things are."""
        lines = max(1, len(self._lines), self._expected)
        return min(self._window, max(LEAST_WINDOW, self._tickets // lines))

    def _line(self, priority: Priority, lane: str) -> Line | None:
        """The line of that name; None when there are too many: the sweep will come round to it."""
        line = self._lines.get((priority, lane))
        if line is not None:
            return line
        if len(self._lines) >= self._max_lines:
            self._all_lanes = self._all_found = False
            return None
        line = self._lines[priority, lane] = Line(complete=self._all_lanes)
        return line

    def _insert(self, line: Line, ticket: Ticket) -> None:
        self._known.add(ticket.task_id)
        dropped = line.insert(ticket, self._size)
        if dropped is not None:
            self._known.discard(dropped.task_id)

    def _next(self, routable: Callable[[Ticket], bool], free: Callable[[Priority], int]) -> Ticket | None:
        """Takes the head of the line whose turn it is, among those that can go somewhere."""
        heads: dict[Priority, tuple[Ticket, Line]] = {}
        for (priority, _), line in self._lines.items():
            if not line.window or not free(priority):
                continue
            head = line.window[0]
            if (priority not in heads or head.seq < heads[priority][0].seq) and routable(head):
                heads[priority] = (head, line)
        if not heads:
            return None
        ticket, line = heads[self._turn(heads)]
        line.take()
        self._taken.add(ticket.task_id)
        return ticket

    def _turn(self, heads: Mapping[Priority, tuple[Ticket, Line]]) -> Priority:
        """Smooth weighted round-robin, as in nginx: each gains its weight, the richest pays for all."""
        if len(heads) == 1:
            # Alone it pays what it gains.
            return next(iter(heads))
        now = self._now()
        total = 0.0
        for priority, (head, _) in heads.items():
            age = min(1.0, max(0.0, now - head.queued_at) / self._aging)
            weight = WEIGHTS[priority] * (1.0 + AGING_LIMIT * age)
            self._credit[priority] += weight
            total += weight
        turn = max(heads, key=lambda priority: self._credit[priority])
        self._credit[turn] -= total
        return turn

    async def _read_ahead(self) -> bool:
        """Fills lines that ran dry, and from time to time looks through the ledger for what was never announced.

        True when that look is not at its end.
        """
        async with self._reading:
            await self._sweep()
            for (priority, lane), line in list(self._lines.items()):
                if not line.window and not line.complete:
                    await self._refill(priority, lane, line)
                if not line.window and line.complete:
                    self._lines.pop((priority, lane), None)
            return bool(self._unswept)

    async def _sweep(self) -> None:
        """The first one to its end, so that the order holds from the start; the others by slices, since takers wait."""
        now = monotonic()
        if not self._unswept:
            if self._swept_at is not None and now - self._swept_at < self._sweep_every:
                return
            await self._begin_sweep()
        end = inf if self._swept_at is None else now + SLICE_S
        while self._unswept and monotonic() <= end:
            priority, lane = self._unswept[0]
            line = self._line(priority, lane)
            if line is not None:
                await self._refill(priority, lane, line)
            self._unswept.popleft()
        if not self._unswept:
            self._all_lanes = self._all_found
            self._swept_at = monotonic()

    async def _begin_sweep(self) -> None:
        lanes = await self._ledger.lanes()
        self._all_found = len(lanes) <= self._max_lines
        if not self._all_found:
            self._all_lanes = False
            lanes = self._rotate(sorted(lanes))
        self._expected = len(lanes)
        self._unswept.extend(lanes)

    def _rotate(self, lanes: list[tuple[Priority, str]]) -> list[tuple[Priority, str]]:
        """More lanes than lines: half of the lines are given, in turn, to the lanes that follow."""
        start = bisect_left(lanes, self._lane_cursor) % len(lanes) if self._lane_cursor else 0
        chosen = (lanes[start:] + lanes[:start])[: max(1, self._max_lines // 2)]
        self._lane_cursor = lanes[(start + len(chosen)) % len(lanes)]
        for name in [name for name in self._lines if name not in set(chosen)][self._max_lines // 2 :]:
            self._forget(self._lines.pop(name).window)
        return chosen

    async def _refill(self, priority: Priority, lane: str, line: Line) -> None:
        """Reads the front of the line anew, and keeps what was announced meanwhile."""
        limit = self._size + len(self._taken)
        self._ended.clear()
        # Until the answer is here, what is announced is kept; when the window cannot hold it, it is complete no more.
        line.complete = True
        try:
            found = await self._ledger.ready(priority, lane, after=0, limit=limit)
        except BaseException:
            line.complete = False
            raise
        more = len(found) == limit
        last = found[-1].seq if more else inf
        merged = {ticket.task_id: ticket for ticket in line.window if ticket.seq <= last}
        # What is known but not in this window is being dispatched right now, or waits in another line.
        merged.update((t.task_id, t) for t in found if t.task_id not in self._known and t.task_id not in self._ended)
        ordered = sorted(merged.values(), key=lambda ticket: ticket.seq)
        self._forget(line.window)
        line.window = deque(ordered[: self._size])
        line.complete = line.complete and not more and len(ordered) <= self._size
        self._known.update(ticket.task_id for ticket in line.window)

    def _forget(self, tickets: Iterable[Ticket]) -> None:
        self._known.difference_update(ticket.task_id for ticket in tickets)
