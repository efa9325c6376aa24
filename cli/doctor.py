"""The commands that tell an operator, or a machine, whether all is well."""

import sys
from pathlib import Path

import anyio
import click
import msgspec
from rich.console import Console
from rich.text import Text

from orchestrator.cli.console import call, file_option, settings_of, show, url_option
from orchestrator.doctor import Finding, Level, examine
from orchestrator.settings import Settings

_STYLE = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILURE: "bold red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@file_option
def doctor(as_json: bool, file: Path | None) -> None:
    """Say whether everything is as it should be, and what to do where it is not; exit code 1 for a failure."""
    settings = settings_of(file)
    failed = anyio.run(_told, settings, as_json)
    sys.exit(1 if failed else 0)


@click.command()
@url_option
def health(url: str) -> None:
    """Ask the orchestrator at URL whether it lives, as containers do; exit code 69 where nobody answers."""
    show(call(url, lambda client: client.call("GET", "/health")))


async def _told(settings: Settings, as_json: bool) -> bool:
    console, failed = Console(soft_wrap=True), False
    _show(console, Finding("settings", Level.OK, "every value is one that can be"), as_json=as_json)
    async for finding in examine(settings):
        failed = failed or finding.level is Level.FAILURE
        _show(console, finding, as_json=as_json)
    return failed


def _show(console: Console, finding: Finding, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(finding))
        return
    line = Text.assemble((f"{finding.level.value:<8}", _STYLE[finding.level]), f"{finding.name:<12} {finding.found}")
    if finding.advice:
        line.append(f"\n{'':8}{'':12} → {finding.advice}", "italic")
    console.print(line)
