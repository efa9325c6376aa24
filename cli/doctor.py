"""The commands that tell an operator, or a machine, whether all is well."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click
import msgspec
from rich.console import Console
from rich.text import Text

from orchestrator.cli.console import as_json, call, file_option, json_option, show, url_option
from orchestrator.settings import SettingsError, load

if TYPE_CHECKING:
    from orchestrator.doctor import Finding

_STYLE = {"ok": "green", "warning": "yellow", "failure": "bold red"}


@click.command()
@json_option
@file_option
def doctor(file: Path | None) -> None:
    """Say whether everything is as it should be, and what to do where it is not; exit code 1 for a failure."""
    sys.exit(1 if anyio.run(_told, file, as_json()) else 0)


@click.command()
@url_option
def health(url: str) -> None:
    """Ask the orchestrator at URL whether it lives, as containers do; exit code 69 where nobody answers."""
    show(call(url, lambda client: client.call("GET", "/health")))


async def _told(file: Path | None, encoded: bool) -> bool:
    from orchestrator.doctor import Level, examine, unusable

    console, failed = Console(soft_wrap=True), False
    try:
        settings = load(file, os.environ)
    except SettingsError as error:
        _show(console, unusable(error), encoded=encoded)
        return True
    async for finding in examine(settings):
        failed = failed or finding.level is Level.FAILURE
        _show(console, finding, encoded=encoded)
    return failed


def _show(console: Console, finding: "Finding", *, encoded: bool) -> None:
    if encoded:
        click.echo(msgspec.json.encode(finding))
        return
    line = Text.assemble(
        (f"{finding.level.value:<8}", _STYLE[finding.level.value]), f"{finding.name:<12} {finding.found}"
    )
    if finding.advice:
        line.append(f"\n{'':8}{'':12} → {finding.advice}", "italic")
    console.print(line)
