"""A decision of the policy: a value that explains itself. It holds agent ids and reasons, nothing of a payload."""

from enum import StrEnum

from msgspec import Struct


class Exclusion(StrEnum):
    """Why an agent is left out, in the order in which it is asked."""

    CAPABILITY = "capability"
    CONSENT = "consent"
    RAW_MEDIA = "raw_media"
    QUARANTINED = "quarantined"
    STALE = "stale"
    EJECTED = "ejected"
    PAUSED = "paused"
    DRAINING = "draining"
    SITE = "site"
    CAPACITY = "capacity"


class Candidate(Struct, frozen=True, omit_defaults=True):
    """One agent, kept with its score (lower is better) or left out with the reason.

    `pulls`: it is not called, it takes the task when it asks. `unknown`: not heard of since the start. `avoided`: it
    failed this task before.
    """

    agent_id: str
    excluded: Exclusion | None = None
    pulls: bool = False
    edge: bool = False
    unknown: bool = False
    avoided: bool = False
    score: float | None = None
    location: str = ""
    """Where it says that it stands; of those kept only."""
    model_version: str | None = None
    """What it says that it works with; of those kept only."""


class Decision(Struct, frozen=True):
    """Every candidate, and the order of preference of those who can be given the task now: the first is the choice.

    Those are the candidates kept, of pull agents only those that ask at this moment.
    """

    candidates: tuple[Candidate, ...]
    ranking: tuple[str, ...]
    refused: bool = False
    """The task carries raw media and has no consent: no agent may ever see it."""

    @property
    def agent_id(self) -> str | None:
        """The agent chosen, if there is one."""
        return self.ranking[0] if self.ranking else None
