"""How things are compared: those that are measured take turns in one run, A B A B, and ratios of pairs are told."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Figures = Mapping[str, float]
"""What one turn gave, by the name of the figure, which ends in its unit: `tasks/s`, `p99 ms`, `ready s`, `idle MiB`."""


@dataclass(frozen=True)
class Turn:
    """How long a turn is, about; and, where the size of something is measured, the share of its full size."""

    seconds: float = 3.0
    scale: float = 1.0


Measure = Callable[[Turn], Figures]


@dataclass(frozen=True)
class Subject:
    """Something that is measured. What is missing for it is raised as Missing by its first turn."""

    name: str
    measure: Measure


class Missing(Exception):
    """What a subject needs is not installed."""


@dataclass(frozen=True)
class Target:
    """What the median of a figure of `subject` is to reach: itself, or its ratio to each of `over`, in pairs."""

    figure: str
    subject: str
    least: float | None = None
    most: float | None = None
    over: Sequence[str] = ()


@dataclass(frozen=True)
class Benchmark:
    """`subjects` in the order of their turns; `baseline` is the one that the others are divided by, if there is one."""

    name: str
    what: str
    subjects: Sequence[Subject]
    targets: Sequence[Target] = ()
    baseline: str = ""


Rounds = dict[str, list[Figures]]
"""What each subject gave, turn by turn; the turns of one index were taken one after the other."""


@dataclass(frozen=True)
class Outcome:
    """What was measured; `missing` says for each subject that took no turn what it lacked."""

    benchmark: Benchmark
    rounds: Rounds = field(default_factory=dict[str, list[Figures]])
    missing: dict[str, str] = field(default_factory=dict[str, str])


def measure(benchmark: Benchmark, rounds: int, turn: Turn) -> Outcome:
    """A B A B …, so that whatever else the machine does meets all."""
    outcome = Outcome(benchmark)
    for _ in range(rounds):
        for subject in benchmark.subjects:
            if subject.name in outcome.missing:
                continue
            # Else the system still writes down what the turn before has left.
            os.sync()
            try:
                outcome.rounds.setdefault(subject.name, []).append(subject.measure(turn))
            except Missing as missing:
                outcome.missing[subject.name] = str(missing)
                outcome.rounds.pop(subject.name)
            except Exception as error:  # noqa: BLE001 - one that fails does not take away what the others gave
                outcome.missing[subject.name] = f"it failed: {type(error).__name__}"
                outcome.rounds.pop(subject.name)
    return outcome
