"""Keys of the embedded ledger: remembered, on their way into the index, or in it, each stands for its task."""

import random
import shutil
import sqlite3
from contextlib import closing
from itertools import count

import pytest
from ledger_builders import NOW, a_key, accept, draft, kinds, moved, one, stored, task_id
from ledger_faults import database_error, put_before

from orchestrator.domain.lifecycle import Step
from orchestrator.storage.commands import Accept, Accepted, Duplicate, ExpireKeys, Noted, Outcome, Remove
from orchestrator.storage.ports import NotCommitted
from orchestrator.storage.sqlite import keys as known_keys
from orchestrator.storage.sqlite import sql
from orchestrator.storage.sqlite.ledger import SqliteLedger
from orchestrator.storage.sqlite.schema import migrate

pytestmark = pytest.mark.anyio

MANY = 150


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(known_keys, "MANY", MANY)
    return tmp_path / "ledger.db"


@pytest.fixture
async def ledger(file):
    ledger = await SqliteLedger.opened(str(file))
    yield ledger
    await ledger.close()


def new(numbers: range) -> list[Accept]:
    """Accepts a task for each, under a key of that number."""
    return [accept(number, key=a_key(f"key-{number}", f"body-{number}")) for number in numbers]


def indexed(file) -> tuple[int, int]:
    """How many rows of runs there are, and how many runs that are whole."""
    with closing(sqlite3.connect(file)) as connection:
        counted = "SELECT (SELECT count(*) FROM idempotency_index), (SELECT count(*) FROM idempotency_runs)"
        rows, whole = connection.execute(counted).fetchone()
    return rows, whole


async def asked(ledger: SqliteLedger, numbers: range) -> list[Outcome]:
    """What comes of accepting other tasks under the keys of these."""
    return [
        await one(ledger, accept(10_000 + number, key=a_key(f"key-{number}", f"body-{number}"))) for number in numbers
    ]


async def stand(ledger: SqliteLedger, numbers: range) -> bool:
    """Whether each key stands for its task."""
    found = [outcome.record.task.task_id for outcome in await asked(ledger, numbers) if isinstance(outcome, Duplicate)]
    return found == [task_id(number) for number in numbers]


async def test_from_memory_into_a_run(ledger, file):
    """Some go with each commit that brings new ones, until all that were gathered are there; none is forgotten."""
    await ledger.commit(new(range(1, MANY + 1)))
    assert indexed(file) == (0, 0)
    found = []
    for start in range(1001, 1101, 20):
        await ledger.commit(new(range(start, start + 20)))
        found.append(indexed(file))
        assert await stand(ledger, range(1, MANY + 1, 7))
    assert found == [(35, 0), (70, 0), (105, 0), (128, 1), (128, 1)]
    assert await stand(ledger, range(1001, 1101))


async def test_in_one_of_many_runs(ledger, file):
    """Each stands for its task in whichever it is, and what is in none is free; the same after a restart."""
    for start in range(1, 3001, 50):
        await ledger.commit(new(range(start, start + 50)))
    assert indexed(file)[1] > 8
    assert await stand(ledger, range(1, 3001, 17))
    await ledger.close()
    again = await SqliteLedger.opened(str(file))
    assert await stand(again, range(1, 3001, 17))
    assert set(kinds(await again.commit(new(range(3001, 3101))))) == {"Accepted"}
    await again.close()


@pytest.mark.parametrize("entering", [0, 20, 60, 80, 100])
async def test_after_a_restart(ledger, file, entering: int):
    """Wherever they were then, the file knows them: here as a process left it that was killed."""
    await ledger.commit(new(range(1, MANY + 1)))
    for start in range(1001, 1001 + entering, 20):
        await ledger.commit(new(range(start, start + 20)))
    copied = file.parent / "copied"
    copied.mkdir()
    for path in file.parent.glob("ledger.db*"):
        shutil.copy(path, copied)
    again = await SqliteLedger.opened(str(copied / "ledger.db"))
    assert await stand(again, range(1, MANY + 1))
    assert await stand(again, range(1001, 1001 + entering))
    await again.commit(new(range(2001, 2001 + MANY)))
    assert await stand(again, range(2001, 2001 + MANY))
    await again.close()


async def test_many_restarts(ledger, file):
    """However few came between them, there is a bound to what is remembered."""
    await ledger.close()
    for start in range(0, 1200, 60):
        again = await SqliteLedger.opened(str(file))
        assert start - MANY * indexed(file)[1] < MANY
        await again.commit(new(range(start + 1, start + 61)))
        await again.close()
    again = await SqliteLedger.opened(str(file))
    assert await stand(again, range(1, 1201, 11))
    await again.close()


async def test_after_all_tasks_were_removed(ledger, file):
    """Whatever is accepted after that, and after a restart, has numbers behind all runs: its key stands as well."""
    records = await stored(ledger, *new(range(1, MANY + 1)))
    for record in records:
        await moved(ledger, record, Step.CANCEL)
    await ledger.close()
    ledger = await SqliteLedger.opened(str(file))
    assert indexed(file) == (128, 1)
    removed = Remove(draft("removed"), tasks=tuple(record.task.task_id for record in records))
    assert isinstance(await one(ledger, removed), Noted)
    for start in (1001, 1011):
        await ledger.close()
        ledger = await SqliteLedger.opened(str(file))
        assert set(kinds(await ledger.commit(new(range(start, start + 10))))) == {"Accepted"}
        assert await stand(ledger, range(1001, start + 10))
    await ledger.close()


