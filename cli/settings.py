"""The command that shows the settings in force."""

import os
from pathlib import Path

import click
import msgspec

from orchestrator.cli.console import fail, file_option, json_option, print_table
from orchestrator.settings import SettingsError, load_with_sources


@click.command()
@json_option
@file_option
def settings(file: Path | None) -> None:
    """Print the settings in force, and where each came from."""
    try:
        effective = load_with_sources(file, os.environ)[1]
    except SettingsError as error:
        fail(2, str(error))
    rows = [(it.name, msgspec.json.encode(it.value, enc_hook=str).decode(), it.source) for it in effective]
    print_table(("setting", "value", "from"), rows)
