"""The commands for agents."""

from functools import partial
from urllib.parse import quote

import click

from orchestrator.cli.console import call, json_option, objects_of, print_table, show, table_of, url_option, well
from orchestrator.cli.live import watch_option, watched

COLUMNS = ("agent", "state", "location", "capabilities", "in flight", "endpoint")


@click.group(invoke_without_command=True)
@watch_option
@json_option
@url_option
@click.pass_context
def agents(context: click.Context, *, watch: bool, url: str) -> None:
    """List the agents and how they are."""
    if context.invoked_subcommand is not None:
        return
    if watch:
        watched(partial(_rows, url), partial(table_of, COLUMNS), partial(objects_of, COLUMNS))
    print_table(COLUMNS, _rows(url))


def _rows(url: str) -> list[tuple[object, ...]]:
    answer = well(call(url, lambda client: client.call("GET", "/agents")))
    return [
        (
            agent["agent_id"],
            agent["state"],
            agent["location"],
            ", ".join(agent["capabilities"]),
            f"{agent['in_flight']}/{agent['max_concurrency']}",
            agent["endpoint"] or "(asks for work)",
        )
        for agent in answer.body.get("agents", [])
    ]


@agents.command("allow")
@click.argument("agent_id")
@click.option("--raw-media", is_flag=True, help="It may also be given raw media, with consent.")
@url_option
def agents_allow(agent_id: str, *, raw_media: bool, url: str) -> None:
    """Allow an agent that is new or has changed: what it is now is what it may be."""
    path, body = f"/agents/{quote(agent_id, safe='')}/allow", {"raw_media": raw_media}
    show(call(url, lambda client: client.call("POST", path, body)))
