"""Somebody with the file and a shell: what was done to the audit trail is found in what a reader reads."""

import contextlib
import sqlite3

import pytest

from orchestrator import auditing
from orchestrator.domain.audit import AuditDraft, AuditEntry, Flaw, Head, flaws, link
from orchestrator.storage.commands import Note
from orchestrator.storage.opening import open_reader
from orchestrator.storage.ports import AuditQuery
from orchestrator.storage.sqlite.ledger import SqliteLedger

pytestmark = pytest.mark.anyio

LENGTH = 60
TEXTS = [name for name in AuditEntry.__struct_fields__ if name not in ("seq", "attempt")]


@pytest.fixture
async def file(tmp_path):
    """A ledger with a trail, which nobody has open."""
    file = tmp_path / "ledger.db"
    ledger = await SqliteLedger.opened(str(file))
    drafts = [
        AuditDraft(
            event="note",
            created_at=number,
            task_id=f"task-{number}",
            case_id="Zoë",
            router_decision="{}",
            agent_id="agent-1",
            model_version="1",
            consent_id="consent-1",
            status="queued",
            attempt=1,
            reason="why",
            detail="{}",
            principal="clinic-a",
        )
        for number in range(LENGTH)
    ]
    for start in range(0, LENGTH, 20):
        await ledger.commit([Note(draft) for draft in drafts[start : start + 20]])
    await ledger.close()
    return file


def tamper(file, statement: str, *parameters: object) -> None:
    """As somebody does who knows that the triggers are in the way."""
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(statement, parameters)


async def found(file) -> list[Flaw]:
    """What is wrong with all chains of the file."""
    reader = await open_reader(f"sqlite:///{file}")
    try:
        return [
            flaw
            for head in await reader.audit_heads()
            for flaw in flaws([entry async for entry in reader.audit_chain(head.writer)], head)
        ]
    finally:
        await reader.close()


async def test_untouched(file):
    """There is nothing to find."""
    assert await found(file) == []


@pytest.mark.parametrize("seq", [1, 30, LENGTH])
@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("change", ["{} || 'x'", "CAST({} || x'ff' AS TEXT)", "CAST(x'ff' AS TEXT)", "{} || char(0)"])
async def test_changed_text(file, seq, field, change):
    """In any field, also by bytes that are no UTF-8: the entry is named, or the gap that it left."""
    tamper(file, f"UPDATE audit_entries SET {field} = {change.format(field)} WHERE seq = ?", seq)
    first = (await found(file))[0]
    gap = field == "writer" and seq < LENGTH
    assert first.seq in ((seq, seq + 1) if gap else (seq,))


async def test_bytes_in_place_of_a_character(file):
    """Two broken bytes for a letter: the entry can be read, and is named."""
    tamper(file, "UPDATE audit_entries SET case_id = CAST(x'5a6fc3' AS TEXT) WHERE seq = 5")
    assert [flaw.seq for flaw in await found(file)] == [5]
    reader = await open_reader(f"sqlite:///{file}")
    page = await reader.audit(AuditQuery(task_id="task-4"))
    assert [entry.seq for entry in page.entries] == [5]
    await reader.close()


async def test_checkpoint_of_broken_bytes(file):
    """What no JSON can hold is no checkpoint: it is named, and breaks nothing."""
    tamper(file, "UPDATE audit_entries SET event = 'checkpoint', detail = CAST(x'7bff' AS TEXT) WHERE seq = 5")
    flaws = (await auditing.verify(f"sqlite:///{file}")).flaws
    assert {flaw.seq for flaw in flaws} == {5}
    assert "it is no checkpoint that can be read" in {flaw.what for flaw in flaws}


