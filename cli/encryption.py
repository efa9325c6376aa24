"""The command for encryption at rest."""

from pathlib import Path

import anyio
import click

from orchestrator.cli.console import fail, file_option, settings_of


@click.group()
def encryption() -> None:
    """Encryption of payloads, meta and results at rest."""


@encryption.command("rotate")
@file_option
def encryption_rotate(file: Path | None) -> None:
    """Put the data keys of all tasks under the first of the keys; the others can be taken away afterwards."""
    from orchestrator import rotation, serving
    from orchestrator.crypto.envelope import InvalidMasterKey

    settings = settings_of(file)
    if not settings.storage.encryption_key:
        fail(serving.EXIT_SETTINGS, "storage.encryption_key: there is no key to rotate to")
    try:
        changed = anyio.run(rotation.rotate, settings)
    except InvalidMasterKey as error:
        fail(serving.EXIT_SETTINGS, f"storage.encryption_key: {error}")
    except Exception as error:  # noqa: BLE001 - the last resort of the process: one line and an exit code
        fail(serving.exit_code(error), f"{type(error).__name__}: {error}")
    click.echo(f"{changed} data keys are wrapped anew")
