"""The audit trail as a file on disk: shown, verified, exported, beside a running orchestrator or without one."""

from collections.abc import Awaitable, Callable
from typing import BinaryIO, TypeVar

import msgspec

from orchestrator.domain.audit import AuditEntry, ChainCheck, Flaw, Head
from orchestrator.storage.opening import latest_version, open_ledger, open_reader
from orchestrator.storage.ports import AuditQuery, LedgerReader

T = TypeVar("T")


class Report(msgspec.Struct, frozen=True):
    """The end of each chain, and every place where one does not hold."""

    heads: list[Head]
    flaws: list[Flaw]


async def entries(url: str, *, task_id: str | None, case_id: str | None, limit: int) -> list[AuditEntry]:
    """Entries of the ledger at `url`, oldest first."""

    async def read(reader: LedgerReader) -> list[AuditEntry]:
        return (await reader.audit(AuditQuery(task_id=task_id, case_id=case_id, limit=limit))).entries

    return await _read(url, read)


async def verify(url: str) -> Report:
    """Checks every chain of the ledger at `url`, entry by entry."""
    return await _read(url, _verify)


async def _verify(reader: LedgerReader) -> Report:
    heads, flaws = await reader.audit_heads(), list[Flaw]()
    for head in heads:
        check = ChainCheck(head)
        async for entry in reader.audit_chain(head.writer):
            flaws.extend(check.add(entry))
        flaws.extend(check.end())
    return Report(heads, flaws)


async def export(url: str, *, output: BinaryIO) -> None:
    """Writes all entries of the ledger at `url` to `output`, one JSON object a line."""

    async def write(reader: LedgerReader) -> None:
        for head in await reader.audit_heads():
            async for entry in reader.audit_chain(head.writer):
                output.write(msgspec.json.encode(entry) + b"\n")

    await _read(url, write)


async def create_tables(url: str) -> int:
    """Creates the tables of the ledger at `url` or brings them up to date; returns the schema's version."""
    ledger = await open_ledger(url)
    await ledger.close()
    return latest_version(url)


async def _read(url: str, work: Callable[[LedgerReader], Awaitable[T]]) -> T:
    reader = await open_reader(url)
    try:
        return await work(reader)
    finally:
        await reader.close()
