"""The audit trail checked as a whole, step by step: every chain, its checkpoints, and what testifies from outside."""

from collections.abc import AsyncIterator, Callable

import msgspec

from orchestrator.domain.audit import AuditEntry, ChainCheck, Flaw, Head
from orchestrator.domain.evidence import Evidence

STEP = 1_000


class Report(msgspec.Struct, frozen=True):
    """The end of each chain, and every place where one does not hold."""

    heads: list[Head]
    flaws: list[Flaw]
    signed: dict[str, int]
    """How many entries of each writer are under a signature."""
    signers: list[str]
    """The public keys of those signatures."""


async def verifying(
    heads: list[Head], chain: Callable[[str], AsyncIterator[AuditEntry]], evidence: Evidence, *, growing: bool
) -> AsyncIterator[int | Report]:
    """How many entries were looked at, each STEP of them, and at last the report; `chain` reads that of a writer.

    `growing`: the trail is written to meanwhile; what comes after the beginning of the check is left to the next.
    """
    flaws, seen = list[Flaw](), 0
    for head in heads:
        check = ChainCheck(head)
        async for entry in chain(head.writer):
            if growing and entry.seq > head.seq:
                break
            flaws.extend(check.add(entry))
            flaws.extend(evidence.collect(entry))
            seen += 1
            if seen % STEP == 0:
                yield seen
        flaws.extend(check.end())
    # Once more, since a checkpoint of one chain testifies to the others, and may stand anywhere.
    ends = {head.writer: head.seq for head in heads}
    for writer in sorted(evidence.writers):
        async for entry in chain(writer):
            if growing and entry.seq > ends.get(writer, 0):
                break
            flaws.extend(evidence.check(entry))
            seen += 1
            if seen % STEP == 0:
                yield seen
    flaws.extend(evidence.end(heads))
    yield Report(heads, flaws, evidence.signed, sorted(evidence.signers))
