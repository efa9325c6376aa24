"""The commands for API keys."""

from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click

from orchestrator.cli.console import (
    call,
    codec_for,
    fail,
    file_option,
    json_option,
    print_table,
    served_option,
    settings_of,
    show,
)
from orchestrator.client import Answer, Client, segment
from orchestrator.domain.identity import Scope

SCOPES = (*(scope.value for scope in Scope), "all")


@click.group()
def keys() -> None:
    """API keys: directly in the database, or through the orchestrator that serves from it (scope operate)."""


@keys.command("create")
@click.argument("subject")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="A right.",
)
@served_option
@file_option
def keys_create(subject: str, scopes: tuple[str, ...], url: str | None, file: Path | None) -> None:
    """Make a key for SUBJECT, a client or the agent of that id; print it, once."""
    from orchestrator import keyring

    wanted = list(Scope) if "all" in scopes else [Scope(scope) for scope in scopes]
    body = {"subject": subject, "scopes": wanted}
    made = _on_keys(
        file, url,
        partial(keyring.create, subject=subject, scopes=frozenset(wanted)),
        lambda client: client.call("POST", "/keys", body),
    )  # fmt: skip
    click.echo(made.body["api_key"] if isinstance(made, Answer) else made[1])


@keys.command("list")
@json_option
@served_option
@file_option
def keys_list(url: str | None, file: Path | None) -> None:
    """List them, without their secrets."""
    from orchestrator import keyring

    found = _on_keys(file, url, keyring.all_keys, lambda client: client.call("GET", "/keys"))
    shown = found.body["keys"] if isinstance(found, Answer) else [key.shown() for key in found]
    rows = [(key["key_id"], key["subject"], " ".join(key["scopes"]), key["created_at"]) for key in shown]
    print_table(("key", "subject", "scopes", "since"), rows)


@keys.command("revoke")
@click.argument("key_id")
@served_option
@file_option
def keys_revoke(key_id: str, url: str | None, file: Path | None) -> None:
    """End a key, at once."""
    from orchestrator import keyring

    _on_keys(
        file,
        url,
        partial(keyring.revoke, key_id=key_id),
        lambda client: client.call("DELETE", f"/keys/{segment(key_id)}"),
    )
    click.echo(f"{key_id} is revoked")


def _on_keys(
    file: Path | None,
    url: str | None,
    direct: Callable[[str, Any], Coroutine[Any, Any, Any]],
    ask: Callable[[Client], Coroutine[Any, Any, Answer]],
) -> Any:
    """What `direct` finds in the database, or what the orchestrator that owns it answers."""
    from orchestrator import serving
    from orchestrator.domain.errors import OrchestratorError
    from orchestrator.listening import url_at
    from orchestrator.storage.ports import LedgerLocked

    settings = settings_of(file)
    if url is None:
        try:
            return anyio.run(direct, settings.storage.database_url, codec_for(settings))
        except LedgerLocked:
            url = url_at(settings.web.host, settings.web.port, settings)
        except OrchestratorError as error:
            fail(1, error.detail)
        except Exception as error:  # noqa: BLE001 - the last resort of the process: one line and an exit code
            fail(serving.exit_code(error), f"{type(error).__name__}: {error}")
    answer = call(url, ask)
    if not answer.ok:
        show(answer)
    return answer
