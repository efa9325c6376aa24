"""Typed settings of what is kept and for how long, and of how the trail of it is testified to."""

from typing import Annotated

from msgspec import Meta

from orchestrator.settings_sources import masked
from orchestrator.settings_types import Age, Count, Positive, Section

AUDIT_AT_LEAST_S = 31_536_000
"""A year: an audit that is kept for less has to be asked for twice."""


class Retention(Section, frozen=True):
    payload_s: Age
    result_s: Age
    task_s: Age
    dead_letter_s: Age
    audit_s: Age
    audit_short: bool
    every_s: Annotated[float, Meta(ge=1, le=86_400)]

    def __post_init__(self) -> None:
        if 0 < self.audit_s < AUDIT_AT_LEAST_S and not self.audit_short:
            raise ValueError(f"audit_s is less than a year ({AUDIT_AT_LEAST_S} s): say so by audit_short = true")


class Audit(Section, frozen=True):
    """Shows no key of its own accord."""

    signing_key: str
    checkpoint_entries: Count
    checkpoint_s: Positive

    def __repr__(self) -> str:
        return f"Audit(signing_key={masked(self.signing_key)!r}, …)"
