"""The command line, thin: it reads words, calls what the rest offers, and prints.

Exit codes: 0 well, 1 no (a task that failed, a chain that does not hold), 2 settings or usage, 65 the database is
damaged or of a newer version, 69 something needed is not there, 70 the actors gave up, 74 the end of a commit is
unknown, 75 the database belongs to another process.
"""

import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import anyio
import click
import msgspec
from rich.console import Console
from rich.table import Table

from orchestrator import __version__
from orchestrator.client import Answer, Client, Unreachable
from orchestrator.settings import Settings, SettingsError, load, load_with_sources

DEFAULT_URL = "http://127.0.0.1:8080"

url_option = click.option(
    "--url", envvar="ORCHESTRATOR_URL", default=DEFAULT_URL, show_default=True, help="Where it serves."
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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
def main() -> None:
    """Takes work for AI agents, checks consent, routes it, gets it done, and proves what it decided."""


@main.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
@file_option
def serve(host: str | None, port: int | None, file: Path | None) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from orchestrator import serving

    settings = _settings(file, host, port)
    _run_server(settings, None, serving.exit_code)


@main.command()
@click.option("--port", type=int, help="Port to listen on.")
@click.option("--once", is_flag=True, help="Stop after the sample cases; exit code 1 if one came out otherwise.")
@file_option
def demo(port: int | None, once: bool, file: Path | None) -> None:
    """Serve here, with the reference agents, and send them the sample cases."""
    from orchestrator import serving

    folder = Path("var")
    own = {"STORAGE_DATABASE_URL": f"sqlite:///./{folder}/demo.db", "LOG_LEVEL": "WARNING", "LOG_FORMAT": "console"}
    settings = _settings(file, None, port, {f"ORCHESTRATOR_{name}": value for name, value in own.items()})
    _run_server(settings, (folder, once), serving.exit_code)


def _run_server(settings: Settings, demonstrate: tuple[Path, bool] | None, code: Callable[[Exception], int]) -> None:
    from orchestrator import serving
    from orchestrator.service_manager import BadSocket, ServiceManager
    from orchestrator.telemetry import configure_logging

    configure_logging(settings.log.level, settings.log.format)
    manager = ServiceManager(os.environ)
    try:
        listener = serving.open_listener(manager, settings.web.host, settings.web.port)
    except BadSocket as error:
        _fail(serving.EXIT_SETTINGS, str(error))
    except OSError as error:
        _fail(serving.EXIT_UNAVAILABLE, f"cannot listen on {settings.web.host}:{settings.web.port}: {error.strerror}")
    url = serving.url_of(listener)
    verdict: list[bool] = []
    beside = _announce(url) if demonstrate is None else _demonstrate(url, *demonstrate, verdict)
    try:
        serving.run(settings, listener, manager, beside)
    except Exception as error:  # noqa: BLE001 - the last resort of the process: one line and an exit code
        cause = serving.root_cause(error)
        words = f": {cause}" if isinstance(cause, serving.EXPLAINED) else ""
        _fail(code(error), f"{type(cause).__name__}{words}")
    finally:
        listener.close()
    sys.exit(0 if all(verdict) else 1)


def _announce(url: str) -> Callable[[Any], Coroutine[Any, Any, None]]:
    async def announce(_orchestrator: Any) -> None:
        click.echo(f"serving on {url}", err=True)

    return announce


def _demonstrate(url: str, folder: Path, once: bool, verdict: list[bool]) -> Callable[[Any], Coroutine[Any, Any, None]]:
    async def demonstrate(orchestrator: Any) -> None:
        from orchestrator import demo as demonstration

        verdict.append(await demonstration.show(orchestrator, url, folder, once=once))
        os.kill(os.getpid(), 15)

    return demonstrate


@main.command()
@click.argument("task", type=click.File("rb"), default="-")
@wait_option
@url_option
def submit(task: Any, wait: float, url: str) -> None:
    """Send a task, a JSON object from a file or standard input."""
    accepted = _call(url, lambda client: client.submit(_json(task)))
    task_id = accepted.body.get("task_id")
    if wait and task_id:
        _show(_call(url, lambda client: client.task(str(task_id), wait)))
    else:
        _show(accepted)


@main.command()
@click.argument("task_id")
@wait_option
@url_option
def task(task_id: str, wait: float, url: str) -> None:
    """Show a task's status and result."""
    _show(_call(url, lambda client: client.task(task_id, wait)))


@main.command()
@url_option
def agents(url: str) -> None:
    """List the agents and how they are."""
    answer = _call(url, lambda client: client.call("GET", "/agents"))
    rows = [
        (
            agent["agent_id"],
            agent["state"],
            agent["location"],
            ", ".join(agent["capabilities"]),
            f"{agent['in_flight']}/{agent['max_concurrency']}",
            agent["endpoint"],
        )
        for agent in answer.body.get("agents", [])
    ]
    _print(("agent", "state", "location", "capabilities", "in flight", "endpoint"), rows)


@main.command()
@click.argument("task", type=click.File("rb"), default="-")
@url_option
def explain(task: Any, url: str) -> None:
    """Say where a task would go and why; nothing is stored or sent."""
    answer = _call(url, lambda client: client.call("POST", "/route_task", _json(task), {"dry_run": "true"}))
    if not answer.ok:
        _show(answer)
    chosen, rows = answer.body["agent_id"], list[tuple[object, ...]]()
    for candidate in answer.body["candidates"]:
        verdict = candidate.get("excluded") or ("chosen" if candidate["agent_id"] == chosen else "kept")
        rows.append((candidate["agent_id"], verdict, candidate.get("score")))
    _print(("candidate", "verdict", "score"), rows)
    if answer.body["refused"]:
        click.echo("refused: it carries raw media, and consent does not hold")


@main.group()
def dlq() -> None:
    """Dead letters."""


@dlq.command("list")
@url_option
def dlq_list(url: str) -> None:
    """List them."""
    answer = _call(url, lambda client: client.call("GET", "/dlq", query={"limit": "1000"}))
    fields = ("task_id", "case_id", "task_type", "attempts", "reason", "updated_at")
    rows = [tuple(dead[field] for field in fields) for dead in answer.body.get("entries", [])]
    _print(("task", "case", "type", "attempts", "reason", "since"), rows)


@dlq.command("replay")
@click.argument("task_id")
@url_option
def dlq_replay(task_id: str, url: str) -> None:
    """Make a new task of a dead one."""
    _show(_call(url, lambda client: client.call("POST", f"/dlq/{task_id}/replay")))


@main.group()
def audit() -> None:
    """The audit trail, read from the database itself; the orchestrator may run or not."""


@audit.command("show")
@click.option("--task", "task_id", help="Only this task's.")
@click.option("--case", "case_id", help="Only this case's.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@file_option
def audit_show(task_id: str | None, case_id: str | None, limit: int, file: Path | None) -> None:
    """Show entries, oldest first."""
    from orchestrator import auditing

    entries = _on_ledger(file, partial(auditing.entries, task_id=task_id, case_id=case_id, limit=limit))
    fields = ("audit_id", "created_at", "event", "task_id", "case_id", "agent_id", "status", "reason")
    rows = [tuple(getattr(entry, field) for field in fields) for entry in entries]
    _print(("entry", "at", "event", "task", "case", "agent", "status", "reason"), rows)


@audit.command("verify")
@click.option("--against", type=click.File("rb"), help="Receipts, or answers with receipts, one JSON object a line.")
@click.option("--public-key", "keys", type=click.File("r"), multiple=True, help="Whose checkpoints count; PEM or hex.")
@file_option
def audit_verify(against: Any, keys: tuple[Any, ...], file: Path | None) -> None:
    """Check every chain from its first entry to its last; exit code 1 if one does not hold."""
    from orchestrator import auditing
    from orchestrator.crypto.signing import public_key_of

    try:
        receipts = list(auditing.read_receipts(against, against.name)) if against else []
        public_keys = [public_key_of(key.read()) for key in keys]
    except ValueError as error:
        _fail(2, str(error))
    report = _on_ledger(file, partial(auditing.verify, receipts=receipts, public_keys=public_keys))
    for flaw in report.flaws:
        click.echo(f"{flaw.audit_id or flaw.writer}: {flaw.what}")
    for head in report.heads:
        signed = report.signed.get(head.writer, 0)
        click.echo(f"{head.writer}: {head.seq} entries, {signed} of them signed, head {head.entry_hash}")
    for signer in report.signers:
        click.echo(f"signed with {signer}")
    click.echo("the chain does not hold" if report.flaws else "the chain holds")
    sys.exit(1 if report.flaws else 0)


@audit.command("export")
@click.option("--output", type=click.File("wb"), default="-", help="A file; standard output without it.")
@file_option
def audit_export(output: Any, file: Path | None) -> None:
    """Write all entries as NDJSON, each with all fields that its hash covers."""
    from orchestrator import auditing

    _on_ledger(file, partial(auditing.export, output=output))


@main.command()
@file_option
def tables(file: Path | None) -> None:
    """Create the database's tables, or bring them up to date."""
    from orchestrator import auditing, serving

    try:
        version = anyio.run(auditing.create_tables, _settings(file).storage.database_url)
    except Exception as error:  # noqa: BLE001 - the last resort of the process: one line and an exit code
        _fail(serving.exit_code(error), f"{type(error).__name__}: {error}")
    click.echo(f"the schema is version {version}")


@main.command()
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@file_option
def backup(target: Path, file: Path | None) -> None:
    """Copy the database, in use or not, to the new file TARGET, and verify the copy."""
    from orchestrator import backups

    report = _on_ledger(file, partial(backups.back_up, file=target))
    click.echo(f"{target}: {_ends(report)}, the chain holds")


@main.command()
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False))
@file_option
def restore(source: Path, file: Path | None) -> None:
    """Put the backup SOURCE in the place of the database, once verified; nobody may be using it."""
    from orchestrator import backups

    report = _on_ledger(file, partial(backups.restore, file=source))
    click.echo(f"restored from {source}: {_ends(report)}, the chain holds")


