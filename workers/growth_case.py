"""A child's measurements, read from a payload; every error names its field and quotes no value."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from math import isfinite
from typing import Any, cast

from orchestrator.workers.task import Permanent

SEXES = ("male", "female")
REFERENCES = ("uk-who", "who")
KINDS = ("height", "weight", "ofc", "bmi")
"""Height or length in cm, weight in kg, head circumference in cm, BMI in kg/m²."""

MAX_MEASUREMENTS = 300
GESTATION_WEEKS = range(23, 45)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement; `field` says where in the payload it is, for error messages."""

    field: str
    date: date
    kind: str
    value: float


@dataclass(frozen=True, slots=True)
class GrowthCase:
    """A child and its measurements, by date."""

    sex: str
    birth_date: date
    gestation_weeks: int
    reference: str
    measurements: tuple[Measurement, ...]


def read_case(payload: Mapping[str, Any]) -> GrowthCase:
    """The case in `payload`. Raises Permanent. Gestation is 40 weeks and the reference uk-who if they are not given."""
    born = _date(payload.get("birth_date"), "birth_date")
    rows: object = payload.get("measurements")
    items = cast("list[object]", rows) if isinstance(rows, list) else []
    if not 0 < len(items) <= MAX_MEASUREMENTS:
        raise Permanent(f"measurements: a list of 1 to {MAX_MEASUREMENTS} measurements is needed")
    measurements = [_measurement(item, f"measurements[{index}]", born) for index, item in enumerate(items)]
    return GrowthCase(
        sex=_one_of(payload.get("sex"), SEXES, "sex"),
        birth_date=born,
        gestation_weeks=_gestation(payload.get("gestation_weeks", 40)),
        reference=_one_of(payload.get("reference", "uk-who"), REFERENCES, "reference"),
        measurements=tuple(sorted(measurements, key=lambda measurement: measurement.date)),
    )


def _measurement(item: object, field: str, born: date) -> Measurement:
    if not isinstance(item, dict):
        raise Permanent(f"{field}: an object is needed")
    row = cast("dict[str, object]", item)
    day = _date(row.get("date"), f"{field}.date")
    if day < born:
        raise Permanent(f"{field}.date: before birth_date")
    value = row.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value <= 0:
        raise Permanent(f"{field}.value: a number above 0 is needed")
    return Measurement(field, day, _one_of(row.get("kind"), KINDS, f"{field}.kind"), float(value))


def _date(value: object, field: str) -> date:
    try:
        return date.fromisoformat(cast("str", value))
    except (TypeError, ValueError):
        raise Permanent(f"{field}: a date as YYYY-MM-DD is needed") from None


def _one_of(value: object, choices: tuple[str, ...], field: str) -> str:
    if value not in choices:
        raise Permanent(f"{field}: one of {', '.join(choices)} is needed")
    return cast("str", value)


def _gestation(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in GESTATION_WEEKS:
        first, last = GESTATION_WEEKS[0], GESTATION_WEEKS[-1]
        raise Permanent(f"gestation_weeks: a whole number from {first} to {last} is needed")
    return value