async def test_bytes_that_look_like_what_stood_there(file):
    """Broken bytes are often shown as U+FFFD; a text that held that character is not the same as broken bytes."""
    ledger = await SqliteLedger.opened(str(file))
    await ledger.commit([Note(AuditDraft(event="note", created_at=0.0, reason="\ufffd"))])
    await ledger.close()
    assert await found(file) == []
    tamper(file, "UPDATE audit_entries SET reason = CAST(x'ff' AS TEXT) WHERE seq = ?", LENGTH + 1)
    assert [flaw.seq for flaw in await found(file)] == [LENGTH + 1]


@pytest.mark.parametrize("number", [0, 2, -1, 2**62, None])
async def test_changed_attempt(file, number):
    """Numbers are hashed as well."""
    tamper(file, "UPDATE audit_entries SET attempt = ? WHERE seq = 30", number)
    assert [flaw.seq for flaw in await found(file)] == [30]


@pytest.mark.parametrize("number", [0, -1, LENGTH + 1, 2**62])
async def test_changed_number(file, number):
    """The gap is found, and the entry where it stands now."""
    tamper(file, "UPDATE audit_entries SET seq = ? WHERE seq = 30", number)
    assert {31} <= {flaw.seq for flaw in await found(file)}


@pytest.mark.parametrize("seq", [1, 2, 30, LENGTH])
async def test_removed_entry(file, seq):
    """First, last or any."""
    tamper(file, "DELETE FROM audit_entries WHERE seq = ?", seq)
    assert (await found(file))[0].seq == min(seq + 1, LENGTH)


async def test_removed_trail(file):
    """All of it, while its head still stands."""
    tamper(file, "DELETE FROM audit_entries")
    assert (await found(file))[0].seq == 1


async def test_removed_head(file):
    """A chain without a head is a chain that does not hold, not one that nobody looks at."""
    tamper(file, "DELETE FROM audit_heads")
    assert await found(file) != []


async def test_swapped_entries(file):
    """Their contents, while the numbers stay."""
    columns = ", ".join(name for name in AuditEntry.__struct_fields__ if name not in ("writer", "seq"))
    tamper(
        file,
        f"UPDATE audit_entries SET ({columns}) = (SELECT {columns} FROM audit_entries AS o WHERE o.seq = 61"
        " - audit_entries.seq) WHERE seq = 30",
    )
    assert (await found(file))[0].seq == 30


def insert(file, entry: AuditEntry) -> None:
    """Slips an entry in, past the ledger."""
    names = AuditEntry.__struct_fields__
    columns, marks = ", ".join(names), ", ".join("?" * len(names))
    tamper(file, f"INSERT INTO audit_entries ({columns}) VALUES ({marks})", *[getattr(entry, name) for name in names])


async def test_forged_entry_at_the_end(file):
    """Chained correctly, but not by the ledger: the head does not know it."""
    reader = await open_reader(f"sqlite:///{file}")
    (head,) = await reader.audit_heads()
    await reader.close()
    insert(file, link(head, AuditDraft(event="accepted", created_at=0.0)))
    assert [flaw.seq for flaw in await found(file)] == [LENGTH + 1]


async def test_forged_chain_of_another_writer(file):
    """It would show among the entries, so it is looked at as well."""
    insert(file, link(Head("evil"), AuditDraft(event="accepted", created_at=0.0)))
    assert [(flaw.writer, flaw.seq) for flaw in await found(file)] == [("evil", 1)]


async def test_table_made_anew(file):
    """Without the types that SQLite would keep to, anything may stand in a row: it is found, and breaks nothing."""
    for statement in (
        "CREATE TABLE loose AS SELECT * FROM audit_entries",
        "DROP TABLE audit_entries",
        "ALTER TABLE loose RENAME TO audit_entries",
        "UPDATE audit_entries SET reason = x'00ff' WHERE seq = 7",
        "UPDATE audit_entries SET attempt = 1.5, task_id = 9 WHERE seq = 9",
    ):
        tamper(file, statement)
    assert [flaw.seq for flaw in await found(file)] == [7, 9]
