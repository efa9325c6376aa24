"""Payloads, meta and results at rest: unreadable without the key, and every promise of the ledger holds as before."""

import os
import shutil
import sqlite3
from contextlib import closing, contextmanager

import pytest
from conformance import Accepting, Keys, Moving, Reading
from conformance_consents import Consents
from conformance_erasure import Erasing, erase, is_empty
from ledger_builders import a_key, accept, draft, kinds, moved, one, read, stored, task_id, trail
from ledger_faults import database_error, put_before
from test_ledgers import PostgresStore, SqliteStore

from orchestrator.crypto.envelope import CannotOpen, Envelope, InvalidMasterKey
from orchestrator.domain.lifecycle import State, Step
from orchestrator.domain.task import Consent
from orchestrator.rotation import rotate
from orchestrator.settings import load
from orchestrator.storage.browsing import TaskQuery
from orchestrator.storage.commands import Erased, RevokeConsent
from orchestrator.storage.ports import Unreadable
from orchestrator.storage.sealing import codec_of
from orchestrator.storage.sqlite import sql
from orchestrator.storage.sqlite.ledger import SqliteLedger

pytestmark = pytest.mark.anyio

OLD, NEW = "11" * 32, "IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI="
CANARIES = [b"canary-payload", b"canary-meta", b"canary-output"]


def envelope(keys: str = OLD) -> Envelope:
    return Envelope(keys, os.urandom)


async def written(ledger) -> None:
    """A task with a canary in each place."""
    (record,) = await stored(ledger, accept(1, payload={"a": "canary-payload"}, meta={"b": "canary-meta"}))
    await moved(ledger, record, Step.LEASE, Step.SUCCEED, output={"c": "canary-output"})


class TestSealing:
    """One value for one task and one column."""

    def test_opened_again(self):
        """What was sealed is opened with the task's key, and never looks the same twice."""
        box = envelope()
        key = box.new_key("task-1")
        sealed = {box.seal(key, "task-1", "payload", b"text") for _ in range(9)}
        assert len(sealed) == 9
        assert {box.open(key, "task-1", "payload", text) for text in sealed} == {b"text"}

    def test_in_another_place(self):
        """For another task, column or key it does not open; nor does a key for another task."""
        box = envelope()
        key, other = box.new_key("task-1"), box.new_key("task-2")
        sealed = box.seal(key, "task-1", "payload", b"text")
        for place in ((key, "task-1", "meta"), (key, "task-2", "payload"), (other, "task-2", "payload")):
            with pytest.raises(CannotOpen):
                box.open(*place, sealed)
        with pytest.raises(CannotOpen):
            envelope("33" * 32).open(key, "task-1", "payload", sealed)

    def test_every_byte(self):
        """Whatever is changed or cut off, of the key or of the text, is found."""
        box = envelope()
        key = box.new_key("task-1")
        sealed = box.seal(key, "task-1", "payload", b"text")
        changed = [(key, sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :]) for i in range(len(sealed))]
        changed += [(key[:i] + bytes([key[i] ^ 1]) + key[i + 1 :], sealed) for i in range(len(key))]
        changed += [(key, sealed[:i]) for i in range(len(sealed))] + [(key[:i], sealed) for i in range(len(key))]
        for wrapped, text in changed:
            with pytest.raises(CannotOpen):
                box.open(wrapped, "task-1", "payload", text)

    @pytest.mark.parametrize("text", ["", "\n", "secret words", "11" * 31, "AAAA", f"{OLD}\nsecret"])
    def test_no_master_key(self, text):
        """It is refused, and nothing of it is quoted."""
        with pytest.raises(InvalidMasterKey) as error:
            envelope(text)
        assert "secret" not in str(error.value)
        assert "11" not in repr(envelope())


