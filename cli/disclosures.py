"""Who was given a case's data, in the forms that people read it in."""

import csv
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click
import msgspec

from orchestrator.domain import fhir
from orchestrator.domain.audit import rfc3339
from orchestrator.domain.disclosure import Disclosure
from orchestrator.kernel.environment import Environment

Write = Callable[[Sequence[Disclosure]], bytes]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula. Names of agents and cases come from outside."""


def as_ndjson(found: Sequence[Disclosure]) -> bytes:
    """One attempt a line."""
    return msgspec.json.Encoder().encode_lines(found)


def as_csv(found: Sequence[Disclosure]) -> bytes:
    """One attempt a row (RFC 4180), safe to open in a spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(Disclosure.__struct_fields__)
    writer.writerows([_cell(value) for value in msgspec.structs.astuple(one)] for one in found)
    return text.getvalue().encode()


def as_fhir(found: Sequence[Disclosure]) -> bytes:
    """A Bundle of AuditEvents (HL7 FHIR R4)."""
    made = fhir.bundle(found, rfc3339(Environment.real().now()))
    return msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"


FORMATS: dict[str, Write] = {"ndjson": as_ndjson, "csv": as_csv, "fhir": as_fhir}


def work(case_id: str | None, form: str, output: Any, advance: Callable[[int, int], None]) -> Callable[[str], Any]:
    """What is to be done with the ledger at a URL; `advance` is told how far the whole trail is written."""
    from orchestrator import auditing

    if case_id is None:
        return partial(auditing.export, output=output, advance=advance)
    return partial(_export, case_id, FORMATS[form], output)


async def _export(case_id: str, write: Write, output: Any, url: str) -> None:
    from orchestrator import auditing

    found, since = await auditing.case(url, case_id=case_id)
    output.write(write(found))
    say_since(since)


def say_since(since: str | None) -> None:
    """That what is shown may not be all there was."""
    if since is not None:
        click.echo(f"entries written before {since} were removed; what they said is not in it", err=True)


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