def _ends(report: Any) -> str:
    return ", ".join(f"{head.writer} {head.seq} entries" for head in report.heads) or "no entries"


@main.command()
@file_option
def settings(file: Path | None) -> None:
    """Print the settings in force, and where each came from."""
    try:
        effective = load_with_sources(file, os.environ)[1]
    except SettingsError as error:
        _fail(2, str(error))
    rows = [(it.name, msgspec.json.encode(it.value, enc_hook=str).decode(), it.source) for it in effective]
    _print(("setting", "value", "from"), rows)


def _print(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table whose first column, the one that people copy, is never cut."""
    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*("" if field is None else str(field) for field in row))
    console = Console()
    # Into a file or a pipe nothing is squeezed.
    (console if console.is_terminal else Console(width=200)).print(table)


def _settings(
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
        _fail(2, str(error))


def _json(file: Any) -> Any:
    try:
        return msgspec.json.decode(file.read())
    except msgspec.DecodeError:
        _fail(2, "the task is not valid JSON")


def _call(url: str, ask: Callable[[Client], Coroutine[Any, Any, Answer]]) -> Answer:
    async def call() -> Answer:
        async with Client(url) as client:
            return await ask(client)

    try:
        return anyio.run(call)
    except Unreachable as error:
        _fail(69, str(error))


def _show(answer: Answer) -> NoReturn:
    click.echo(msgspec.json.format(msgspec.json.encode(answer.body), indent=2).decode())
    sys.exit(0 if answer.ok and answer.body.get("status") not in ("dead", "expired", "denied") else 1)


def _on_ledger(file: Path | None, work: Callable[[str], Coroutine[Any, Any, Any]]) -> Any:
    from orchestrator import serving

    try:
        return anyio.run(work, _settings(file).storage.database_url)
    except Exception as error:  # noqa: BLE001 - the last resort of the process: one line and an exit code
        _fail(serving.exit_code(error), f"{type(error).__name__}: {error}")


def _fail(code: int, message: str) -> NoReturn:
    click.echo(f"orchestrator: {message}", err=True)
    sys.exit(code)
