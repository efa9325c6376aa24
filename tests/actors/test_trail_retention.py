"""The audit trail is kept for as long as it should be, and what is left of it proves itself. Time is virtual."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import anyio
import pytest

from orchestrator.actors.events import DataRemoved, Event, RemovalRefused
from orchestrator.actors.verifying import Report, verifying
from orchestrator.crypto.signing import Signer, verifies
from orchestrator.domain.anchor import begins_of
from orchestrator.domain.audit import AuditDraft
from orchestrator.domain.evidence import Evidence
from orchestrator.embedding import Orchestrator
from orchestrator.storage.commands import Command, EntriesRemoved, Failed, Note, Outcome, RemoveEntries, Stale
from orchestrator.storage.memory import MemoryLedger
from orchestrator.testing import ScriptedAgents, a_request, an_agent, embedded

pytestmark = pytest.mark.anyio

KEY = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
"""
PERIOD = 300.0
KEPT: dict[str, Any] = {
    "ORCHESTRATOR_AUDIT_SIGNING_KEY": KEY,
    "ORCHESTRATOR_RETENTION_AUDIT_S": str(PERIOD),
    "ORCHESTRATOR_RETENTION_AUDIT_SHORT": "true",
    "ORCHESTRATOR_RETENTION_EVERY_S": "10",
}


@pytest.fixture
def anyio_backend(virtual_clock):
    return virtual_clock


class WatchedLedger(MemoryLedger):
    """Remembers what it was told, and lets no entry go where it is told so."""

    def __init__(self, *, exclusive: bool = True) -> None:
        super().__init__(exclusive=exclusive)
        self.batches: list[list[Command]] = []
        self.removals: list[Outcome] = []
        self.refuses = False
        self.removing = anyio.Event()

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        self.batches.append(list(commands))
        if self.refuses and any(isinstance(command, RemoveEntries) for command in commands):
            return [Failed("InsufficientPrivilegeError") for _ in commands]
        outcomes = await super().commit(commands)
        pairs = zip(commands, outcomes, strict=True)
        self.removals += [outcome for command, outcome in pairs if isinstance(command, RemoveEntries)]
        if self.removals:
            self.removing.set()
        return outcomes


def told_by(system: Orchestrator) -> list[Event]:
    """What the actors tell of themselves from now on. To be called before they start."""
    found, emit = list[Event](), system.telemetry.emit

    def remember(event: Event) -> None:
        found.append(event)
        emit(event)

    system.telemetry.emit = remember  # type: ignore[method-assign]
    return found


async def report(ledger: MemoryLedger) -> Report:
    evidence = Evidence(verifies, [Signer(KEY).public_key])
    steps = verifying(await ledger.audit_heads(), ledger.audit_chain, evidence, growing=False)
    *_, found = [step async for step in steps]
    assert isinstance(found, Report)
    return found


async def after(periods: float) -> None:
    """So long, and the time in which the janitor looks."""
    await anyio.sleep(periods * PERIOD + 11.0)


async def entries(ledger: MemoryLedger) -> list[tuple[str, str | None]]:
    return [(entry.event, entry.task_id) async for entry in ledger.audit_chain("main")]


async def test_what_is_kept_for_long_enough():
    """It goes, with an anchor for it; the trail holds, and says so. What is younger stays."""
    ledger = MemoryLedger()
    system = embedded(ScriptedAgents(), ledger, **KEPT)
    told = told_by(system)
    async with system:
        await system.gateway.register(an_agent())
        old = (await system.route(a_request())).record.task.task_id
        await system.gateway.task(old, 60.0)
        await after(0.5)
        await system.gateway.register(an_agent())
        young = (await system.route(a_request())).record.task.task_id
        await system.gateway.task(young, 60.0)
        before = len(await entries(ledger))
        await after(0.6)
        left = await entries(ledger)
        assert Counter(name for _, name in left)[old] == 0
        assert [event for event, name in left if name == young] == ["accepted", "leased", "succeeded"]
    found = await report(ledger)
    assert found.flaws == []
    assert (found.removed["main"].kept_s, found.removed["main"].place.seq) == (300, before - 4)
    assert sum(event.entries for event in told if isinstance(event, DataRemoved)) == before - 4
    assert (await ledger.task(old)) is not None


