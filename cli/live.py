"""What commands show while they are at it: bars on standard error, and what is looked at again and again."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import sleep
from typing import Any, NoReturn, TypeVar

import click
import msgspec
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orchestrator.cli.console import as_json, printer, visible

T = TypeVar("T")
AGAIN_S = 2.0

Advance = Callable[[int, int], None]
"""Told how much is done, and of how much."""

watch_option = click.option("--watch", is_flag=True, help="Go on looking, until Ctrl-C or its end.")


@contextmanager
def bar(what: str) -> Generator[Advance]:
    """A bar inside the block, on standard error, where that is a terminal and people read what comes out."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=as_json() or not console.is_terminal) as progress:
        shown = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(shown, completed=done, total=total)


def watched(look: Callable[[], T], drawn: Callable[[T], RenderableType], told: Callable[[T], Any]) -> NoReturn:
    """What `look` finds, on one place of the terminal and always anew; without a terminal one after the other.

    `drawn` makes of it what people see, `told` what is JSON: one document a line.
    """
    console = printer()
    if as_json() or not console.is_terminal:
        while True:
            found = look()
            if as_json():
                click.echo(msgspec.json.encode(told(found)))
            else:
                console.print(drawn(found))
            sleep(AGAIN_S)
    with Live(drawn(look()), console=console, auto_refresh=False) as live:
        while True:
            sleep(AGAIN_S)
            live.update(drawn(look()), refresh=True)


def line_of(name: str, data: dict[str, Any]) -> str:
    """An event of a task in one line."""
    match name:
        case "transition":
            words = (data["at"], data["event"], data["agent_id"], data["reason"])
        case "progress":
            share = data.get("progress")
            words = ("", "" if share is None else f"{share:.0%}", data["agent_id"], data.get("progress_note"))
        case _:
            words = (data.get("updated_at"), f"{name}: {data.get('status')}", data.get("agent_id"), data.get("reason"))
    return visible(f"{words[0] or '':<27} {words[1] or '':<18} {words[2] or '':<20} {words[3] or ''}".rstrip())
