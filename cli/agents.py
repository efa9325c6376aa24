"""The commands for agents."""

from urllib.parse import quote

import click

from orchestrator.cli.console import call, print_table, show, url_option, well


@click.group(invoke_without_command=True)
@url_option
@click.pass_context
def agents(context: click.Context, url: str) -> None:
    """List the agents and how they are."""
    if context.invoked_subcommand is not None:
        return
    answer = well(call(url, lambda client: client.call("GET", "/agents")))
    rows = [
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
    print_table(("agent", "state", "location", "capabilities", "in flight", "endpoint"), rows)


@agents.command("allow")
@click.argument("agent_id")
@click.option("--raw-media", is_flag=True, help="It may also be given raw media, with consent.")
@url_option
def agents_allow(agent_id: str, *, raw_media: bool, url: str) -> None:
    """Allow an agent that is new or has changed: what it is now is what it may be."""
    path, body = f"/agents/{quote(agent_id, safe='')}/allow", {"raw_media": raw_media}
    show(call(url, lambda client: client.call("POST", path, body)))
