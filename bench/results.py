"""What was measured, as one JSON document; and what it says: medians, ratios pair by pair, targets reached or not."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from msgspec import Struct
from msgspec.json import decode

from orchestrator.bench.harness import Outcome, Target


class Measured(Struct):
    """One benchmark: what each subject gave, turn by turn."""

    name: str
    what: str
    rounds: dict[str, list[dict[str, float]]]
    missing: dict[str, str] = {}
    targets: list[Target] = []
    baseline: str = ""


class Results(Struct):
    """A whole run."""

    machine: dict[str, Any]
    benchmarks: list[Measured]


class Spread(Struct, frozen=True):
    """Of a figure over the rounds."""

    median: float
    least: float
    most: float


def write(machine: Mapping[str, object], outcomes: Sequence[Outcome], path: Path) -> None:
    """Everything measured, with the machine and the versions."""
    benchmarks = [
        {
            "name": it.benchmark.name,
            "what": it.benchmark.what,
            "rounds": {name: [_rounded(figures) for figures in turns] for name, turns in it.rounds.items()},
            "missing": it.missing,
            "baseline": it.benchmark.baseline,
            "targets": [_said(target) for target in it.benchmark.targets],
        }
        for it in outcomes
    ]
    path.write_text(json.dumps({"machine": machine, "benchmarks": benchmarks}, indent=1) + "\n", "utf-8")


def read(path: Path) -> Results:
    """Raises msgspec.ValidationError for what is no such document."""
    return decode(path.read_bytes(), type=Results)


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def figures(measured: Measured, subject: str) -> dict[str, Spread]:
    """Each figure of a subject, over its rounds."""
    turns = measured.rounds[subject]
    return {name: spread([turn[name] for turn in turns]) for name in turns[0]}


def ratios(measured: Measured, figure: str, subject: str, baseline: str) -> Spread | None:
    """Pair by pair; None where one of the two has no such figure."""
    ours, theirs = measured.rounds.get(subject, []), measured.rounds.get(baseline, [])
    pairs = [(a[figure], b[figure]) for a, b in zip(ours, theirs, strict=False) if figure in a and figure in b]
    return spread([a / b for a, b in pairs]) if pairs else None


def reached(measured: Measured, target: Target) -> list[tuple[str, float, bool]]:
    """For each thing that is to be reached: its name, the median, and whether it is."""
    found: list[tuple[str, float, bool]] = []
    if not target.over and target.subject in measured.rounds:
        value = figures(measured, target.subject)[target.figure].median
        found.append((f"{target.subject}: {target.figure}", value, _holds(target, value)))
    for baseline in target.over:
        ratio = ratios(measured, target.figure, target.subject, baseline)
        if ratio is not None:
            found.append((f"{target.subject} / {baseline}", ratio.median, _holds(target, ratio.median)))
    return found


def lines(measured: Measured) -> Iterator[str]:
    """For people."""
    yield f"{measured.name}: {measured.what}"
    baseline = measured.baseline
    for subject in measured.rounds:
        for name, it in figures(measured, subject).items():
            ratio = ratios(measured, name, subject, baseline) if baseline and subject != baseline else None
            times = f"   {ratio.median:.2f} x {baseline} ({ratio.least:.2f} to {ratio.most:.2f})" if ratio else ""
            span = f"({number(it.least)} to {number(it.most)})"
            yield f"  {subject:34}{number(it.median):>9} {name:14}{span:22}{times}"
    for subject, why in measured.missing.items():
        yield f"  {subject:34}not measured: {why}"
    for target in measured.targets:
        for what, value, holds in reached(measured, target):
            yield f"  {'reached' if holds else 'NOT REACHED'}: {what} {wanted(target)}: {number(value)}"


def wanted(target: Target) -> str:
    """What a target asks for, as a sign and a number."""
    return f">= {number(target.least)}" if target.least is not None else f"<= {number(target.most or 0.0)}"


def number(value: float) -> str:
    """As many digits as mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _holds(target: Target, value: float) -> bool:
    return (target.least is None or value >= target.least) and (target.most is None or value <= target.most)


def _rounded(turn: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in turn.items()}


def _said(target: Target) -> dict[str, object]:
    return {
        "figure": target.figure, "subject": target.subject, "least": target.least, "most": target.most,
        "over": list(target.over),
    }  # fmt: skip
