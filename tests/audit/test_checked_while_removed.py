"""The trail is checked and shown while its beginning is being removed."""

from contextlib import aclosing

import pytest
from begun import left, watched
from signed_trail import SIGNER

from orchestrator import auditing
from orchestrator.actors.browsing import Browser
from orchestrator.actors.verifying import Report
from orchestrator.crypto.signing import verifies
from orchestrator.domain.audit import AuditDraft, head_of
from orchestrator.domain.evidence import Evidence
from orchestrator.domain.identity import Principal, Scope
from orchestrator.domain.signatory import Signatory
from orchestrator.storage.commands import EntriesRemoved, Note, RemoveEntries
from orchestrator.storage.ports import AuditQuery
from orchestrator.storage.sqlite.ledger import SqliteLedger
from orchestrator.storage.sqlite.reader import SqliteReader

pytestmark = pytest.mark.anyio

SIGNATORY = Signatory(SIGNER.public_key, SIGNER.sign)


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_entries_that_go_under_its_hands(tmp_path):
    """They would seem to be missing: it begins anew, and finds the trail whole, from the last anchor on.

    What it had begun before is closed, not left lying about.
    """
    ledger = await SqliteLedger.opened(str(tmp_path / "ledger.db"))
    for _ in range(16):
        await ledger.commit([Note(AuditDraft(event="note", created_at=1.0)) for _ in range(250)])
    trail = [head_of(entry) async for entry in ledger.audit_chain("main")]
    steps, removed = list[int](), 0
    browser = Browser(ledger, Principal("operator", frozenset({Scope.OPERATE})))
    report = None
    with watched() as begun:
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
    assert [generator.ag_code.co_name for generator in begun].count("verifying") == 2
    assert list(left(begun)) == []
    await ledger.close()


async def test_reader_who_leaves(tmp_path):
    """Nothing goes on reading for somebody who closed the page in the middle of the check."""
    ledger = await SqliteLedger.opened(str(tmp_path / "ledger.db"))
    for _ in range(5):
        await ledger.commit([Note(AuditDraft(event="note", created_at=1.0)) for _ in range(250)])
    browser = Browser(ledger, Principal("operator", frozenset({Scope.OPERATE})))
    with watched() as begun:
        async with aclosing(browser.verify(lambda: Evidence(verifies))) as steps:
            assert await anext(steps) == 1_000
            assert sorted(left(begun)) == ["audit_chain", "verify", "verifying"]
    assert list(left(begun)) == []
    await ledger.close()


async def test_what_is_shown_is_of_one_moment(tmp_path, monkeypatch):
    """Entries, and since when none of them is missing, are read as they were together."""
    file = tmp_path / "ledger.db"
    ledger = await SqliteLedger.opened(str(file))
    await ledger.commit([Note(AuditDraft(event="note", created_at=number, case_id="case-1")) for number in range(9)])
    begins = [head_of(entry) async for entry in ledger.audit_chain("main")]

    async def read(self, query, real=SqliteReader.audit):
        page = await real(self, query)
        (outcome,) = await ledger.commit([RemoveEntries(SIGNATORY.anchor([begins.pop(0)], 1, 2.0))])
        assert isinstance(outcome, EntriesRemoved)
        return page

    monkeypatch.setattr(SqliteReader, "audit", read)
    url = f"sqlite:///{file}"
    entries, since = await auditing.entries(url, query=AuditQuery(case_id="case-1"))
    assert (len(entries), since) == (9, None)
    assert (await auditing.case(url, case_id="case-2"))[1] == entries[1].created_at
    await ledger.close()
