"""Decisions about tasks that ask the same of the same agents: worked out once, as long as no agent changes."""

from msgspec import Struct
from msgspec.json import encode

from orchestrator.actors.messages import Directory
from orchestrator.domain.decision import Decision
from orchestrator.domain.policy import Field, Lot, Policy, field_of, settled_until
from orchestrator.domain.task import demand_of_lane
from orchestrator.kernel.watch import Watch

MOST_FIELDS = 1024
MOST_TEXT = 4_000_000
"""Characters of remembered decisions: with many agents each is long."""


class Decided(Struct, frozen=True):
    """A decision, and the same as the JSON text that the audit holds."""

    decision: Decision
    text: str


class Known(Struct):
    """What a lane finds, and what was decided about its tasks, by how the lot fell."""

    field: Field
    decided: dict[Lot, Decided]


class Decisions:
    """Decides on the agents as they are at that moment: what it remembers is of this directory and of this time."""

    def __init__(self, policy: Policy, directory: Watch[Directory]) -> None:
        self._policy, self._watched = policy, directory
        self._directory: Directory = {}
        self._until = 0.0
        self._known: dict[tuple[str, bool], Known] = {}
        self._length = 0

    @property
    def remembered(self) -> int:
        """How much is kept; bounded."""
        return sum(1 + len(known.decided) for known in self._known.values())

    def about(self, key: str, lane: str, now: float, *, urgent: bool) -> Decided:
        """The decision, at `now` (monotonic seconds), about a task in `lane` that has met nobody before.

        `key` is its id, by which the lot falls between equals.
        """
        if now >= self._until or self._directory is not self._watched.value:
            self._begin(now)
        asked = lane, urgent
        known = self._known.get(asked)
        if known is None:
            known = self._remember_field(asked, now)
        lot = known.field.lot(key)
        return known.decided.get(lot) or self._remember(lot, known, asked)

    def _begin(self, now: float) -> None:
        self._forget()
        self._directory = self._watched.value
        self._until = settled_until(self._directory.values(), now, self._policy)

    def _forget(self) -> None:
        self._known.clear()
        self._length = 0

    def _remember_field(self, asked: tuple[str, bool], now: float) -> Known:
        if len(self._known) >= MOST_FIELDS:
            self._forget()
        lane, urgent = asked
        demand = demand_of_lane(lane, urgent=urgent)
        known = self._known[asked] = Known(field_of(demand, self._directory.values(), now, self._policy), {})
        return known

    def _remember(self, lot: Lot, known: Known, asked: tuple[str, bool]) -> Decided:
        decision = known.field.decided(lot)
        decided = Decided(decision, encode(decision).decode())
        self._length += len(decided.text)
        if self._length > MOST_TEXT:
            self._forget()
            known = self._known[asked] = Known(known.field, {})
        known.decided[lot] = decided
        return decided
