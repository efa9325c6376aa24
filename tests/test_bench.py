"""The benchmarks can be run by anybody. How fast anything is, no test says."""

import subprocess
import sys
from pathlib import Path

from orchestrator.bench.benchmarks import BENCHMARKS
from orchestrator.bench.harness import Benchmark, Missing, Outcome, Subject, Target, Turn, measure
from orchestrator.bench.results import reached, read, write

ROOT = Path(__file__).resolve().parent.parent


def bench(*words: str) -> str:
    """What `python -m bench` prints."""
    command = [sys.executable, "-m", "bench", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=100).stdout


def test_the_benchmarks_can_be_listed() -> None:
    """Each by its name, which is its own, with what it measures."""
    listed = [line.split()[0] for line in bench("--list").splitlines()]
    assert listed == [benchmark.name for benchmark in BENCHMARKS]
    assert len(set(listed)) == len(listed)


def test_a_benchmark_writes_down_what_it_measured(tmp_path: Path) -> None:
    """Both sides took their turns, one figure each; the machine is told, but not whose it is."""
    output = tmp_path / "bench.json"
    printed = bench("inprocess", "--rounds", "1", "--seconds", "0.2", "--output", str(output))
    results = read(output)
    (measured,) = results.benchmarks
    assert all(len(turns) == 1 and turns[0]["tasks/s"] > 0 for turns in measured.rounds.values())
    assert len(measured.rounds) == 2
    assert "orchestrator in process" in printed
    assert {"processor", "cores", "python", "versions"} <= results.machine.keys()
    assert str(ROOT) not in output.read_text("utf-8")


def test_ratios_are_told_pair_by_pair(tmp_path: Path) -> None:
    """Turns of one round are compared, so that a machine that slows down in between does not change the ratio."""
    speeds = {"ours": iter([30.0, 3.0, 12.0]), "theirs": iter([10.0, 1.0, 3.0])}
    order: list[str] = []

    def subject(name: str) -> Subject:
        def turn(_: Turn) -> dict[str, float]:
            order.append(name)
            return {"tasks/s": next(speeds[name])}

        return Subject(name, turn)

    targets = (Target("tasks/s", "ours", least=3.0, over=("theirs",)), Target("tasks/s", "ours", most=11.0))
    outcome = measure(Benchmark("b", "what", (subject("ours"), subject("theirs")), targets), 3, Turn())
    write({}, [outcome], tmp_path / "b.json")
    (measured,) = read(tmp_path / "b.json").benchmarks
    assert order == ["ours", "theirs"] * 3
    assert [reached(measured, target) for target in measured.targets] == [
        [("ours / theirs", 3.0, True)],
        [("ours: tasks/s", 12.0, False)],
    ]


def test_what_cannot_be_measured_is_told_and_holds_up_nothing() -> None:
    """A peer that is not installed takes no turn, and the others take theirs."""

    def absent(_: Turn) -> dict[str, float]:
        raise Missing("it is not installed")

    outcome = measure(Benchmark("b", "", (Subject("a", absent), Subject("c", lambda _: {"x/s": 1.0}))), 2, Turn())
    assert outcome == Outcome(outcome.benchmark, {"c": [{"x/s": 1.0}] * 2}, {"a": "it is not installed"})
