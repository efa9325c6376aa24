"""The command that destroys what tasks hold."""

from urllib.parse import quote

import click

from orchestrator.cli.console import call, show, url_option


@click.command()
@click.option("--task", "task_id", metavar="TASK_ID", help="What this task holds.")
@click.option("--case", "case_id", metavar="CASE_ID", help="What all tasks of this case hold.")
@url_option
def erase(task_id: str | None, case_id: str | None, url: str) -> None:
    """Destroy payload, result and data key of a task, or of all tasks of a case (scope operate).

    Work that is not finished is cancelled. What the audit says of it stays. There is no way back.
    """
    if (task_id is None) == (case_id is None):
        raise click.UsageError("Name either --task or --case.")
    kind, name = ("task", task_id) if task_id is not None else ("cases", case_id)
    show(call(url, lambda client: client.call("POST", f"/{kind}/{quote(name or '', safe='')}/erase")))
