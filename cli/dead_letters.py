"""The commands for dead letters."""

import click

from orchestrator.cli.console import call, print_table, show, url_option, well
from orchestrator.client import segment


@click.group()
def dlq() -> None:
    """Dead letters."""


@dlq.command("list")
@url_option
def dlq_list(url: str) -> None:
    """List them."""
    answer = well(call(url, lambda client: client.call("GET", "/dlq", query={"limit": "1000"})))
    fields = ("task_id", "case_id", "task_type", "attempts", "reason", "updated_at")
    rows = [tuple(dead[field] for field in fields) for dead in answer.body.get("entries", [])]
    print_table(("task", "case", "type", "attempts", "reason", "since"), rows)


@dlq.command("replay")
@click.argument("task_id")
@url_option
def dlq_replay(task_id: str, url: str) -> None:
    """Make a new task of a dead one."""
    show(call(url, lambda client: client.call("POST", f"/dlq/{segment(task_id)}/replay")))
