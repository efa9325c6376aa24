"""Idempotency keys at rest: they often name a patient or a case, and a stolen database tells none of them."""

import hmac
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from ledger_builders import NOW, a_key, accept, kinds, one

from orchestrator.rotation import rotate
from orchestrator.settings import load
from orchestrator.storage.commands import ExpireKeys, Key
from orchestrator.storage.disguise import Disguise
from orchestrator.storage.opening import open_ledger
from orchestrator.storage.ports import Unreadable
from orchestrator.storage.sealing import codec_of
from orchestrator.storage.sqlite.ledger import SqliteLedger

pytestmark = pytest.mark.anyio

OLD, NEW = "11" * 32, "22" * 32
KEPT = Path(__file__).parents[1] / "upgrades"
CANARY = a_key("canary-patient-7", "canary-body-7", "caller:clinic")
TOLD = (CANARY.key.encode(), CANARY.fingerprint.encode())


@pytest.fixture
def file(tmp_path):
    return tmp_path / "ledger.db"


def opened(file, keys: str = ""):
    return SqliteLedger.opened(str(file), codec=codec_of(keys, os.urandom))


def contents(folder) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def stored(file, statement: str) -> list:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(statement).fetchall()


async def knows(ledger, number: int, key: Key = CANARY) -> None:
    """The key stands for its body, for no other body, and in no other scope."""
    again = [
        accept(number, key=key),
        accept(number + 1, key=a_key(key.key, "another body", key.scope)),
        accept(number + 2, key=a_key(key.key, key.fingerprint, f"{key.scope}-{number}")),
    ]
    assert [kinds([await one(ledger, command)])[0] for command in again] == ["Duplicate", "Reused", "Accepted"]


@pytest.mark.parametrize("keys", ["", OLD])
async def test_a_stolen_file(file, keys):
    """It holds neither the key nor the hash of the body, while it is open and afterwards; what they stand for holds."""
    ledger = await opened(file, keys)
    await one(ledger, accept(1, key=CANARY))
    await knows(ledger, 2)
    assert not any(text in contents(file.parent) for text in TOLD)
    await ledger.close()
    again = await opened(file, keys)
    await knows(again, 5)
    await again.close()
    assert not any(text in contents(file.parent) for text in TOLD)


@pytest.mark.parametrize("keys", ["", OLD])
async def test_a_guess_at_a_key(file, keys):
    """Can be tried by who has the file, but where there is a master key, by nobody without that."""
    ledger = await opened(file, keys)
    await one(ledger, accept(1, key=CANARY))
    await ledger.close()
    ((secret,),) = stored(file, "SELECT secret FROM secrets")
    tried = Disguise(secret).wear(CANARY)
    found = stored(file, "SELECT digest, fingerprint FROM idempotency_keys")
    assert (found == [(tried.digest, tried.fingerprint)]) is (not keys)


@pytest.mark.parametrize("key", [CANARY, a_key("", ""), a_key("schlüssel " * 40, "body", "caller:ä")])
def test_what_a_digest_is(key):
    """That of the standard library, cut to 128 bits: what is in a ledger is found by it, whatever computes it now."""
    secret = bytes(range(32))

    def cut(text: str) -> bytes:
        return hmac.digest(secret, text.encode(), "sha256")[:16]

    digest = cut(f"{len(key.scope)}:{key.scope}{key.key}")
    worn = Disguise(secret).wear(key)
    assert (worn.digest, worn.fingerprint) == (digest, cut(f"{digest.hex()}{key.fingerprint}"))


async def test_two_callers_with_one_key_and_body(file):
    """Nobody can see that it is the same."""
    ledger = await opened(file)
    await ledger.commit([accept(1, key=CANARY), accept(2, key=a_key(CANARY.key, CANARY.fingerprint, "caller:other"))])
    await ledger.close()
    assert len({text for row in stored(file, "SELECT digest, fingerprint FROM idempotency_keys") for text in row}) == 4


async def test_a_master_key_that_comes_later_and_is_changed(file):
    """The secret is sealed by it from then on, and under the new one by `rotate`; keys from before still stand."""
    ledger = await opened(file)
    await one(ledger, accept(1, key=CANARY))
    await ledger.close()
    ((plain,),) = stored(file, "SELECT secret FROM secrets")
    ledger = await opened(file, OLD)
    assert plain not in contents(file.parent)
    await knows(ledger, 2)
    await ledger.close()
    key_file = file.parent / "keys"
    key_file.write_text(f"{NEW}\n{OLD}\n")
    environ = {"DATABASE_URL": f"sqlite:///{file}", "ORCHESTRATOR_STORAGE_ENCRYPTION_KEY_FILE": str(key_file)}
    await rotate(load(environ=environ))
    ledger = await opened(file, NEW)
    await knows(ledger, 5)
    await ledger.close()


@pytest.mark.parametrize("keys", ["", NEW])
async def test_without_the_right_master_key(file, keys):
    """It is not opened, even before there is a task: other keys would be stored beside those that there are."""
    await (await opened(file, OLD)).close()
    with pytest.raises(Unreadable, match="key"):
        await opened(file, keys)


