"""The command for the queues: what waits, what is in hand, what was done lately."""

from functools import partial
from typing import Any

import click
from rich.console import Group, RenderableType

from orchestrator.cli.console import as_json, call, json_option, print_json, printer, table_of, url_option, well
from orchestrator.cli.live import watch_option, watched
from orchestrator.web.dashboard.words import count, span


@click.command()
@watch_option
@json_option
@url_option
def queues(*, watch: bool, url: str) -> None:
    """Show each class: how many wait and since when; what is in hand, and how fast work is done."""
    look = partial(_flow, url)
    if watch:
        watched(look, _drawn, lambda found: found)
    if as_json():
        print_json(look())
    else:
        printer().print(_drawn(look()))


def _flow(url: str) -> dict[str, Any]:
    return well(call(url, lambda client: client.call("GET", "/queues"))).body


def _drawn(flow: dict[str, Any]) -> RenderableType:
    columns = ("class", "waiting", "oldest", "most in 1 h", "oldest in 1 h")
    rows = [
        (
            line["priority"],
            count(line["ready"]),
            span(line["oldest_s"]) if line["ready"] else "",
            count(line["most_ready"]),
            span(line["most_oldest_s"]) if line["most_oldest_s"] else "",
        )
        for line in flow["queues"]
    ]
    hour = flow["last_hour"]
    now = f"in flight {count(flow['in_flight'])}"
    rates = f"each minute {count(flow['accepted_per_min'])} accepted, {count(flow['succeeded_per_min'])} done"
    done = ", ".join(f"{count(hour[name])} {word}" for name, word in _HOUR)
    return Group(table_of(columns, rows), f"{now} · {rates}", f"last hour: {done}")


_HOUR = (
    ("succeeded", "done"), ("failures", "attempts failed"), ("retries", "retried"), ("dead", "dead letters"),
    ("refused", "refused"),
)  # fmt: skip
