"""The command line, thin: it reads words, calls what the rest offers, and prints.

Exit codes: 0 well, 1 no (a task that failed, a chain that does not hold), 2 settings or usage, 65 the database is
damaged or of a newer version, 69 something needed is not there, 70 the actors gave up, 74 the end of a commit is
unknown, 75 the database belongs to another process.
"""

import os
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import click
import msgspec

from orchestrator import __version__, cli_audit
from orchestrator.cli_doctor import doctor, health
from orchestrator.cli_encryption import encryption
from orchestrator.cli_erase import erase
from orchestrator.cli_keys import keys
from orchestrator.client import segment
from orchestrator.console import (
    Commands,
    call,
    fail,
    file_option,
    on_ledger,
    print_table,
    read_json,
    settings_of,
    show,
    url_option,
    wait_option,
    well,
)
from orchestrator.settings import Settings, SettingsError, load_with_sources


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
@click.option("--json", "as_json", is_flag=True, help="Tables as JSON: an array, an object a row.")
def main(as_json: bool) -> None:
    """Takes work for AI agents, checks consent, routes it, gets it done, and proves what it decided."""


@main.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
@click.option("--insecure", is_flag=True, help="Serve though it is not safe, and say so on every answer.")
@file_option
def serve(host: str | None, port: int | None, insecure: bool, file: Path | None) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from orchestrator import serving

    settings = settings_of(file, host, port, insecure=insecure)
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
    settings = settings_of(file, None, port, {f"ORCHESTRATOR_{name}": value for name, value in own.items()})
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
        fail(serving.EXIT_SETTINGS, str(error))
    except OSError as error:
        fail(serving.EXIT_UNAVAILABLE, f"cannot listen on {settings.web.host}:{settings.web.port}: {error.strerror}")
    url = serving.url_of(listener, settings)
    verdict: list[bool] = []
    beside = _announce(url) if demonstrate is None else _demonstrate(url, *demonstrate, verdict)
    try:
        serving.run(settings, listener, manager, beside)
    except Exception as error:  # noqa: BLE001 - the last resort of the process: one line and an exit code
        cause = serving.root_cause(error)
        words = f": {cause}" if isinstance(cause, serving.EXPLAINED) else ""
        fail(code(error), f"{type(cause).__name__}{words}")
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
def submit(task: Any, wait: int, url: str) -> None:
    """Send a task, a JSON object from a file or standard input."""
    body = read_json(task)
    accepted = call(url, lambda client: client.submit(body))
    task_id = accepted.body.get("task_id")
    if wait and task_id:
        show(call(url, lambda client: client.task(str(task_id), wait)))
    else:
        show(accepted)


@main.command()
@click.argument("task_id")
@wait_option
@url_option
def task(task_id: str, wait: int, url: str) -> None:
    """Show a task's status and result."""
    show(call(url, lambda client: client.task(task_id, wait)))


@main.group(invoke_without_command=True)
@url_option
@click.pass_context
def agents(context: click.Context, url: str) -> None:
    """List the agents and how they are."""
    if context.invoked_subcommand is not None:
        return
    answer = well(call(url, lambda client: client.call("GET", "/agents")))
    rows = [
        (
            agent["agent_id"],
            agent["state"],
            agent["location"],
            ", ".join(agent["capabilities"]),
            f"{agent['in_flight']}/{agent['max_concurrency']}",
            agent["endpoint"] or "(asks for work)",
        )
        for agent in answer.body.get("agents", [])
    ]
    print_table(("agent", "state", "location", "capabilities", "in flight", "endpoint"), rows)


@agents.command("allow")
@click.argument("agent_id")
@url_option
def agents_allow(agent_id: str, url: str) -> None:
    """End the quarantine of an agent that has changed: what it is now is what it may be."""
    show(call(url, lambda client: client.call("POST", f"/agents/{quote(agent_id, safe='')}/allow")))


@main.command()
@click.argument("task", type=click.File("rb"), default="-")
@url_option
def explain(task: Any, url: str) -> None:
    """Say where a task would go and why; nothing is stored or sent."""
    body = read_json(task)
    answer = well(call(url, lambda client: client.call("POST", "/route_task", body, {"dry_run": "true"})))
    chosen, rows = answer.body["agent_id"], list[tuple[object, ...]]()
    for candidate in answer.body["candidates"]:
        rows.append((candidate["agent_id"], _verdict(candidate, chosen), candidate.get("score")))
    print_table(("candidate", "verdict", "score"), rows)
    if answer.body["refused"]:
        click.echo("refused: it carries raw media, and consent does not hold")


