"""The command line, thin: it reads words, calls what the rest offers, and prints. A module for each noun.

Exit codes: 0 well, 1 no (a task that failed, a chain that does not hold), 2 settings or usage, 65 the database is
damaged or of a newer version, 69 something needed is not there, 70 the actors gave up, 74 the end of a commit is
unknown, 75 the database belongs to another process, 130 Ctrl-C.
"""

import click

from orchestrator import __version__
from orchestrator.cli.agents import agents
from orchestrator.cli.audit import audit
from orchestrator.cli.completion import completion
from orchestrator.cli.consents import consents
from orchestrator.cli.console import Commands
from orchestrator.cli.database import backup, restore, tables
from orchestrator.cli.dead_letters import dlq
from orchestrator.cli.doctor import doctor, health
from orchestrator.cli.encryption import encryption
from orchestrator.cli.erase import erase
from orchestrator.cli.keys import keys
from orchestrator.cli.service import demo, serve
from orchestrator.cli.settings import settings
from orchestrator.cli.tasks import explain, submit, task


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
@click.option("--json", "as_json", is_flag=True, help="Tables as JSON: an array, an object a row.")
def main(as_json: bool) -> None:
    """Takes work for AI agents, checks consent, routes it, gets it done, and proves what it decided."""


COMMANDS = (
    serve, demo, submit, task, explain, agents, consents, dlq, audit, keys, erase, doctor, health, encryption, tables,
    backup, restore, settings, completion,
)  # fmt: skip
for command in COMMANDS:
    main.add_command(command)
