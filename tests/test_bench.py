"""The benchmarks can be run by anybody. How fast anything is, no test says."""

import re
import subprocess
import sys
from pathlib import Path

from orchestrator.bench.benchmarks import BENCHMARKS
from orchestrator.bench.harness import Benchmark, Missing, Outcome, Subject, Target, Turn, measure
from orchestrator.bench.machine import machine
from orchestrator.bench.profile import function_of, part_of, stacks
from orchestrator.bench.report import SECTIONS, filled
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


def test_the_page_tells_of_every_benchmark_and_of_no_other() -> None:
    """Each that docs/performance.md names can be run, and it names each that there is."""
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    section = page.partition("## What the benchmarks are")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [benchmark.name for benchmark in BENCHMARKS]


def test_the_page_is_written_from_results(tmp_path: Path) -> None:
    """Targets, figures and machine stand between their marks, whatever stood there before; all else stays."""
    target = Target("tasks/s", "ours", least=3.0, over=("theirs",))
    subjects = (Subject("ours", lambda _: {"tasks/s": 4000.0}), Subject("theirs", lambda _: {"tasks/s": 1000.0}))
    write(machine(), [measure(Benchmark("b", "what", subjects, (target,), "theirs"), 1, Turn())], tmp_path / "b.json")
    page = "".join(f"before {name}\n<!-- {name} -->\nold\n<!-- end -->\n" for name in SECTIONS)
    made = filled(page, read(tmp_path / "b.json"))
    assert "old" not in made
    assert made.count("before ") == made.count("<!-- end -->") == len(SECTIONS)
    assert "| b | ours / theirs | >= 3 | 4 | reached |" in made
    assert "| ours | tasks/s | 4,000 | 4,000 | 4,000 | 4 (4 to 4) |" in made.replace("4.00", "4")
    assert "Python" in made


def test_a_moment_counts_for_the_innermost_part_it_was_spent_in() -> None:
    """What C does counts for its library; where that is the interpreter, for the function of Python that it runs."""
    script = [
        " 4242 ",
        "\tffffffff8201e585 tcp_ack ([kernel.kallsyms])",
        "\t            441d UVStream_write (/usr/lib/uvloop/loop.so)",
        f"\t    7f356b2382bd py::Connection.write:{ROOT}/web/fast_http.py (/tmp/perf-4242.map)",
        "",
        "14243 ",
        "\t          10dc34 _Py_NewRef (inlined)",
        "\t          10dc34 PyEval (/usr/lib/libpython3.12.so.1.0)",
        "\t    7f356b237d48 py::HMAC.copy:/usr/lib/python3.12/hmac.py (/tmp/perf-4242.map)",
        f"\t    7f356b237d48 py::Disguise.wear:{ROOT}/storage/disguise.py (/tmp/perf-4242.map)",
        f"\t    7f356b237d48 py::accepted:{ROOT}/actors/intake.py (/tmp/perf-4242.map)",
    ]
    samples = list(stacks(script))
    assert [(thread, part_of(stack)) for thread, stack in samples] == [
        (4242, "the system"),
        (14243, "rows, digests of keys, statements"),
    ]
    assert [function_of(stack) for _, stack in samples] == [
        "Connection.write:web/fast_http.py",
        "HMAC.copy:/usr/lib/python3.12/hmac.py",
    ]