@contextmanager
def reading(file):
    """Somebody else who reads the database, all of it as it is when he looks first."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        yield reader


class TestFile:
    """A stolen file."""

    @pytest.fixture
    def file(self, tmp_path):
        return tmp_path / "ledger.db"

    def opened(self, file, keys):
        return SqliteLedger.opened(str(file), codec=codec_of(keys, os.urandom))

    def found(self, file) -> list[bytes]:
        contents = self.contents(file)
        return [canary for canary in CANARIES if canary in contents]

    def contents(self, file) -> bytes:
        return b"".join(path.read_bytes() for path in file.parent.iterdir() if path.is_file())

    async def test_holds_nothing_in_the_clear(self, file):
        """Neither the database nor its log, while it is open and afterwards; without a key it would."""
        ledger = await self.opened(file, OLD)
        await written(ledger)
        assert self.found(file) == []
        await ledger.close()
        assert self.found(file) == []
        plain = await SqliteLedger.opened(str(file.parent / "plain" / "ledger.db"))
        await written(plain)
        await plain.close()
        assert self.found(file.parent / "plain" / "ledger.db") == CANARIES

    @pytest.mark.parametrize("keys", [OLD, ""])
    async def test_after_a_task_was_erased(self, file, keys):
        """Neither the database nor its log holds anything of it, sealed or not, nor its data key; the others stay."""
        ledger = await self.opened(file, keys)
        large = "canary-payload " * 2000
        (kept, *_) = await stored(ledger, *[accept(n, payload={"a": "text"}) for n in range(1, 4)])
        (whole,) = await stored(ledger, accept(9, payload={"a": large}, meta={"b": "canary-meta"}))
        await moved(ledger, whole, Step.LEASE, Step.SUCCEED, output={"c": "canary-output"})
        with sqlite3.connect(file) as connection:
            row = connection.execute("SELECT payload, meta, data_key FROM tasks WHERE seq = 4").fetchone()
            result = connection.execute("SELECT output FROM results").fetchone()
        connection.close()
        traces = [bytes(found[-40:]) for found in (*row, *result) if found]
        assert len(traces) == (4 if keys else 3)
        assert [trace in self.contents(file) for trace in traces] == [True] * len(traces)
        await one(ledger, erase(9))
        assert [trace in self.contents(file) for trace in traces] == [False] * len(traces)
        assert self.found(file) == []
        assert await read(ledger, kept) == kept
        await ledger.close()
        assert [trace in self.contents(file) for trace in traces] == [False] * len(traces)

    async def test_erased_beside_a_reader(self, file):
        """Who reads meanwhile is not disturbed; the log is emptied with the next commit after that."""
        ledger = await self.opened(file, OLD)
        await written(ledger)
        with reading(file) as reader:
            (sealed,) = reader.execute("SELECT payload FROM tasks").fetchone()
            await one(ledger, erase(1))
            assert sealed in self.contents(file)
            assert reader.execute("SELECT payload FROM tasks").fetchone() == (sealed,)
        await stored(ledger, accept(2))
        assert sealed not in self.contents(file)
        await ledger.close()

    async def test_opened_beside_a_reader(self, file):
        """Who reads for long holds no commit up, though the log cannot be emptied meanwhile."""
        ledger = await self.opened(file, OLD)
        await written(ledger)
        said: list[str] = []
        with reading(file) as reader:
            reader.execute("SELECT * FROM tasks").fetchall()
            await ledger.close()
            again = await self.opened(file, OLD)
            put_before(again, lambda _, statement: said.append(statement))
            for number in range(2, 5):
                await stored(again, accept(number))
            await again.close()
        assert said.count(sql.EMPTY_LOG) == said.count(sql.IN_PASSING) == 3
        assert sql.HARDLY_WAIT not in said

    async def test_a_log_that_cannot_be_emptied(self, file):
        """Of a disk that fails then, the commits behind it know nothing: they wait for the database as ever."""
        ledger = await self.opened(file, OLD)
        await written(ledger)

        def fail(_connection: sqlite3.Connection, statement: str) -> None:
            if statement == sql.EMPTY_LOG:
                raise database_error("SQLITE_IOERR")

        real = put_before(ledger, fail)
        assert isinstance(await one(ledger, erase(1)), Erased)
        assert real.execute("PRAGMA busy_timeout").fetchone() == (5000,)
        ledger._connection = real
        await ledger.close()

    async def test_erased_beside_a_reader_and_killed(self, file):
        """Whatever process opens the ledger after that empties the log with its first commit."""
        ledger = await self.opened(file, OLD)
        await written(ledger)
        with reading(file) as reader:
            (sealed,) = reader.execute("SELECT payload FROM tasks").fetchone()
            await one(ledger, erase(1))
            left = file.parent / "left"
            left.mkdir()
            for path in file.parent.glob("ledger.db*"):
                shutil.copy(path, left)
        await ledger.close()
        again = await self.opened(left / file.name, OLD)
        await stored(again, accept(2))
        assert sealed not in self.contents(left / file.name)
        await again.close()

    @pytest.mark.parametrize("keys", ["", NEW])
    async def test_without_the_right_key(self, file, keys):
        """It is not opened, so that nothing is taken for lost, and nothing new is stored beside."""
        ledger = await self.opened(file, OLD)
        await written(ledger)
        await ledger.close()
        with pytest.raises(Unreadable, match="key"):
            await self.opened(file, keys)

    async def test_key_that_came_later(self, file):
        """What was stored before stays readable as it is; what comes is encrypted."""
        ledger = await self.opened(file, "")
        (before,) = await stored(ledger, accept(1, payload={"a": "plain"}))
        await ledger.close()
        ledger = await self.opened(file, OLD)
        (after,) = await stored(ledger, accept(2, payload={"a": "canary-payload"}))
        leased = await moved(ledger, await read(ledger, before), Step.LEASE)
        done = await moved(ledger, leased, Step.SUCCEED, output={"x": 1})
        assert await read(ledger, before) == done
        assert await read(ledger, after) == after
        assert self.found(file) == []
        await ledger.close()

    async def test_swapped_payloads(self, file):
        """Who exchanges what two tasks hold, key and all, is found out."""
        ledger = await self.opened(file, OLD)
        first, _ = await stored(ledger, accept(1, payload={"a": 1}), accept(2, payload={"a": 2}))
        await ledger.close()
        with sqlite3.connect(file) as connection:
            connection.execute(
                "UPDATE tasks SET (payload, data_key) = (SELECT payload, data_key FROM tasks WHERE seq = 2)"
            )
        connection.close()
        ledger = await self.opened(file, OLD)
        with pytest.raises(Unreadable):
            await ledger.task(first.task.task_id)
        await ledger.close()

    async def test_rotated(self, file):
        """With the new key first, all keys are wrapped by it, however many; then the old one is not needed any more."""
        ledger = await self.opened(file, OLD)
        records = await stored(ledger, *[accept(number) for number in range(1, 1502)])
        await ledger.close()
        key_file = file.parent / "keys"
        key_file.write_text(f"{NEW}\n{OLD}\n")
        environ = {"DATABASE_URL": f"sqlite:///{file}", "ORCHESTRATOR_STORAGE_ENCRYPTION_KEY_FILE": str(key_file)}
        assert await rotate(load(environ=environ)) == 1501
        assert await rotate(load(environ=environ)) == 0
        with pytest.raises(Unreadable):
            await self.opened(file, OLD)
        ledger = await self.opened(file, NEW)
        for record in (records[0], records[999], records[1000], records[-1]):
            assert (await read(ledger, record)).task == record.task
        assert [entry.event for entry in await trail(ledger)][-2:] == ["encryption_rotated"] * 2
        await ledger.close()


class SealedSqliteStore(SqliteStore):
    codec = codec_of(OLD, os.urandom)

    async def open(self, *, outbox: bool = False) -> SqliteLedger:
        path = str(self._folder / f"{self._number}.db")
        return await SqliteLedger.opened(path, outbox=outbox, codec=self.codec)


class SealedPostgresStore(PostgresStore):
    codec = codec_of(OLD, os.urandom)


class SealedContract(Accepting, Keys, Moving, Reading, Consents, Erasing):
    """All parts of the contract that read or write tasks."""

    async def test_tasks_whose_key_was_destroyed(self, store):
        """Too early, before all were under the new one: what needs their data fails alone, and all else is done."""
        key, consent = a_key(), Consent(True, "c-1")
        for keys, commands in ((OLD, [accept(1, key=key, consent=consent), accept(2)]), (f"{NEW}\n{OLD}", [accept(3)])):
            store.codec = codec_of(keys, os.urandom)
            ledger = await store.open()
            await stored(ledger, *commands)
            await ledger.close()
        store.codec = codec_of(NEW, os.urandom)
        ledger = await store.open()
        outcomes = await ledger.commit([accept(4), accept(5, key=key, consent=consent), accept(6)])
        assert kinds(outcomes) == ["Accepted", "Failed", "Accepted"]
        outcomes = await ledger.commit([RevokeConsent("c-1", draft("consent_revoked")), erase(2), accept(7)])
        assert kinds(outcomes) == ["Revoked", "Erased", "Accepted"]
        with pytest.raises(Unreadable):
            await ledger.task(task_id(1))
        states = {brief.task_id: brief.state for brief in (await ledger.briefs(TaskQuery(before=3))).briefs}
        assert states == {task_id(1): State.DENIED, task_id(2): State.CANCELLED}
        assert is_empty(await read(ledger, outcomes[1].records[0]))
        await ledger.close()


class TestSealedSqliteLedger(SealedContract):
    @pytest.fixture
    def store(self, tmp_path):
        return SealedSqliteStore(tmp_path)


class TestSealedPostgresLedger(SealedContract):
    @pytest.fixture
    def store(self, postgres):
        return SealedPostgresStore(postgres)
