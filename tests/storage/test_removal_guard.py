"""What the database itself lets go of the trail: what its newest entry, an anchor, names, and no more."""

import re
import sqlite3
import time
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import pytest
from conformance_anchors import SIGNATORY, entries, removal, report
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from ledger_builders import accept, draft, kinds, one, stored
from msgspec.structs import astuple, replace

from orchestrator import auditing, backups
from orchestrator.crypto.signing import Signer
from orchestrator.domain.audit import Head, head_of, link
from orchestrator.storage.commands import EntriesRemoved, Note
from orchestrator.storage.ports import LedgerCorrupt
from orchestrator.storage.postgres.ledger import PostgresLedger
from orchestrator.storage.rows import AUDIT_COLUMNS
from orchestrator.storage.sqlite.ledger import SqliteLedger
from orchestrator.testing import PATIENCE_S, ScriptedAgent, Service

pytestmark = pytest.mark.anyio

STATEMENTS = [
    "DELETE FROM audit_entries WHERE seq = 3",
    "DELETE FROM audit_entries WHERE seq <= 4",
    "DELETE FROM audit_entries",
    "UPDATE audit_entries SET reason = 'nice' WHERE seq = 3",
]


async def cut(ledger) -> None:
    """Six entries, of which two are removed."""
    await ledger.commit([Note(draft("note")) for _ in range(6)])
    assert isinstance(await one(ledger, removal(head_of((await entries(ledger))[1]))), EntriesRemoved)


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_sqlite_with_an_anchor(tmp_path, statement):
    """What it does not name stays, whoever asks."""
    file = tmp_path / "ledger.db"
    ledger = await SqliteLedger.opened(str(file))
    await cut(ledger)
    with closing(sqlite3.connect(file)) as connection, pytest.raises(sqlite3.IntegrityError, match="audit entries"):
        connection.execute(statement)
    await one(ledger, Note(draft("note")))
    assert [entry.seq for entry in await entries(ledger)] == [3, 4, 5, 6, 7, 8]
    await ledger.close()


@pytest.mark.parametrize("statement", [*STATEMENTS, "TRUNCATE audit_entries"])
async def test_postgres_with_an_anchor(postgres, statement):
    """The same, of the owner of the tables as well."""
    database = await postgres.new_database()
    ledger = await PostgresLedger.opened(postgres.url(database), "clinic", time.time)
    await cut(ledger)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only grows"):
        await postgres.execute(statement, database)
    await one(ledger, Note(draft("note")))
    assert [entry.seq for entry in await entries(ledger)] == [3, 4, 5, 6, 7, 8]
    await ledger.close()


@pytest.mark.parametrize("begin", [{"seq": 4}, {"entry_hash": "ab" * 32}, {"writer": "other"}])
async def test_anchor_that_names_what_is_not_there(tmp_path, begin):
    """The end of a chain, a wrong hash, another chain: it lets nothing go, and what was to go with it is undone."""
    file = tmp_path / "ledger.db"
    ledger = await SqliteLedger.opened(str(file))
    await ledger.commit([Note(draft("note")) for _ in range(4)])
    last, second = head_of((await entries(ledger))[-1]), head_of((await entries(ledger))[1])
    await ledger.close()
    named = replace(second, **begin)
    entry = link(Head("clinic"), SIGNATORY.anchor([named], 1, 0.0))
    with closing(sqlite3.connect(file)) as connection, connection:
        marks = ", ".join("?" * len(astuple(entry)))
        connection.execute(f"INSERT INTO audit_entries ({AUDIT_COLUMNS}) VALUES ({marks})", astuple(entry))
        with pytest.raises(sqlite3.IntegrityError, match="audit entries are never deleted"):
            connection.execute("DELETE FROM audit_entries WHERE writer = 'main' AND seq <= ?", (named.seq,))
    assert last.seq == 4


async def test_anchor_that_somebody_forged(tmp_path):
    """The database takes it for one and lets the entries go; who verifies with the public key names it."""
    file = tmp_path / "ledger.db"
    ledger = await SqliteLedger.opened(str(file))
    await ledger.commit([Note(draft("note")) for _ in range(4)])
    whole = await entries(ledger)
    await ledger.close()
    honest = SIGNATORY.anchor([head_of(whole[0])], 1, 0.0)
    forged = draft("anchor", at=0.0)
    begins = f'{{"writer":"main","seq":2,"entry_hash":"{whole[1].entry_hash}"}}'
    detail = f'{{"begins":[{begins}],{(honest.detail or "").partition("],")[2]}'
    entry = link(head_of(whole[-1]), type(forged)(event="anchor", created_at=0.0, detail=detail))
    with closing(sqlite3.connect(file)) as connection, connection:
        marks = ", ".join("?" * len(astuple(entry)))
        connection.execute(f"INSERT INTO audit_entries ({AUDIT_COLUMNS}) VALUES ({marks})", astuple(entry))
        connection.execute("UPDATE audit_heads SET seq = 5, entry_hash = ?", (entry.entry_hash,))
        connection.execute("DELETE FROM audit_entries WHERE seq <= 2")
    found = [flaw.what for flaw in (await auditing.verify(f"sqlite:///{file}")).flaws]
    assert [what.partition(",")[0] for what in found] == [
        "the signature of its anchor is not valid",
        "what stood before it is missing",
    ]


@asynccontextmanager
async def restricted(postgres, database: str, grants: str):
    """A ledger that works as a role that owns nothing, and may do with entries of the audit what is granted."""
    ledger = await PostgresLedger.opened(await as_role(postgres, database, grants), "clinic", time.time)
    yield ledger
    await ledger.close()


