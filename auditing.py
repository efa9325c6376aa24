"""The audit trail as a file on disk: shown, verified, exported, beside a running orchestrator or without one."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from typing import BinaryIO, TypeVar

import msgspec

from orchestrator.actors.verifying import Report, verifying
from orchestrator.crypto.signing import verifies
from orchestrator.domain.audit import AuditEntry, Head
from orchestrator.domain.disclosure import Disclosure, disclosures
from orchestrator.domain.evidence import Evidence, InvalidReceipt, receipt_of
from orchestrator.domain.retention import complete_since
from orchestrator.storage.opening import latest_version, open_ledger, open_reader
from orchestrator.storage.ports import AuditQuery, LedgerReader
from orchestrator.storage.sealing import PLAIN, Codec

T = TypeVar("T")
PAGE = 1_000

Advance = Callable[[int, int], None]
"""Told how many entries were looked at, and of how many."""


async def entries(url: str, *, query: AuditQuery) -> tuple[list[AuditEntry], str | None]:
    """Entries of the ledger at `url` that fit, oldest first; and since when none is missing, if any was removed."""

    async def read(reader: LedgerReader) -> tuple[list[AuditEntry], str | None]:
        return (await reader.audit(query)).entries, complete_since(await reader.begins())

    return await _read(url, read)


def unheard(_done: int, _total: int) -> None:
    """For those who do not want to know how far it is."""


async def verify(
    url: str,
    *,
    receipts: Iterable[tuple[str, Head]] = (),
    public_keys: Collection[str] = (),
    advance: Advance = unheard,
) -> Report:
    """Checks every chain of the ledger at `url`, entry by entry, against its checkpoints and the `receipts`.

    Each receipt comes with where it is from. Only signatures under `public_keys` count, if there are any.
    """
    evidence = Evidence(verifies, public_keys)
    for source, receipt in receipts:
        evidence.receipt(receipt, source)

    async def check(reader: LedgerReader) -> Report:
        return await _verify(reader, evidence, advance)

    return await _read(url, check)


def read_receipts(file: Iterable[bytes], name: str) -> list[tuple[str, Head]]:
    """The receipts in a file of one a line, or of one answer a line, each with where it is from.

    Raises InvalidReceipt, which names the line; also where there is no receipt at all, so that nobody believes that
    something was checked.
    """
    found = [_receipt(line, f"{name}:{number}") for number, line in enumerate(file, 1) if line.strip()]
    if not found:
        raise InvalidReceipt(f"{name}: there is no receipt in it")
    return found


def _receipt(line: bytes, source: str) -> tuple[str, Head]:
    try:
        return f"the receipt {source}", receipt_of(line)
    except InvalidReceipt as error:
        raise InvalidReceipt(f"{source}: {error}") from None


async def _verify(reader: LedgerReader, evidence: Evidence, advance: Advance) -> Report:
    heads = await reader.audit_heads()
    read = _Reading(reader, heads, advance)
    async with aclosing(verifying(heads, read.chain, evidence, growing=False)) as steps:
        async for step in steps:
            if isinstance(step, Report):
                return step
    raise AssertionError("the check ends with a report")


async def export(url: str, *, output: BinaryIO, advance: Advance = unheard) -> None:
    """Writes all entries of the ledger at `url` to `output`, one JSON object a line."""

    async def write(reader: LedgerReader) -> None:
        heads = await reader.audit_heads()
        read = _Reading(reader, heads, advance)
        # Of an empty trail, too, a file is made, or it is said that it cannot be.
        output.write(b"")
        for head in heads:
            async for entry in read.chain(head.writer):
                output.write(msgspec.json.encode(entry) + b"\n")

    await _read(url, write)


class _Reading:
    """Chains, read from end to end; `advance` is told now and then how many entries that were, and of how many."""

    def __init__(self, reader: LedgerReader, heads: Sequence[Head], advance: Advance) -> None:
        self._reader, self._advance = reader, advance
        self._lengths = {head.writer: head.seq for head in heads}
        self._done, self._total = 0, sum(self._lengths.values())
        self._begun: set[str] = set()

    async def chain(self, writer: str) -> AsyncGenerator[AuditEntry]:
        if writer in self._begun:
            # It is read a second time.
            self._total += self._lengths.get(writer, 0)
        self._begun.add(writer)
        async with aclosing(self._reader.audit_chain(writer)) as entries:
            async for entry in entries:
                self._done += 1
                if self._done % PAGE == 0:
                    self._advance(self._done, max(self._done, self._total))
                yield entry


async def case(url: str, *, case_id: str) -> tuple[list[Disclosure], str | None]:
    """Every attempt that gave data of the case to an agent, in the order of their beginning.

    And since when no entry is missing, if any was removed.
    """

    async def collect(reader: LedgerReader) -> tuple[list[Disclosure], str | None]:
        found, after = list[AuditEntry](), 0
        while True:
            page = await reader.audit(AuditQuery(case_id=case_id, after=after, limit=PAGE))
            found += page.entries
            if page.next is None:
                return list(disclosures(found)), complete_since(await reader.begins())
            after = page.next

    return await _read(url, collect)


async def create_tables(url: str, codec: Codec = PLAIN) -> int:
    """Creates the tables of the ledger at `url` or brings them up to date; returns the schema's version."""
    ledger = await open_ledger(url, codec=codec)
    await ledger.close()
    return latest_version(url)


async def _read(url: str, work: Callable[[LedgerReader], Awaitable[T]]) -> T:
    reader = await open_reader(url)
    try:
        return await work(reader)
    finally:
        await reader.close()
