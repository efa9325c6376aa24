"""What settings share: the form of a section, ranges and words. Times are seconds."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

Positive = Annotated[float, Meta(gt=0, le=31_536_000)]
NotNegative = Annotated[float, Meta(ge=0, le=31_536_000)]
Age = Annotated[float, Meta(ge=0, le=100 * 31_536_000)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$(?!\n)")]
Host = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9_.-]*[A-Za-z_-][A-Za-z0-9_.-]*$(?!\n)")]
OwnHost = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^(\*|[\w.-]*[A-Za-z_-][\w.-]*)$(?!\n)")]
Weight = Annotated[float, Meta(ge=0, le=1_000_000)]


class Level(StrEnum):
    """How much is logged; written in any case."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"

    @classmethod
    def _missing_(cls, value: object) -> "Level | None":
        return cls.__members__.get(str(value).upper())


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file of settings."""
