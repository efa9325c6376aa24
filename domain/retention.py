"""How long what has ended is kept, and what of it is due to be removed. Times are seconds; 0 keeps it for ever."""

from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby, pairwise
from math import inf

from msgspec import Struct

from orchestrator.domain import anchor, checkpoint
from orchestrator.domain.audit import Head

FIRST = (0.0, 0)
"""The place before all that has ended."""
_TESTIMONY = frozenset({anchor.EVENT, checkpoint.EVENT})


class Periods(Struct, frozen=True):
    """How long after the end of its task each thing is kept; audit entries from when they were written.

    A dead letter that nobody replayed counts as ended only after `dead_letter_s`.
    """

    payload_s: float = 0.0
    result_s: float = 0.0
    task_s: float = 0.0
    dead_letter_s: float = 0.0
    audit_s: float = 0.0

    def before(self, now: float) -> float | None:
        """Of what ended before this, something may be due; None where nothing of a task is ever removed."""
        kept = [period for period in (self.payload_s, self.result_s, self.task_s) if period]
        return now - min(kept) if kept else None


class Ended(Struct, frozen=True):
    """A task that has ended, as far as retention asks for it. `seq` and `ended_at` are its place among those."""

    task_id: str
    seq: int
    ended_at: float
    payload: bool
    """Whether its payload is still there; its meta goes with it."""
    result: bool
    dead_letter: bool
    """Whether it may still be replayed: it is dead, and nobody did."""
    awaited: bool
    """Whether its sender is still to be told of its end."""
    keyed: bool
    """Whether an idempotency key stands for it, which a client may send again, or a dead letter that it replays."""
    size: int
    """Bytes of its payload, meta and result as they are stored, which a removal overwrites."""


class Due(Struct, frozen=True):
    """What of a task is to be removed now."""

    payload: bool = False
    result: bool = False
    task: bool = False


def due(ended: Ended, periods: Periods, now: float) -> Due:
    """What is to be removed at `now`, seconds since the epoch.

    A task that its key still stands for stays as a row without payload and result: the same request must find it.
    """
    age = now - ended.ended_at
    if ended.awaited or (ended.dead_letter and age < _or_ever(periods.dead_letter_s)):
        return Due()
    over = age >= _or_ever(periods.task_s)
    return Due(
        payload=ended.payload and (over or age >= _or_ever(periods.payload_s)),
        result=ended.result and (over or age >= _or_ever(periods.result_s)),
        task=over and not ended.keyed,
    )


def within(found: Sequence[Ended], most: int) -> Sequence[Ended]:
    """The first of them that have at most so many bytes together, and one in any case."""
    sizes = accumulate(ended.size for ended in found)
    return found[: max(1, sum(size <= most for size in sizes))]


class Begin(Struct, frozen=True):
    """All of a chain was removed up to `place`. `since` is when the oldest entry was written that is still there."""

    place: Head
    since: str


def complete_since(begins: Iterable[Begin]) -> str | None:
    """From when on no entry is missing; None where none ever was removed."""
    return max((begin.since for begin in begins), default=None)


class Entry(Struct, frozen=True):
    """An entry of the trail, as far as retention asks for it."""

    writer: str
    seq: int
    event: str
    created_at: str
    prev_hash: str
    entry_hash: str
    held: bool
    """Whether its task is still open, or more was written of it since, but for its erasure."""


def due_entries(oldest: Iterable[Entry], before: str, most: int) -> tuple[int, tuple[Head, ...]]:
    """How many of the `oldest` entries are to be removed, at most `most`, and where the chains begin then.

    They come chain by chain in the order of `seq`. An entry goes when it was written before `before` and is not held,
    and all before it in its chain go; the last one stays, so that the chain goes on. A chain that begins with its first
    entry is not named. Checkpoints and anchors go with others only: each removal makes new ones.
    """
    removed, others, begins = 0, False, list[Head]()
    for writer, chain in groupby(oldest, key=lambda entry: entry.writer):
        entries = list(chain)
        begin = Head(writer, entries[0].seq - 1, entries[0].prev_hash)
        for entry, _ in pairwise(entries):
            if entry.held or entry.created_at >= before or removed == most:
                break
            removed += 1
            others = others or entry.event not in _TESTIMONY
            begin = Head(writer, entry.seq, entry.entry_hash)
        if begin.seq > 0:
            begins.append(begin)
    return (removed if others or removed == most else 0), tuple(begins)


def _or_ever(period: float) -> float:
    return period or inf
