"""The commands for tasks: send one, look at one, follow one, ask where one would go."""

import os
import sys
from contextlib import aclosing
from typing import Any

import anyio
import click
import msgspec

from orchestrator.cli.console import (
    as_json,
    asking,
    call,
    json_option,
    print_table,
    read_json,
    show,
    url_option,
    wait_option,
    well,
)
from orchestrator.cli.live import line_of, watch_option
from orchestrator.client import Orchestrator
from orchestrator.credentials import authorization, tls

WHY_NOT = {
    "capability": "it cannot do such tasks",
    "consent": "it handles raw media, and consent does not hold",
    "raw_media": "it has no right to raw media",
    "quarantined": "it is new or has changed, and nobody has allowed that: orchestrator agents allow",
    "stale": "it was not heard of for a while",
    "ejected": "it failed several times in a row, and is left alone for a while",
    "paused": "it asked to be left alone for a while",
    "draining": "it takes no more work",
    "site": "it is an edge agent of another site",
    "capacity": "it has as much as it can do",
}


@click.command()
@click.argument("task", type=click.File("rb"), default="-")
@wait_option
@json_option
@url_option
def submit(task: Any, wait: int, url: str) -> None:
    """Send a task, a JSON object from a file or standard input."""
    body = read_json(task)
    accepted = call(url, lambda client: client.submit(body))
    task_id = accepted.body.get("task_id")
    if wait and task_id:
        show(call(url, lambda client: client.task(str(task_id), wait)))
    else:
        show(accepted)


@click.command()
@click.argument("task_id")
@wait_option
@watch_option
@json_option
@url_option
def task(task_id: str, *, wait: int, watch: bool, url: str) -> None:
    """Show a task's status and result; with --watch all that happens to it, and how far its agent is, to its end."""
    if watch:
        sys.exit(0 if _followed(url, task_id) == "succeeded" else 1)
    show(call(url, lambda client: client.task(task_id, wait)))


def _followed(url: str, task_id: str) -> str:
    """Prints each event, and returns the status in the end."""
    encoded = as_json()

    async def follow() -> str:
        status = ""
        async with (
            Orchestrator(url, authorization(os.environ), tls=tls(os.environ)) as orchestrator,
            aclosing(orchestrator.stream(task_id)) as events,
        ):
            async for event in events:
                told = {"name": event.name, **event.data}
                click.echo(msgspec.json.encode(told) if encoded else line_of(event.name, event.data))
                status = str(event.data.get("status"))
        return status

    with asking():
        return anyio.run(follow)


@click.command()
@click.argument("task", type=click.File("rb"), default="-")
@json_option
@url_option
def explain(task: Any, url: str) -> None:
    """Say where a task would go and why; nothing is stored or sent."""
    body = read_json(task)
    decided = well(call(url, lambda client: client.call("POST", "/route_task", body, {"dry_run": "true"}))).body
    rows = [_row(candidate, decided["agent_id"]) for candidate in decided["candidates"]]
    rows.sort(key=lambda row: ("chosen", "kept", "left out").index(row[1]))
    print_table(("candidate", "verdict", "why", "score"), rows)
    if as_json():
        return
    if decided["refused"]:
        click.echo("refused: it carries raw media, and consent does not hold")
    elif decided["agent_id"] is None:
        kept = any(row[1] == "kept" for row in rows)
        until = "somebody who is kept asks for it" if kept else "somebody can"
        click.echo(f"nobody can take it now: it would be queued until {until}")


def _row(candidate: dict[str, Any], chosen: str | None) -> tuple[str, str, str, Any]:
    name, score = candidate["agent_id"], candidate.get("score")
    if (excluded := candidate.get("excluded")) is not None:
        return name, "left out", f"{excluded}: {WHY_NOT.get(excluded, '')}", score
    reasons = ["at the edge, which is preferred" if candidate.get("edge") else "not at the edge"]
    reasons += ["gets it if it asks before another is called"] if candidate.get("pulls") else []
    reasons += ["not heard of since the start"] if candidate.get("unknown") else []
    return name, "chosen" if name == chosen else "kept", ", ".join(reasons), score
