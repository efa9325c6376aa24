"""The commands for the database as a whole: make its tables, copy it, put a copy back."""

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click

from orchestrator.cli.console import codec_for, fail, file_option, on_ledger, settings_of


@click.command()
@file_option
def tables(file: Path | None) -> None:
    """Create the database's tables, or bring them up to date."""
    from orchestrator import auditing, serving

    settings = settings_of(file)
    try:
        version = anyio.run(auditing.create_tables, settings.storage.database_url, codec_for(settings))
    except Exception as error:  # noqa: BLE001 - the last resort of the process: one line and an exit code
        fail(serving.exit_code(error), f"{type(error).__name__}: {error}")
    click.echo(f"the schema is version {version}")


@click.command()
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@file_option
def backup(target: Path, file: Path | None) -> None:
    """Copy the database, in use or not, to the new file TARGET, and verify the copy."""
    from orchestrator import backups

    report = on_ledger(file, partial(backups.back_up, file=target))
    click.echo(f"{target}: {_ends(report)}, the chain holds")


@click.command()
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False))
@file_option
def restore(source: Path, file: Path | None) -> None:
    """Put the backup SOURCE in the place of the database, once verified; nobody may be using it."""
    from orchestrator import backups

    report = on_ledger(file, partial(backups.restore, file=source, codec=codec_for(settings_of(file))))
    click.echo(f"restored from {source}: {_ends(report)}, the chain holds")


def _ends(report: Any) -> str:
    return ", ".join(f"{head.writer} {head.seq} entries" for head in report.heads) or "no entries"
