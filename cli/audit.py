"""The commands for the audit trail."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import asdict

from orchestrator.cli import disclosures
from orchestrator.cli.console import as_json, fail, file_option, json_option, on_ledger, print_json, print_table
from orchestrator.cli.live import bar

if TYPE_CHECKING:
    from orchestrator.actors.verifying import Report


@click.group()
def audit() -> None:
    """The audit trail, read from the database itself; the orchestrator may run or not."""


@audit.command("show")
@click.option("--task", "task_id", help="Only this task's.")
@click.option("--case", "case_id", help="Only this case's.")
@click.option("--event", help="Only this event's: accepted, leased, dead, erased, …")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@json_option
@file_option
def audit_show(task_id: str | None, case_id: str | None, event: str | None, limit: int, file: Path | None) -> None:
    """Show entries, oldest first."""
    from orchestrator import auditing
    from orchestrator.storage.ports import AuditQuery

    query = AuditQuery(task_id, case_id, event, limit=limit)
    entries, since = on_ledger(file, partial(auditing.entries, query=query))
    fields = ("audit_id", "created_at", "event", "task_id", "case_id", "agent_id", "status", "reason")
    rows = [tuple(getattr(entry, field) for field in fields) for entry in entries]
    print_table(("entry", "at", "event", "task", "case", "agent", "status", "reason"), rows)
    disclosures.say_since(since)


@audit.command("verify")
@click.option("--against", type=click.File("rb"), help="Receipts, or answers with receipts, one JSON object a line.")
@click.option("--public-key", "keys", type=click.File("r"), multiple=True, help="Whose checkpoints count; PEM or hex.")
@json_option
@file_option
def audit_verify(against: Any, keys: tuple[Any, ...], file: Path | None) -> None:
    """Check every chain from its first entry to its last; exit code 1 if one does not hold."""
    from orchestrator import auditing
    from orchestrator.crypto.signing import public_key_of

    try:
        receipts = auditing.read_receipts(against, against.name) if against else []
        public_keys = [public_key_of(key.read()) for key in keys]
    except ValueError as error:
        fail(2, str(error))
    with bar("verifying") as advance:
        verify = partial(auditing.verify, receipts=receipts, public_keys=public_keys, advance=advance)
        report = on_ledger(file, verify)
    if as_json():
        print_json(_told(report))
    else:
        _say(report)
    sys.exit(1 if report.flaws else 0)


def _told(report: "Report") -> dict[str, Any]:
    """A verdict as JSON: whether the chains hold, and what was found."""
    return {
        "holds": not report.flaws,
        "flaws": report.flaws,
        "chains": [{**asdict(head), "signed": report.signed.get(head.writer, 0)} for head in report.heads],
        "removed": [asdict(removed) for _, removed in sorted(report.removed.items())],
        "receipts_of_removed_entries": report.untold,
        "signers": list(report.signers),
    }


def _say(report: "Report") -> None:
    for flaw in report.flaws:
        click.echo(f"{flaw.audit_id or flaw.writer}: {flaw.what}")
    for head in report.heads:
        signed, there = report.signed_entries(head), report.entries(head)
        click.echo(f"{head.writer}: {there} entries, {signed} of them signed, head {head.entry_hash}")
        if (removed := report.removed.get(head.writer)) is not None:
            says = f"the anchor {removed.anchor} of {removed.at}; they were kept for {removed.kept_s} s"
            click.echo(f"{head.writer}: entries up to {removed.place.seq} were removed, says {says}")
    if report.untold:
        click.echo(f"receipts of removed entries, which nothing can check any more: {report.untold}")
    for signer in report.signers:
        click.echo(f"signed with {signer}")
    click.echo("the chain does not hold" if report.flaws else "the chain holds")


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
    with bar("exporting") as advance:
        on_ledger(file, disclosures.work(case_id, form, output, advance))