async def test_task_that_is_open():
    """Its entries stay, and all behind them, for as long as it is; after its end for as long as any others."""
    ledger = MemoryLedger()
    async with embedded(ScriptedAgents(), ledger, **KEPT) as system:
        task_id = (await system.route(a_request("indexing", deadline_s=3 * PERIOD))).record.task.task_id
        await system.gateway.register(an_agent())
        await after(2)
        assert (await entries(ledger))[0] == ("accepted", task_id)
        await after(1.5)
        assert [event for event, name in await entries(ledger) if name == task_id] == ["accepted", "expired"]
        await after(1)
        assert task_id not in [name for _, name in await entries(ledger)]
    assert (await report(ledger)).flaws == []


async def test_without_settings():
    """Everything is kept for ever."""
    ledger = MemoryLedger()
    await ledger.commit([Note(AuditDraft(event="note", created_at=1.0)) for _ in range(9)])
    kept: dict[str, Any] = {"ORCHESTRATOR_AUDIT_SIGNING_KEY": KEY, "ORCHESTRATOR_RETENTION_EVERY_S": "10"}
    async with embedded(ScriptedAgents(), ledger, **kept, ORCHESTRATOR_RETENTION_PAYLOAD_S="60"):
        await after(0)
    assert await ledger.begins() == []


async def test_a_lot_of_it():
    """Each step removes a bounded number of entries, one in a commit, and others come in between."""
    ledger = WatchedLedger()
    for start in range(0, 5_000, 250):
        await ledger.commit([Note(AuditDraft(event="note", created_at=float(start))) for _ in range(250)])
    async with embedded(ScriptedAgents(), ledger, **KEPT) as system:
        await ledger.removing.wait()
        began = anyio.current_time()
        waits = list[float]()
        while (await ledger.begins())[0].place.seq < 5_000 - 1:
            before = anyio.current_time()
            await system.route(a_request("indexing"))
            waits.append(anyio.current_time() - before)
            await anyio.sleep(0.001)
        assert anyio.current_time() - began < 1.0
    anchors = [c for batch in ledger.batches for c in batch if isinstance(c, RemoveEntries)]
    places = [0, *(begins_of(anchor.audit)[0].seq for anchor in anchors)]
    assert max(after - before for before, after in pairwise(places)) <= 500
    assert len(anchors) >= 10
    removals = [sum(isinstance(command, RemoveEntries) for command in batch) for batch in ledger.batches[20:]]
    assert max(removals) == 1
    assert not any(both == (1, 1) for both in pairwise(removals))
    assert len(waits) > 10
    assert (await report(ledger)).flaws == []


async def test_nothing_happens_for_long():
    """A trail that is idle neither grows nor vanishes: what testifies to a removal is no reason for another one."""
    ledger = MemoryLedger()
    async with embedded(ScriptedAgents(), ledger, **KEPT) as system:
        for _ in range(5):
            task_id = (await system.route(a_request("indexing", deadline_s=60.0))).record.task.task_id
        await system.gateway.task(task_id, 60.0)
        await after(12)
        left = [event for event, _ in await entries(ledger)]
    assert set(left) == {"anchor", "checkpoint"}
    assert len(left) <= 4
    assert (await report(ledger)).flaws == []


async def test_two_that_do_it():
    """What one has removed the other does not; each entry is counted once, and the trail holds."""
    ledger = WatchedLedger(exclusive=False)
    await ledger.commit([Note(AuditDraft(event="note", created_at=1.0)) for _ in range(2_000)])
    one, two = (embedded(ScriptedAgents(), ledger, seed=seed, **KEPT) for seed in (1, 2))
    told = [told_by(one), told_by(two)]
    async with one, two:
        await after(0)
    removed = sum(event.entries for of_one in told for event in of_one if isinstance(event, DataRemoved))
    assert removed == (await ledger.begins())[0].place.seq >= 1_999
    assert {type(outcome) for outcome in ledger.removals} == {EntriesRemoved, Stale}
    assert (await report(ledger)).flaws == []


async def test_ledger_that_lets_nothing_go():
    """It is told once a pass; the rest of retention, and acceptance, go on."""
    ledger = WatchedLedger()
    ledger.refuses = True
    system = embedded(ScriptedAgents(), ledger, **KEPT, ORCHESTRATOR_RETENTION_PAYLOAD_S="60")
    told = told_by(system)
    async with system:
        await system.gateway.register(an_agent())
        task_id = (await system.route(a_request())).record.task.task_id
        await system.gateway.task(task_id, 60.0)
        await after(1)
        assert (await system.gateway.task(task_id)).payload_removed
        told.clear()
        await anyio.sleep(100.0)
        refused = [event for event in told if isinstance(event, RemovalRefused)]
        assert 9 <= len(refused) <= 10
        ledger.refuses = False
        await after(0)
    assert [begin.place.writer for begin in await ledger.begins()] == ["main"]
