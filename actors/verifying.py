"""The audit trail checked as a whole, step by step: every chain, its checkpoints, and what testifies from outside."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec

from orchestrator.domain.audit import AuditEntry, ChainCheck, Flaw, Head
from orchestrator.domain.evidence import Evidence, Removed

STEP = 1_000


class Report(msgspec.Struct, frozen=True):
    """The end of each chain, and every place where one does not hold."""

    heads: list[Head]
    flaws: list[Flaw]
    signed: dict[str, int]
    """Up to which entry each writer's chain is under a signature."""
    signers: list[str]
    """The public keys of those signatures."""
    removed: dict[str, Removed]
    """Of each writer whose chain does not begin with its first entry: the anchor that testifies to that."""
    untold: int
    """How many receipts are of entries that were removed: nothing tells whether they hold."""

    def entries(self, head: Head) -> int:
        """How many entries of a chain are there."""
        return head.seq - self._gone(head)

    def signed_entries(self, head: Head) -> int:
        """How many of them are under a signature."""
        return max(0, self.signed.get(head.writer, 0) - self._gone(head))

    def _gone(self, head: Head) -> int:
        removed = self.removed.get(head.writer)
        return removed.place.seq if removed else 0


async def verifying(
    heads: list[Head], chain: Callable[[str], AsyncGenerator[AuditEntry]], evidence: Evidence, *, growing: bool
) -> AsyncGenerator[int | Report]:
    """How many entries were looked at, each STEP of them, and at last the report; `chain` reads that of a writer.

    `growing`: the trail is written to meanwhile; what comes after the beginning of the check is left to the next.
    """
    flaws, seen = list[Flaw](), 0
    for head in heads:
        check = ChainCheck(head)
        async with aclosing(chain(head.writer)) as entries:
            async for entry in entries:
                if growing and entry.seq > head.seq:
                    break
                flaws.extend(check.add(entry))
                flaws.extend(evidence.collect(entry))
                seen += 1
                if seen % STEP == 0:
                    yield seen
        flaws.extend(check.end())
        evidence.begins(check.begin)
    # Once more, since a checkpoint of one chain testifies to the others, and may stand anywhere.
    ends = {head.writer: head.seq for head in heads}
    for writer in sorted(evidence.writers):
        async with aclosing(chain(writer)) as entries:
            async for entry in entries:
                if growing and entry.seq > ends.get(writer, 0):
                    break
                flaws.extend(evidence.check(entry))
                seen += 1
                if seen % STEP == 0:
                    yield seen
    flaws.extend(evidence.end(heads))
    signers = sorted(evidence.signers)
    yield Report(heads, flaws, evidence.signed, signers, evidence.removed, evidence.untold)
