"""Draws what was measured: `python plots.py RESULTS.json FOLDER`, by the environment that `make bench` makes.

It stands alone, since matplotlib is not among what the orchestrator is installed with.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

OURS, OTHERS = "#2a78d6", "#9aa3ad"
PLOTS = {
    "acceptance": (("http", "uvicorn", "user"), "tasks/s"),
    "durable": (("inprocess", "batches", "stores"), "tasks/s"),
    "endtoend": (("endtoend",), "tasks/s"),
    "latency": (("latency", "urgent"), "p50 ms"),
}
"""Each picture: of which benchmarks, and which figure."""


def main(results: Path, folder: Path) -> None:
    """One file for each picture of which something was measured."""
    mpl.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9})
    measured = {it["name"]: it["rounds"] for it in json.loads(results.read_text("utf-8"))["benchmarks"]}
    folder.mkdir(parents=True, exist_ok=True)
    for name, (benchmarks, figure) in PLOTS.items():
        bars = {
            subject: [turn[figure] for turn in turns]
            for benchmark in benchmarks
            for subject, turns in measured.get(benchmark, {}).items()
            if turns and figure in turns[0]
        }
        if bars:
            _draw(bars, figure, folder / f"{name}.svg")


def _draw(bars: dict[str, list[float]], figure: str, path: Path) -> None:
    """Medians as bars, with the whole spread as a line."""
    names = sorted(bars, key=lambda name: median(bars[name]))
    values = [median(bars[name]) for name in names]
    spread = [_below(bars, names), _above(bars, names)]
    picture: Any
    picture, axes = plt.subplots(figsize=(7, 0.7 + 0.32 * len(names)), layout="constrained")
    colours = [OURS if _is_ours(name) else OTHERS for name in names]
    axes.barh(names, values, xerr=spread, color=colours, error_kw={"ecolor": "#444444", "elinewidth": 1})
    for place, value in enumerate(values):
        axes.annotate(
            f"{value:,.0f}" if value >= 10 else f"{value:.2g}", (value, place), (6, 5), textcoords="offset points"
        )
    axes.set_xlabel(f"{figure} (median; the line is the whole spread)")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    # White behind it, since the page may be dark; no date, so that the same results are the same file.
    picture.savefig(path, facecolor="white", metadata={"Date": None})
    plt.close(picture)


def _below(bars: dict[str, list[float]], names: Sequence[str]) -> list[float]:
    return [median(bars[name]) - min(bars[name]) for name in names]


def _above(bars: dict[str, list[float]], names: Sequence[str]) -> list[float]:
    return [max(bars[name]) - median(bars[name]) for name in names]


def _is_ours(name: str) -> bool:
    ours = ("orchestrator", "202", "synchronous", "urgent", "PostgreSQL", "SQLite")
    return name.startswith(ours)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
