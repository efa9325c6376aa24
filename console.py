"""What the commands share: their options, how they ask the orchestrator or the database, how they print and end."""

import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import anyio
import click
import msgspec
from rich.console import Console
from rich.table import Table

from orchestrator.client import Answer, Client, Unreachable
from orchestrator.credentials import NoCredential, authorization
from orchestrator.settings import Settings, SettingsError, load

DEFAULT_URL = "http://127.0.0.1:8080"

url_option = click.option(
    "--url", envvar="ORCHESTRATOR_URL", default=DEFAULT_URL, show_default=True, help="Where it serves."
)
served_option = click.option(
    "--url", envvar="ORCHESTRATOR_URL", help="Where it serves; without it the database is asked first."
)
wait_option = click.option(
    "--wait",
    type=float,
    is_flag=False,
    flag_value=50.0,
    default=0.0,
    help="Wait for its end; at most so many seconds (50).",
)
file_option = click.option(
    "--settings", "file", type=click.Path(path_type=Path, dir_okay=False), help="A settings file over the defaults."
)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table whose first column, the one that people copy, is never cut."""
    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*("" if field is None else str(field) for field in row))
    console = Console()
    # Into a file or a pipe nothing is squeezed.
    (console if console.is_terminal else Console(width=200)).print(table)


def settings_of(
    file: Path | None, host: str | None = None, port: int | None = None, base: dict[str, str] | None = None
) -> Settings:
    environ = {**(base or {}), **os.environ}
    if host is not None:
        environ["ORCHESTRATOR_WEB_HOST"] = host
    if port is not None:
        environ["ORCHESTRATOR_WEB_PORT"] = str(port)
    try:
        return load(file, environ)
    except SettingsError as error:
        fail(2, str(error))


def read_json(file: Any) -> Any:
    try:
        return msgspec.json.decode(file.read())
    except msgspec.DecodeError:
        fail(2, "the task is not valid JSON")


def call(url: str, ask: Callable[[Client], Coroutine[Any, Any, Answer]]) -> Answer:
    async def ask_once() -> Answer:
        async with Client(url, authorization(os.environ)) as client:
            return await ask(client)

    try:
        return anyio.run(ask_once)
    except NoCredential as error:
        fail(2, str(error))
    except Unreachable as error:
        fail(69, str(error))


def show(answer: Answer) -> NoReturn:
    click.echo(msgspec.json.format(msgspec.json.encode(answer.body), indent=2).decode())
    sys.exit(0 if answer.ok and answer.body.get("status") not in ("dead", "expired", "denied") else 1)


def on_ledger(file: Path | None, work: Callable[[str], Coroutine[Any, Any, Any]]) -> Any:
    from orchestrator import serving

    try:
        return anyio.run(work, settings_of(file).storage.database_url)
    except Exception as error:  # noqa: BLE001 - the last resort of the process: one line and an exit code
        fail(serving.exit_code(error), f"{type(error).__name__}: {error}")


def fail(code: int, message: str) -> NoReturn:
    click.echo(f"orchestrator: {message}", err=True)
    sys.exit(code)