AS_BEFORE = """
DROP TABLE idempotency_index;
DROP TABLE idempotency_runs;
CREATE TABLE idempotency_index (digest BLOB PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE idempotency_indexed (up_to INTEGER NOT NULL) STRICT;
INSERT INTO idempotency_index SELECT digest, seq FROM idempotency_keys;
INSERT INTO idempotency_indexed SELECT max(seq) FROM idempotency_keys;
CREATE TRIGGER idempotency_keys_leave AFTER DELETE ON idempotency_keys
BEGIN DELETE FROM idempotency_index WHERE digest = OLD.digest AND seq = OLD.seq; END;
UPDATE schema_version SET version = 10;
"""
"""What makes a file as it was when all keys were in one index."""


@pytest.mark.parametrize("full", [False, True])
async def test_a_file_from_before(ledger, file, full: bool):
    """Its keys become runs, and stand; where there is no room for runs they stand all the same."""
    await ledger.commit(new(range(1, 3 * MANY + 11)))
    await ledger.close()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.executescript(AS_BEFORE)
    if full:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            migrate(connection)
            connection.execute("VACUUM")
    again = await SqliteLedger.opened(str(file), max_bytes=file.stat().st_size if full else 0)
    assert indexed(file) == ((0, 0) if full else (3 * 128, 3))
    assert await stand(again, range(1, 3 * MANY + 11))
    await again.close()


@pytest.mark.parametrize("statement", [sql.WRITE_KEYS_OF_RUN, sql.ADD_KEY_RUN, sql.READ_KEY_RUNS, "COMMIT"])
async def test_a_commit_that_fails(ledger, file, statement: str):
    """Its own keys stand for nothing; those on their way stay where they were, and are written by the next."""
    await ledger.commit(new(range(1, MANY + 1)))

    def fail(_connection: sqlite3.Connection, about: str) -> None:
        if about == statement:
            raise database_error("SQLITE_FULL")

    real = put_before(ledger, fail)
    with pytest.raises(NotCommitted):
        await ledger.commit(new(range(1001, 1101)))
    ledger._connection = real
    assert indexed(file) == (0, 0)
    assert kinds(await ledger.commit(new(range(1001, 1101)))) == ["Accepted"] * 100
    assert indexed(file) == (128, 1)
    assert await stand(ledger, range(1, MANY + 1))
    assert await stand(ledger, range(1001, 1101))


@pytest.mark.parametrize("entering", [0, 20, 60, 80, 100])
async def test_one_that_is_over(ledger, file, entering: int):
    """It is free again, wherever it was."""
    short = [accept(n, key=a_key(f"key-{n}", f"body-{n}", expires_at=NOW + 60)) for n in range(1, MANY + 1)]
    await ledger.commit(short)
    for start in range(1001, 1001 + entering, 20):
        await ledger.commit(new(range(start, start + 20)))
    taken = [accept(2000 + n, key=a_key(f"key-{n}", "another"), at=NOW + 60) for n in range(1, 5)]
    assert kinds(await ledger.commit(taken)) == ["Accepted"] * 4
    await one(ledger, ExpireKeys(NOW + 60))
    assert {type(outcome) for outcome in await asked(ledger, range(5, MANY + 1))} == {Accepted}
    assert {type(outcome).__name__ for outcome in await asked(ledger, range(1, 5))} == {"Reused"}


async def test_runs_that_are_over(ledger, file):
    """With the last key of a run that goes nothing is left of it; one that has another stays, wherever it stands."""
    for start in range(1, 10 * MANY + 1, MANY):
        some = [
            accept(n, key=a_key(f"key-{n}", f"body-{n}", expires_at=None if n == 3 * MANY else NOW + 60))
            for n in range(start, start + MANY)
        ]
        await ledger.commit(some)
    assert indexed(file) == (9 * 128, 9)
    await one(ledger, ExpireKeys(NOW + 60))
    await ledger.commit(new(range(5001, 5001 + MANY)))
    assert indexed(file) == (2 * 128, 2)
    assert await stand(ledger, range(3 * MANY, 3 * MANY + 1))
    await ledger.commit(new(range(6001, 6001 + MANY)))
    await ledger.close()
    again = await SqliteLedger.opened(str(file))
    assert await stand(again, range(3 * MANY, 3 * MANY + 1))
    assert await stand(again, range(5001, 5001 + MANY, 7))
    assert await stand(again, range(6001, 6001 + MANY, 7))
    assert {type(outcome) for outcome in await asked(again, range(1, 3 * MANY, 7))} == {Accepted}
    await again.close()


@pytest.mark.parametrize("seed", range(6))
async def test_anything_in_any_order(ledger, file, seed: int):
    """Batches of new keys and old ones, twice the same, expiries and restarts: a key is free or stands for one task."""
    chance, tasks, now = random.Random(seed), count(1), NOW
    stands = dict[str, tuple[str, float]]()
    for _ in range(120):
        now += 1
        if chance.random() < 0.1:
            await one(ledger, ExpireKeys(now))
            continue
        if chance.random() < 0.05:
            await ledger.close()
            ledger = await SqliteLedger.opened(str(file))
        commands = list[Accept]()
        for _ in range(chance.choice((1, 1, 2, 9, 40))):
            name = f"key-{chance.randrange(1, 900)}"
            commands.append(
                accept(next(tasks), key=a_key(name, "body", expires_at=now + chance.randrange(5, 60)), at=now)
            )
        for command, outcome in zip(commands, await ledger.commit(commands), strict=True):
            assert command.key is not None
            held = stands.get(command.key.key)
            if held is None or held[1] <= now:
                assert isinstance(outcome, Accepted), (seed, held)
                stands[command.key.key] = (command.task.task_id, command.key.expires_at or 0)
            else:
                assert isinstance(outcome, Duplicate), (seed, held)
                assert outcome.record.task.task_id == held[0]
    await ledger.close()