async def as_role(postgres, database: str, grants: str = "") -> str:
    """The URL of the database for a role of its own, which was made as the documentation says, and these grants."""
    role = f"replica_of_{database}"
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text("utf-8")
    script = "".join(re.findall(r"^    ((?:CREATE ROLE|GRANT|REVOKE) .*\n)", page, re.MULTILINE))
    assert script.count("orchestrator") == 5
    await postgres.run(script.replace("orchestrator", role) + grants.format(role), database)
    return postgres.url(database).replace("tests:", f"{role}:")


@pytest.fixture
async def database(postgres):
    name = await postgres.new_database()
    await (await PostgresLedger.opened(postgres.url(name), "owner", time.time)).close()
    return name


async def test_role_that_may_not_remove(postgres, database):
    """The removal alone fails, and nothing of it is stored; whatever else comes in the same batch is done."""
    async with restricted(postgres, database, "") as ledger:
        await ledger.commit([Note(draft("note")) for _ in range(4)])
        begin = head_of((await entries(ledger))[1])
        outcomes = await ledger.commit([accept(1), removal(begin), accept(2)])
        assert kinds(outcomes) == ["Accepted", "Failed", "Accepted"]
        await stored(ledger, accept(3))
        assert [entry.event for entry in await entries(ledger)] == ["note"] * 4 + ["accepted"] * 3
        assert (await report(ledger)).flaws == []


async def test_service_as_that_role(postgres, database):
    """The whole of it works: a task is done and erased, a consent revoked. To the audit it can add, no more."""
    url = await as_role(postgres, database)
    async with (
        Service({"DATABASE_URL": url}) as service,
        ScriptedAgent("agent-1", {"success": True, "output": 1}) as agent,
    ):
        await agent.register(service)
        done = (await service.route({"case_id": "case-1"})).json["task_id"]
        assert (await service.ended(done))["status"] == "succeeded"
        for call in (f"/task/{done}/erase", "/consents/consent-1/revoke"):
            assert (await service.ask("POST", call)).status == 200
        connection = await asyncpg.connect(url)
        for statement in (*STATEMENTS, "TRUNCATE audit_entries", "DELETE FROM audit_heads", "DROP TABLE audit_entries"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"permission denied|must be owner"):
                await connection.execute(statement)
        await connection.close()
    assert (await auditing.verify(url)).flaws == []


async def test_role_that_may_remove(postgres, database):
    """With DELETE it removes behind an anchor, and nothing besides."""
    async with restricted(postgres, database, "GRANT DELETE ON audit_entries TO {0};") as ledger:
        await cut(ledger)
        found = await report(ledger)
        assert (found.flaws, found.removed["clinic"].place.seq) == ([], 2)
    connection = await asyncpg.connect(postgres.url(database).replace("tests:", f"replica_of_{database}:"))
    for statement in STATEMENTS:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()


async def test_backup_of_a_trail_without_its_beginning(tmp_path):
    """It is verified from the anchor on, and restored; one of which more is missing is refused."""
    file, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    url = f"sqlite:///{file}"
    ledger = await SqliteLedger.opened(str(file))
    await cut(ledger)
    saved = await backups.back_up(url, copy)
    assert (saved.flaws, saved.removed["main"].place.seq, saved.removed["main"].anchor) == ([], 2, "audit-main-7")
    await one(ledger, removal(head_of((await entries(ledger))[2])))
    await ledger.close()
    assert (await backups.restore(url, copy)).removed == saved.removed
    found = await auditing.verify(url)
    assert (found.flaws, found.removed, found.entries(found.heads[0])) == ([], saved.removed, 6)
    with closing(sqlite3.connect(copy)) as connection, connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute("DELETE FROM audit_entries WHERE seq = 3")
    with pytest.raises(LedgerCorrupt, match="what stood before it is missing"):
        await backups.restore(url, copy)


async def test_two_replicas_at_once(postgres):
    """What one of them removes the other leaves; each entry goes once, and all chains hold from their anchors on."""
    database = await postgres.new_database()
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for writer in ("clinic-a", "clinic-b", "gone"):
        ledger = await PostgresLedger.opened(postgres.url(database), writer, time.time)
        for _ in range(5):
            await ledger.commit([Note(draft("note")) for _ in range(256)])
        await ledger.close()
    environ = {
        "ORCHESTRATOR_AUDIT_SIGNING_KEY": key,
        "ORCHESTRATOR_RETENTION_AUDIT_S": "31536000",
        "ORCHESTRATOR_RETENTION_EVERY_S": "1",
    }
    stores = {"DATABASE_URL": postgres.url(database)}
    writers = ("clinic-a", "clinic-b")
    services = [Service({**stores, "ORCHESTRATOR_STORAGE_WRITER": name}, environ) for name in writers]
    reader = await PostgresLedger.opened(postgres.url(database), "reader", time.time)
    async with services[0], services[1]:
        with anyio.fail_after(PATIENCE_S):
            removed, counted = list[int](), 0
            while min(removed, default=0) < 1_279 or counted != sum(removed):
                assert (await services[0].route({})).status == 202
                removed, counted = [begin.place.seq for begin in await reader.begins()], 0
                for service in services:
                    text = (await service.ask("GET", "/metrics")).body.decode()
                    found = re.search(r'orchestrator_removed_total{what="audit_entry"} ([0-9]+)', text)
                    counted += int(found[1]) if found else 0
    assert len(removed) == 3
    found = await report(reader, [Signer(key).public_key])
    assert (found.flaws, sorted(found.removed)) == ([], ["clinic-a", "clinic-b", "gone"])
    anchors = [entry for entry in await entries(reader) if entry.event == "anchor"]
    assert 8 <= len(anchors) <= 12
    await reader.close()
