"""The commands for tasks: send one, look at one, ask where one would go."""

from typing import Any

import click

from orchestrator.cli.console import call, print_table, read_json, show, url_option, wait_option, well


@click.command()
@click.argument("task", type=click.File("rb"), default="-")
@wait_option
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
@url_option
def task(task_id: str, wait: int, url: str) -> None:
    """Show a task's status and result."""
    show(call(url, lambda client: client.task(task_id, wait)))


@click.command()
@click.argument("task", type=click.File("rb"), default="-")
@url_option
def explain(task: Any, url: str) -> None:
    """Say where a task would go and why; nothing is stored or sent."""
    body = read_json(task)
    answer = well(call(url, lambda client: client.call("POST", "/route_task", body, {"dry_run": "true"})))
    chosen, rows = answer.body["agent_id"], list[tuple[object, ...]]()
    for candidate in answer.body["candidates"]:
        rows.append((candidate["agent_id"], _verdict(candidate, chosen), candidate.get("score")))
    print_table(("candidate", "verdict", "score"), rows)
    if answer.body["refused"]:
        click.echo("refused: it carries raw media, and consent does not hold")


def _verdict(candidate: dict[str, Any], chosen: str | None) -> str:
    if "excluded" in candidate:
        return f"left out: {candidate['excluded']}"
    return "chosen" if candidate["agent_id"] == chosen else "kept"
