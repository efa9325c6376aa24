"""Where a measurement stands among children of that age and sex: all that is used of rcpchgrowth, which has no types.

rcpchgrowth is the calculation engine of the Royal College of Paediatrics and Child Health (RCPCH), by the LMS method
(T. Cole, P. Green, Stat. Med. 11, 1992) over the UK-WHO reference and the WHO standard (2006) and reference (2007).
Its functions are called instead of its class Measurement, which prints.

Doubt: in version 4.6.5 the WHO height of girls on day 1827 (five years) has the boys' figures, 0.12 SDS off.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from dataclasses import dataclass
from importlib.metadata import version

import rcpchgrowth

from orchestrator.workers.growth_case import GrowthCase, Measurement
from orchestrator.workers.task import Permanent

MODEL_VERSION = f"rcpchgrowth-{version('rcpchgrowth')}"

IMPLAUSIBLE_SDS = {"height": 8.0, "weight": 8.0, "ofc": 8.0, "bmi": 15.0}
"""Beyond these a value is an error of measuring or of units, as rcpchgrowth has it (its validation_constants.py)."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A measurement with its age (decimal years, corrected for gestation), SDS and centile (0 to 100)."""

    measurement: Measurement
    age: float
    sds: float
    centile: float


def place(case: GrowthCase, measurement: Measurement) -> Placed:
    """Places one measurement of `case`. Raises Permanent when the reference has no data or the value is implausible."""
    age = _age(case, measurement)
    try:
        sds = float(
            rcpchgrowth.sds_for_measurement(
                reference=case.reference,
                age=age,
                measurement_method=measurement.kind,
                observation_value=measurement.value,
                sex=case.sex,
            )
        )
    except LookupError:
        kind = f"{measurement.kind} at this age"
        raise Permanent(f"{measurement.field}: the {case.reference} reference has no {kind}") from None
    except ArithmeticError:  # a value so large that a power overflows
        sds = float("inf")
    if not abs(sds) <= IMPLAUSIBLE_SDS[measurement.kind]:
        raise Permanent(f"{measurement.field}.value: implausible at this age (check the unit and the date)")
    return Placed(measurement, age, sds, float(rcpchgrowth.centile(z_score=sds)))


def _age(case: GrowthCase, measurement: Measurement) -> float:
    """Decimal years, corrected for gestation as rcpchgrowth does: uk-who always, who below 37 weeks up to two years."""
    weeks, born, day = case.gestation_weeks, case.birth_date, measurement.date
    age = float(rcpchgrowth.chronological_decimal_age(born, day))
    corrected = float(rcpchgrowth.corrected_decimal_age(born, day, weeks, 0))
    if case.reference == "who" and (37 <= weeks <= 42 or (weeks < 37 and corrected >= 2)):
        return age
    return corrected
