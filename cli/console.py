"""What the commands share: their options, how they ask the orchestrator or the database, how they print and end."""

import json
import os
import re
import sys
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import click
import msgspec

from orchestrator.credentials import NoCredential, authorization, tls
from orchestrator.domain.errors import InvalidJSON
from orchestrator.domain.strict_json import decode
from orchestrator.settings import Settings, SettingsError, load

# Those who serve have no use for them: they are loaded where they are needed.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from orchestrator.client import Answer, Client
    from orchestrator.storage.sealing import Codec

_COLOURS = {
    **dict.fromkeys(("ready", "succeeded", "chosen", "ok"), "green"),
    **dict.fromkeys(("trial", "unknown", "paused", "draining", "quarantined", "retry_wait", "queued"), "yellow"),
    **dict.fromkeys(("stale", "ejected", "dead", "denied", "expired", "left out", "refused"), "red"),
}

_UNUSUAL = re.compile(r"[^\x20-\x7e]")

DEFAULT_URL = "http://127.0.0.1:8080"
MAX_BODY = 64 * 2**20
"""More than any orchestrator may be set to take."""

url_option = click.option(
    "--url", envvar="ORCHESTRATOR_URL", default=DEFAULT_URL, show_default=True, help="Where it serves."
)
served_option = click.option(
    "--url", envvar="ORCHESTRATOR_URL", help="Where it serves; without it the database is asked first."
)
wait_option = click.option(
    "--wait",
    type=click.IntRange(0, 50),
    is_flag=False,
    flag_value=50,
    default=0,
    help="Wait for its end; at most so many seconds (50).",
)
file_option = click.option(
    "--settings", "file", type=click.Path(path_type=Path, dir_okay=False), help="A settings file over the defaults."
)


def _asked_for(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        context.find_root().params["as_json"] = True


json_option = click.option(
    "--json", is_flag=True, expose_value=False, callback=_asked_for, help="As JSON; the same before the command."
)


def as_json() -> bool:
    """Whether `--json` was asked for, before the command or after it."""
    return bool(click.get_current_context().find_root().params.get("as_json"))


def visible(text: str) -> str:
    """With what would move the cursor, or do worse, as JSON writes it: names and notes come from outside."""
    return _UNUSUAL.sub(lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], text)


def print_json(value: Any) -> None:
    """For people to read, too."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    click.echo("\n".join(map(visible, text.split("\n"))))


def objects_of(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[dict[str, object]]:
    """A table as JSON has it."""
    return [dict(zip(columns, row, strict=True)) for row in rows]


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table whose first column, the one that people copy, is never cut; or JSON, where `--json` was asked for."""
    if as_json():
        print_json(objects_of(columns, rows))
    else:
        printer().print(table_of(columns, rows))


def printer() -> "Console":
    """The terminal; into a file or a pipe nothing is squeezed."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=200)


def table_of(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> "Table":
    """The same as rich draws it; words that say how something is have their colours."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(
            *(Text("" if field is None else visible(str(field)), _COLOURS.get(str(field), "")) for field in row)
        )
    return table


def settings_of(
    file: Path | None,
    host: str | None = None,
    port: int | None = None,
    base: dict[str, str] | None = None,
    *,
    insecure: bool = False,
) -> Settings:
    environ = {**(base or {}), **os.environ}
    if host is not None:
        environ["ORCHESTRATOR_WEB_HOST"] = host
    if insecure:
        environ["ORCHESTRATOR_WEB_INSECURE"] = "true"
    if port is not None:
        environ["ORCHESTRATOR_WEB_PORT"] = str(port)
    try:
        return load(file, environ)
    except SettingsError as error:
        fail(2, str(error))


def read_json(file: Any) -> Any:
    """The JSON in an open file, read as strictly as the orchestrator reads it; exit code 2 for anything else."""
    body = file.read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        fail(2, f"the task is not valid JSON: it is larger than {MAX_BODY} bytes")
    try:
        return decode(body)
    except InvalidJSON as error:
        fail(2, f"the task is not valid JSON: {error.detail}")


def call(url: str, ask: "Callable[[Client], Coroutine[Any, Any, Answer]]") -> "Answer":
    from orchestrator.client import Client

    async def ask_once() -> "Answer":
        async with Client(url, authorization(os.environ), tls(os.environ)) as client:
            return await ask(client)

    with asking():
        return anyio.run(ask_once)


@contextmanager
def asking() -> Generator[None]:
    """Around what asks an orchestrator: a refusal is shown, and what else keeps it from an answer is one line."""
    from orchestrator.client import Refused, Unreachable

    try:
        yield
    except NoCredential as error:
        fail(2, str(error))
    except Refused as error:
        show(error.answer)
    except Unreachable as error:
        fail(69, str(error))


def well(answer: "Answer") -> "Answer":
    """The answer if it is what was asked for; otherwise it is shown, with exit code 1."""
    if not answer.ok:
        show(answer)
    return answer


def show(answer: "Answer") -> NoReturn:
    print_json(answer.body)
    sys.exit(0 if answer.ok and answer.body.get("status") not in ("dead", "expired", "denied") else 1)


def on_ledger(file: Path | None, work: Callable[[str], Coroutine[Any, Any, Any]]) -> Any:
    from orchestrator import serving

    try:
        return anyio.run(work, settings_of(file).storage.database_url)
    except BrokenPipeError:
        raise
    except click.FileError as error:
        fail(serving.EXIT_UNAVAILABLE, error.format_message())
    except FileNotFoundError as error:
        fail(serving.EXIT_UNAVAILABLE, f"there is no database at {error.filename}; DATABASE_URL names another")
    except Exception as error:  # noqa: BLE001 - the last resort of the process: one line and an exit code
        fail(serving.exit_code(error), f"{type(error).__name__}: {error}")


def codec_for(settings: Settings) -> "Codec":
    """How the ledger is encrypted, if it is; exit code 2 for keys that are none."""
    from orchestrator.kernel.environment import Environment
    from orchestrator.storage.sealing import codec_of

    try:
        return codec_of(settings.storage.encryption_key, Environment.real().entropy)
    except ValueError as error:
        fail(2, f"storage.encryption_key: {error}")


def fail(code: int, message: str) -> NoReturn:
    click.echo(f"orchestrator: {message}", err=True)
    sys.exit(code)
