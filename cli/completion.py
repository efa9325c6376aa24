"""The command that prints what a shell needs to complete the others."""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
VARIABLE = "_ORCHESTRATOR_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands in SHELL: eval "$(orchestrator completion bash)"."""
    click.echo(SHELLS[shell](context.find_root().command, {}, "orchestrator", VARIABLE).source())