def _verdict(candidate: dict[str, Any], chosen: str | None) -> str:
    if "excluded" in candidate:
        return f"left out: {candidate['excluded']}"
    return "chosen" if candidate["agent_id"] == chosen else "kept"


@main.group()
def consents() -> None:
    """Consents."""


@consents.command("revoke")
@click.argument("consent_id")
@url_option
def consents_revoke(consent_id: str, url: str) -> None:
    """End a consent for ever: work under it is denied, its results are not handed out any more."""
    show(call(url, lambda client: client.call("POST", f"/consents/{quote(consent_id, safe='')}/revoke")))


@main.group()
def dlq() -> None:
    """Dead letters."""


@dlq.command("list")
@url_option
def dlq_list(url: str) -> None:
    """List them."""
    answer = well(call(url, lambda client: client.call("GET", "/dlq", query={"limit": "1000"})))
    fields = ("task_id", "case_id", "task_type", "attempts", "reason", "updated_at")
    rows = [tuple(dead[field] for field in fields) for dead in answer.body.get("entries", [])]
    print_table(("task", "case", "type", "attempts", "reason", "since"), rows)


@dlq.command("replay")
@click.argument("task_id")
@url_option
def dlq_replay(task_id: str, url: str) -> None:
    """Make a new task of a dead one."""
    show(call(url, lambda client: client.call("POST", f"/dlq/{segment(task_id)}/replay")))


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

    entries = on_ledger(file, partial(auditing.entries, task_id=task_id, case_id=case_id, limit=limit))
    fields = ("audit_id", "created_at", "event", "task_id", "case_id", "agent_id", "status", "reason")
    rows = [tuple(getattr(entry, field) for field in fields) for entry in entries]
    print_table(("entry", "at", "event", "task", "case", "agent", "status", "reason"), rows)


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
        fail(2, str(error))
    report = on_ledger(file, partial(auditing.verify, receipts=receipts, public_keys=public_keys))
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
@click.option("--case", "case_id", help="Only where this case's data went: each attempt of each agent.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("ndjson", "csv", "fhir")),
    default="ndjson",
    show_default=True,
    help="Of a case's export; the whole trail is NDJSON.",
)
@click.option("--output", type=click.File("wb"), default="-", help="A file; standard output without it.")
@file_option
def audit_export(case_id: str | None, form: str, output: Any, file: Path | None) -> None:
    """Write all entries as NDJSON, each with all fields that its hash covers; or where a case's data went."""
    if case_id is None and form != "ndjson":
        fail(2, f"--format {form} needs --case")
    on_ledger(file, cli_audit.work(case_id, form, output))


main.add_command(keys)
main.add_command(doctor)
main.add_command(health)
main.add_command(encryption)
main.add_command(erase)


@main.command()
@file_option
def tables(file: Path | None) -> None:
    """Create the database's tables, or bring them up to date."""
    from orchestrator import auditing, serving

    try:
        version = anyio.run(auditing.create_tables, settings_of(file).storage.database_url)
    except Exception as error:  # noqa: BLE001 - the last resort of the process: one line and an exit code
        fail(serving.exit_code(error), f"{type(error).__name__}: {error}")
    click.echo(f"the schema is version {version}")


@main.command()
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@file_option
def backup(target: Path, file: Path | None) -> None:
    """Copy the database, in use or not, to the new file TARGET, and verify the copy."""
    from orchestrator import backups

    report = on_ledger(file, partial(backups.back_up, file=target))
    click.echo(f"{target}: {_ends(report)}, the chain holds")


@main.command()
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False))
@file_option
def restore(source: Path, file: Path | None) -> None:
    """Put the backup SOURCE in the place of the database, once verified; nobody may be using it."""
    from orchestrator import backups

    report = on_ledger(file, partial(backups.restore, file=source))
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
        fail(2, str(error))
    rows = [(it.name, msgspec.json.encode(it.value, enc_hook=str).decode(), it.source) for it in effective]
    print_table(("setting", "value", "from"), rows)
