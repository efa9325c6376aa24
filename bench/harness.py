"""How things are compared: what is measured and its baseline take turns in one run, and ratios of pairs are told."""

import json
import os
import platform
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

PACKAGES = ("anyio", "hypercorn", "quart", "msgspec", "aiosqlite", "asyncpg", "redis", "uvloop")

Measure = Callable[[float], float]
"""Works for about so many seconds, and says how many a second it did."""


@dataclass(frozen=True)
class Benchmark:
    """`wanted` is the ratio to the baseline that is to be reached, None where there is none to compare with."""

    name: str
    what: str
    measure: Measure
    baseline: Measure
    baseline_what: str
    wanted: float


@dataclass(frozen=True)
class Outcome:
    """Rates a second, in the order of their measuring; each of the two lists holds one of each pair."""

    benchmark: Benchmark
    rates: list[float]
    baselines: list[float]

    @property
    def ratios(self) -> list[float]:
        return [rate / baseline for rate, baseline in zip(self.rates, self.baselines, strict=True)]

    def lines(self) -> list[str]:
        """For people."""
        it = self.benchmark
        reached = "reached" if median(self.ratios) >= it.wanted else "not reached"
        return [
            f"{it.name}: {it.what}",
            f"  {_spread(self.rates, '{:,.0f}')} a second",
            f"  {_spread(self.baselines, '{:,.0f}')} a second: {it.baseline_what}",
            f"  {_spread(self.ratios, '{:.2f}')} times that; wanted {it.wanted:g}: {reached}",
        ]


def compare(benchmark: Benchmark, pairs: int, seconds: float) -> Outcome:
    """A B A B …, so that whatever else the machine does meets both."""
    rates: list[float] = []
    baselines: list[float] = []
    for _ in range(pairs):
        baselines.append(benchmark.baseline(seconds))
        rates.append(benchmark.measure(seconds))
    return Outcome(benchmark, rates, baselines)


def write(outcomes: list[Outcome], path: Path) -> None:
    """Everything measured, with the machine and the versions, as JSON."""
    document = {
        "machine": machine(),
        "benchmarks": [
            {"name": it.benchmark.name, "rates": it.rates, "baselines": it.baselines, "ratios": it.ratios}
            for it in outcomes
        ],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def machine() -> dict[str, object]:
    """What it ran on."""
    return {
        "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _spread(values: list[float], form: str) -> str:
    middle, least, most = (form.format(value) for value in (median(values), min(values), max(values)))
    return f"median {middle} ({least} to {most})"
