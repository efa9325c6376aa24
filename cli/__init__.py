"""The command line, thin: it reads words, calls what the rest offers, and prints. A module for each noun.

Exit codes: 0 well, 1 no (a task that failed, a chain that does not hold), 2 settings or usage, 65 the database is
damaged or of a newer version, 69 something needed is not there, 70 the actors gave up, 74 the end of a commit is
unknown, 75 the database belongs to another process, 130 Ctrl-C.
"""

import click

from orchestrator import __version__
from orchestrator.cli.commands import Commands

MODULES = {
    "agents": "agents", "audit": "audit", "backup": "database", "completion": "completion", "consents": "consents",
    "demo": "service", "dlq": "dead_letters", "doctor": "doctor", "encryption": "encryption", "erase": "erase",
    "explain": "tasks", "health": "doctor", "keys": "keys", "restore": "database", "serve": "service",
    "settings": "settings", "submit": "tasks", "tables": "database", "task": "tasks",
}  # fmt: skip
"""In which module each command is, under its own name."""


@click.group(cls=Commands, modules=MODULES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
@click.option("--json", "as_json", is_flag=True, help="Tables as JSON: an array, an object a row.")
def main(as_json: bool) -> None:
    """Takes work for AI agents, checks consent, routes it, gets it done, and proves what it decided."""
