"""Passive health: what the calls to an agent tell of it. Pure state; every `now` is in monotonic seconds."""

from enum import StrEnum
from math import inf

from msgspec import Struct
from msgspec.structs import replace

FAILURES_TO_EJECT = 3
EJECTION_BASE_S = 10.0
EJECTION_CAP_S = 300.0
PAUSE_CAP_S = 300.0
LATENCY_WEIGHT = 0.2


class Availability(StrEnum):
    """Whether an agent may be called, and if not, why: then the value is that of an `Exclusion`."""

    READY = "ready"
    TRIAL = "trial"
    """Its ejection is over: one call may try it."""
    UNKNOWN = "unknown"
    """Known from the ledger, not heard of since the start: used last."""
    STALE = "stale"
    EJECTED = "ejected"
    PAUSED = "paused"
    """It asked, by Retry-After, to be left alone for a while."""
    DRAINING = "draining"

    @property
    def usable(self) -> bool:
        return self in _USABLE


_USABLE = (Availability.READY, Availability.TRIAL, Availability.UNKNOWN)


class Health(Struct, frozen=True):
    """What is known of an agent's health. `since` is when this process came to know of it.

    `latency` is a moving average in seconds, `load` what the agent says of itself (0 idle, 1 full).
    """

    since: float = 0.0
    last_seen: float | None = None
    failures: int = 0
    ejections: int = 0
    ejected_until: float | None = None
    paused_until: float | None = None
    on_trial: bool = False
    draining: bool = False
    latency: float | None = None
    load: float = 0.0

    def availability(self, now: float, ttl: float) -> Availability:
        """Whether the agent may be called at `now`; `ttl` is in seconds without a sign of life.

        Of several reasons against it the one in the order of `Exclusion` counts.
        """
        heard = self.since if self.last_seen is None else self.last_seen
        if now - heard > ttl:
            return Availability.STALE
        if self.ejected_until is not None and (self.on_trial or now < self.ejected_until):
            return Availability.EJECTED
        if self.paused_until is not None and now < self.paused_until:
            return Availability.PAUSED
        if self.draining:
            return Availability.DRAINING
        if self.ejected_until is not None:
            return Availability.TRIAL
        return Availability.UNKNOWN if self.last_seen is None else Availability.READY

    def settled_until(self, now: float, ttl: float) -> float:
        """Until when (excluded) the agent's availability stays as it is at `now`, if nothing is heard of it."""
        heard = self.since if self.last_seen is None else self.last_seen
        turns = [at for at in (self.ejected_until, self.paused_until) if at is not None and at > now]
        # Stale is what was not heard of for longer than that: at the very moment it is not yet.
        return min(turns if now - heard > ttl else [max(now, heard + ttl), *turns], default=inf)

    def heard(self, now: float, load: float | None = None) -> "Health":
        """After a heartbeat or a new registration: seen, and back from an ejection."""
        return replace(
            self,
            last_seen=now,
            failures=0,
            ejected_until=None,
            on_trial=False,
            draining=False,
            load=self.load if load is None else load,
        )

    def called(self) -> "Health":
        """A call is about to be made; after an ejection it is the single trial."""
        on_trial = self.ejected_until is not None
        return self if self.on_trial is on_trial else replace(self, on_trial=on_trial)

    def answered(self, now: float, latency: float) -> "Health":
        """After an answer that keeps to the contract, whatever it said, `latency` seconds after the call."""
        average = smoothed(self.latency, latency)
        return replace(
            self, last_seen=now, failures=0, ejections=0, ejected_until=None, on_trial=False, latency=average
        )

    def failed(self, now: float, *, refused: bool) -> "Health":
        """After a call that did not end in an answer. Refused connections, failed trials and the third in a row eject.

        Calls that were in flight when the agent was ejected tell of the same outage: they do not prolong it.
        """
        failures = self.failures + 1
        at_fault = refused or failures >= FAILURES_TO_EJECT
        if not (at_fault if self.ejected_until is None else now >= self.ejected_until):
            return replace(self, failures=failures)
        away = min(EJECTION_CAP_S, EJECTION_BASE_S * 2 ** min(self.ejections, 10))
        return replace(self, failures=failures, ejections=self.ejections + 1, ejected_until=now + away, on_trial=False)

    def paused(self, now: float, retry_after: float) -> "Health":
        """After a 429 or 503 with Retry-After, in seconds: obeyed, up to five minutes. It is an answer."""
        until = now + min(max(retry_after, 0.0), PAUSE_CAP_S)
        return replace(self, last_seen=now, failures=0, ejected_until=None, on_trial=False, paused_until=until)

    def untried(self) -> "Health":
        """A reserved call was not made after all."""
        return replace(self, on_trial=False) if self.on_trial else self

    def drained(self) -> "Health":
        """The agent asked for no more work."""
        return replace(self, draining=True)


def smoothed(average: float | None, latency: float) -> float:
    """The moving average of latencies after one more, in seconds."""
    return latency if average is None else average + LATENCY_WEIGHT * (latency - average)
