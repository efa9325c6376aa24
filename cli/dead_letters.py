"""The commands for dead letters."""

import os
import sys

import anyio
import click

from orchestrator.cli.console import asking, call, json_option, print_table, show, url_option, well
from orchestrator.cli.live import Advance, bar
from orchestrator.client import Orchestrator, Refused, segment
from orchestrator.credentials import authorization, tls


@click.group()
def dlq() -> None:
    """Dead letters."""


@dlq.command("list")
@json_option
@url_option
def dlq_list(url: str) -> None:
    """List them."""
    answer = well(call(url, lambda client: client.call("GET", "/dlq", query={"limit": "1000"})))
    fields = ("task_id", "case_id", "task_type", "attempts", "reason", "updated_at")
    rows = [tuple(dead[field] for field in fields) for dead in answer.body.get("entries", [])]
    print_table(("task", "case", "type", "attempts", "reason", "since"), rows)


@dlq.command("replay")
@click.argument("task_id", required=False)
@click.option("--all", "everything", is_flag=True, help="All there are; who was replayed already is so once only.")
@json_option
@url_option
def dlq_replay(task_id: str | None, *, everything: bool, url: str) -> None:
    """Make a new task of a dead one, or of each of them; exit code 1 if one could not be replayed."""
    if (task_id is None) != everything:
        raise click.UsageError("Name either a task or --all.")
    if task_id is not None:
        show(call(url, lambda client: client.call("POST", f"/dlq/{segment(task_id)}/replay")))
    rows = _replayed(url)
    print_table(("task", "outcome", "new task"), rows)
    sys.exit(0 if all(new for _, _, new in rows) else 1)


def _replayed(url: str) -> list[tuple[str, str, str | None]]:
    """Each dead letter, what came of its replay, and the new task."""

    async def replay(advance: Advance) -> list[tuple[str, str, str | None]]:
        rows: list[tuple[str, str, str | None]] = []
        async with Orchestrator(url, authorization(os.environ), tls=tls(os.environ)) as orchestrator:
            # All are listed first: what is replayed may be dead again before the last of them is.
            dead = [task.task_id async for task in orchestrator.dead_letters()]
            for number, task_id in enumerate(dead, 1):
                try:
                    made = await orchestrator.replay(task_id)
                    rows.append((task_id, made.status, made.task_id))
                except Refused as error:
                    rows.append((task_id, error.code, None))
                advance(number, len(dead))
        return rows

    with asking(), bar("replaying") as advance:
        return anyio.run(replay, advance)
