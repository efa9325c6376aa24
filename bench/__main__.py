"""Measures what this is for, beside what it is to be compared with. Takes minutes, and wants a quiet machine.

.venv/bin/python -m bench [--list] [--pairs 5] [--seconds 3] [--output FILE] [NAME …]
"""

from argparse import ArgumentParser
from pathlib import Path

from orchestrator.bench.acceptance import BENCHMARKS
from orchestrator.bench.harness import compare, write


def main() -> None:
    """All benchmarks, or those that are named."""
    parser = ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", help="which; all if none is named")
    parser.add_argument("--list", action="store_true", help="list them")
    parser.add_argument("--pairs", type=int, default=5, help="how often each takes its turn")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each turn is")
    parser.add_argument("--output", type=Path, help="a JSON file for what was measured")
    options = parser.parse_args()
    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    if unknown := set(options.names) - set(known):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    if options.list:
        for benchmark in BENCHMARKS:
            print(f"{benchmark.name:12}{benchmark.what}, against {benchmark.baseline_what}")
        return
    outcomes = [compare(known[name], options.pairs, options.seconds) for name in options.names or known]
    for outcome in outcomes:
        print(*outcome.lines(), sep="\n")
    if options.output is not None:
        write(outcomes, options.output)


if __name__ == "__main__":
    main()
