"""The whole trail is checked on the page while its beginning is being removed."""

import pytest
from signed_trail import SIGNER

from orchestrator.actors.browsing import Browser
from orchestrator.actors.verifying import Report
from orchestrator.crypto.signing import verifies
from orchestrator.domain.audit import AuditDraft, head_of
from orchestrator.domain.evidence import Evidence
from orchestrator.domain.identity import Principal, Scope
from orchestrator.domain.signatory import Signatory
from orchestrator.storage.commands import EntriesRemoved, Note, RemoveEntries
from orchestrator.storage.sqlite.ledger import SqliteLedger

pytestmark = pytest.mark.anyio

SIGNATORY = Signatory(SIGNER.public_key, SIGNER.sign)


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_entries_that_go_under_its_hands(tmp_path):
    """They would seem to be missing: it begins anew, and finds the trail whole, from the last anchor on."""
    ledger = await SqliteLedger.opened(str(tmp_path / "ledger.db"))
    for _ in range(16):
        await ledger.commit([Note(AuditDraft(event="note", created_at=1.0)) for _ in range(250)])
    trail = [head_of(entry) async for entry in ledger.audit_chain("main")]
    steps, removed = list[int](), 0
    browser = Browser(ledger, Principal("operator", frozenset({Scope.OPERATE})))
    report = None
    async for step in browser.verify(lambda: Evidence(verifies, [SIGNER.public_key])):
        if isinstance(step, Report):
            report = step
        else:
            steps.append(step)
        if removed < 3_000 and report is None:
            # Beyond what was read: its next page begins with a gap.
            removed += 1_500
            anchor = SIGNATORY.anchor([trail[removed - 1]], 1, 2.0)
            (outcome,) = await ledger.commit([RemoveEntries(anchor)])
            assert isinstance(outcome, EntriesRemoved)
    assert report is not None
    assert (report.flaws, report.removed["main"].place.seq) == ([], 3_000)
    assert steps != sorted(steps)
    await ledger.close()