@pytest.mark.parametrize("left", ["closed", "killed"])
async def test_a_file_from_before(file, left):
    """Its keys are recognised, and stand in it no more; not in a log either, that a process left which was killed."""
    live = sqlite3.connect(file.parent / "live.db", isolation_level=None)
    live.execute("PRAGMA journal_mode = WAL")
    live.executescript((KEPT / "0001.sqlite.sql").read_text("utf-8"))
    plain = live.execute("SELECT scope, key, fingerprint FROM idempotency_keys").fetchall()
    if left == "closed":
        live.close()
    for path in file.parent.glob("live.db*"):
        (file.parent / path.name.replace("live", "ledger")).write_bytes(path.read_bytes())
    live.close()
    (file.parent / "live.db").unlink()
    assert plain
    assert all(text.encode() in contents(file.parent) for row in plain for text in row[1:])
    ledger = await opened(file)
    assert not any(text.encode() in contents(file.parent) for row in plain for text in row[1:])
    for number, (scope, key, fingerprint) in enumerate(plain):
        await knows(ledger, 100 + 3 * number, a_key(key, fingerprint, scope))
    await ledger.close()


AS_BEFORE = """
DROP TABLE idempotency_index;
DROP TABLE idempotency_runs;
ALTER TABLE idempotency_keys RENAME TO newer_keys;
DROP INDEX idempotency_keys_expiry;
CREATE TABLE idempotency_keys (
    scope TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, task_id TEXT NOT NULL, expires_at REAL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX idempotency_keys_task ON idempotency_keys (task_id);
INSERT INTO idempotency_keys SELECT 'caller:clinic', lower(hex(digest)), lower(hex(newer_keys.fingerprint)), task_id,
    expires_at FROM newer_keys JOIN tasks USING (seq);
DROP TABLE newer_keys;
DROP TABLE audit_parts;
DROP TABLE audit_runs;
DROP TABLE audit_cases;
CREATE INDEX audit_entries_event ON audit_entries (event);
CREATE INDEX audit_entries_time ON audit_entries (created_at);
CREATE INDEX audit_entries_case ON audit_entries (position >> 12, case_id) WHERE case_id IS NOT NULL;
DROP TABLE results;
CREATE TABLE results (
    task_id TEXT PRIMARY KEY, attempt INTEGER NOT NULL, agent_id TEXT NOT NULL, output BLOB NOT NULL,
    model_version TEXT, finished_at REAL NOT NULL
) STRICT;
UPDATE schema_version SET version = 7;
"""
"""What makes a file as it was when digests stood in it as text."""


@pytest.mark.parametrize("keys", ["", OLD])
async def test_a_file_of_digests_from_before(file, keys):
    """They stand for the same tasks as before, expire when they would have, and there is one table of them."""
    ledger = await opened(file, keys)
    short = a_key("short", "body", "caller:clinic", expires_at=NOW + 60)
    await ledger.commit([accept(1, key=CANARY), accept(2, key=short)])
    await ledger.close()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.executescript(AS_BEFORE)
    ledger = await opened(file, keys)
    await knows(ledger, 3)
    assert kinds([await one(ledger, accept(6, key=short))]) == ["Duplicate"]
    await one(ledger, ExpireKeys(NOW + 60))
    assert kinds([await one(ledger, accept(7, key=short)), await one(ledger, accept(8, key=CANARY))]) == [
        "Accepted", "Duplicate",
    ]  # fmt: skip
    await ledger.close()
    assert [*stored(file, "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%keys'")] == [
        ("api_keys",), ("idempotency_keys",),
    ]  # fmt: skip


class TestPostgres:
    """Replicas share the secret, whichever was first."""

    async def replica(self, url: str, name: str, ledgers: list, keys: str = OLD) -> None:
        ledgers.append(await open_ledger(url, writer=name, codec=codec_of(keys, os.urandom)))

    async def started(self, url: str, count: int = 3) -> list:
        ledgers: list = []
        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(self.replica, url, f"replica-{number}", ledgers)
        return ledgers

    async def test_replicas_that_start_at_once(self, postgres):
        """What one accepts is a duplicate for the others; the server has never seen the key, not even its log."""
        ledgers = await self.started(postgres.url(await postgres.new_database()))
        await one(ledgers[0], accept(1, key=CANARY))
        for number, ledger in enumerate(ledgers):
            await knows(ledger, 10 + 3 * number)
            await ledger.close()
        await postgres.execute("CHECKPOINT")
        held = contents(postgres.folder)
        assert b"caller:clinic" in held
        assert not any(text in held for text in TOLD)

    async def test_a_database_from_before(self, postgres):
        """Its keys are recognised by all who take it over at once, and stand in no table any more."""
        name = await postgres.new_database()
        # A setting that older servers do not know.
        text = (KEPT / "0001.postgresql.sql").read_text("utf-8").replace("SET transaction_timeout = 0;", "")
        await postgres.run(text, name)
        plain = await postgres.execute("SELECT scope, key, fingerprint FROM public.idempotency_keys", name)
        assert plain
        ledgers = await self.started(postgres.url(name))
        for number, (scope, key, fingerprint) in enumerate(plain):
            await knows(ledgers[number % 3], 100 + 3 * number, a_key(key, fingerprint, scope))
        for ledger in ledgers:
            await ledger.close()
        found = await postgres.execute("SELECT key, fingerprint FROM public.idempotency_keys", name)
        assert not {text for row in plain for text in row[1:]} & {text for row in found for text in row}
        with pytest.raises(Unreadable, match="key"):
            await open_ledger(postgres.url(name), codec=codec_of(NEW, os.urandom))
