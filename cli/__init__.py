"""The command line, thin: it reads words, calls what the rest offers, and prints. A module for each noun."""

import click

from orchestrator import __version__
from orchestrator.cli.commands import Commands
from orchestrator.cli.exit_codes import epilog

MODULES = {
    "agents": "agents", "audit": "audit", "backup": "database", "completion": "completion", "consents": "consents",
    "demo": "service", "dlq": "dead_letters", "doctor": "doctor", "encryption": "encryption", "erase": "erase",
    "explain": "tasks", "health": "doctor", "keys": "keys", "queues": "queues", "restore": "database",
    "serve": "service", "settings": "settings", "submit": "tasks", "tables": "database", "task": "tasks",
}  # fmt: skip
"""In which module each command is, under its own name."""


@click.group(cls=Commands, modules=MODULES, epilog=epilog(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
@click.option("--json", "as_json", is_flag=True, help="As JSON: of a table an array, an object a row.")
def main(as_json: bool) -> None:
    """Takes work for AI agents, checks consent, routes it, gets it done, and proves what it decided."""
