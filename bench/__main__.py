"""Measures what this is for, beside what it is to be compared with. Wants a quiet machine with two cores or more.

.venv/bin/python -m bench [--list] [--rounds 5] [--seconds 3] [--scale 1] [--output FILE] [NAME …]
.venv/bin/python -m bench --report FILE
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from orchestrator.bench import machine, report, results
from orchestrator.bench.benchmarks import BENCHMARKS
from orchestrator.bench.cores import separate
from orchestrator.bench.harness import Outcome, Turn, measure


def main() -> None:
    """All benchmarks, or those that are named."""
    parser = _parser()
    options = parser.parse_args()
    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    if unknown := set(options.names) - set(known):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    if options.list:
        for benchmark in BENCHMARKS:
            print(f"{benchmark.name:12}{benchmark.what}")
    elif options.report is not None:
        report.render(options.report)
    else:
        _run(options)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; all if none is named")
    parser.add_argument("--list", action="store_true", help="list them")
    parser.add_argument("--rounds", type=int, default=5, help="how often each takes its turn (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a turn is (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the sizes that are measured (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("var/bench.json"), help="where to (%(default)s)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write docs/performance.md anew from that output")
    return parser


def _run(options: Namespace) -> None:
    if not separate():
        print("There is one core only: load and what is measured share it.", file=sys.stderr)
    about = machine.machine()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for benchmark in BENCHMARKS:
        if options.names and benchmark.name not in options.names:
            continue
        outcomes.append(measure(benchmark, options.rounds, Turn(options.seconds, options.scale)))
        # After each, so that what is broken off has something to show.
        results.write(about, outcomes, options.output)
        print(*results.lines(results.read(options.output).benchmarks[-1]), sep="\n", flush=True)


if __name__ == "__main__":
    main()
