"""Writes what was measured into docs/performance.md, between its marks, and draws its pictures."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.bench.harness import Missing
from orchestrator.bench.processes import ROOT, peers_python
from orchestrator.bench.results import Measured, Results, figures, number, ratios, reached, read, wanted

PAGE = ROOT / "docs" / "performance.md"
PICTURES = ROOT / "docs" / "performance"


def render(path: Path) -> None:
    """The page and its pictures, from the results in the file at `path`."""
    results = read(path)
    try:
        subprocess.run([peers_python(), ROOT / "bench" / "peers" / "plots.py", path, PICTURES], check=True)
    except Missing as missing:
        print(f"The pictures were not drawn: {missing}.", file=sys.stderr)
    PAGE.write_text(filled(PAGE.read_text("utf-8"), results), "utf-8")


def filled(page: str, results: Results) -> str:
    """The page with each marked section made anew."""
    for name, lines in SECTIONS.items():
        text = "\n".join(lines(results))
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page = marked.sub(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)
    return page


def _machine(results: Results) -> Iterator[str]:
    it: dict[str, Any] = results.machine
    pinned = "load and what is measured each on a core of its own" if it["pinned"] else "not pinned"
    yield f"Measured on {it['at']}: {it['processor']}, {it['cores']} cores, {it['memory_gib']} GiB, {it['system']};"
    yield f"{pinned}; the load average was {it['load']} when it began. Python {it['python']}, SQLite {it['sqlite']}."
    yield ""
    yield "Versions: " + ", ".join(f"{name} {version}" for name, version in it["versions"].items()) + "."


def _targets(results: Results) -> Iterator[str]:
    yield "| benchmark | what is to be reached | wanted | median | |"
    yield "|---|---|---|---|---|"
    for measured in results.benchmarks:
        for target in measured.targets:
            for what, value, holds in reached(measured, target):
                sign = "reached" if holds else "**not reached**"
                yield f"| {measured.name} | {what} | {wanted(target)} | {number(value)} | {sign} |"


def _pictures(_: Results) -> Iterator[str]:
    """Those that there are: the links of a page lead somewhere."""
    for picture in sorted(PICTURES.glob("*.svg")):
        yield f"![{picture.stem}: medians](performance/{picture.name})"
        yield ""


def _figures(results: Results) -> Iterator[str]:
    for measured in results.benchmarks:
        yield f"**{measured.name}**: {measured.what}."
        yield ""
        yield from _table(measured)
        yield ""


def _table(measured: Measured) -> Iterator[str]:
    baseline = measured.baseline
    yield (
        f"| | figure | median | least | most | ratio to {baseline} |"
        if baseline
        else "| | figure | median | least | most |"
    )
    yield "|---|---|---|---|---|---|" if baseline else "|---|---|---|---|---|"
    for subject in measured.rounds:
        for name, it in figures(measured, subject).items():
            ratio = ratios(measured, name, subject, baseline) if baseline and subject != baseline else None
            times = (
                f" {ratio.median:.2f} ({ratio.least:.2f} to {ratio.most:.2f}) |" if ratio else " |" if baseline else ""
            )
            yield f"| {subject} | {name} | {number(it.median)} | {number(it.least)} | {number(it.most)} |{times}"
    for subject, why in measured.missing.items():
        yield f"| {subject} | not measured: {why} | | | |{' |' if baseline else ''}"


SECTIONS: dict[str, Callable[[Results], Iterator[str]]] = {
    "machine": _machine,
    "targets": _targets,
    "pictures": _pictures,
    "figures": _figures,
}
