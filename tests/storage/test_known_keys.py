"""Keys of the embedded ledger: remembered, on their way into the index, or in it, each stands for its task."""

import random
import shutil
import sqlite3
from contextlib import closing
from itertools import count

import pytest
from ledger_builders import NOW, a_key, accept, kinds, one, task_id
from ledger_faults import database_error, put_before

from orchestrator.storage.commands import Accept, Accepted, Duplicate, ExpireKeys, Outcome
from orchestrator.storage.ports import NotCommitted
from orchestrator.storage.sqlite import keys as known_keys
from orchestrator.storage.sqlite import sql
from orchestrator.storage.sqlite.ledger import SqliteLedger

pytestmark = pytest.mark.anyio

MANY = 150
"""More than are entered with one commit, so that some are on their way for a while."""


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


def indexed(file) -> list[int]:
    """What of the keys is in the index: the seqs of their tasks."""
    with closing(sqlite3.connect(file)) as connection:
        return [seq for (seq,) in connection.execute("SELECT seq FROM idempotency_index ORDER BY seq")]


async def asked(ledger: SqliteLedger, numbers: range) -> list[Outcome]:
    """What comes of accepting other tasks under the keys of these."""
    return [
        await one(ledger, accept(10_000 + number, key=a_key(f"key-{number}", f"body-{number}"))) for number in numbers
    ]


async def stand(ledger: SqliteLedger, numbers: range) -> bool:
    """Whether each key stands for its task."""
    found = [outcome.record.task.task_id for outcome in await asked(ledger, numbers) if isinstance(outcome, Duplicate)]
    return found == [task_id(number) for number in numbers]


async def test_from_memory_into_the_index(ledger, file):
    """Some go with each commit that brings new ones, until all that were gathered are there; none is forgotten."""
    await ledger.commit(new(range(1, MANY + 1)))
    assert indexed(file) == []
    entered = [0]
    for number in range(1001, 1006):
        await ledger.commit(new(range(number, number + 1)))
        entered.append(len(indexed(file)))
        assert await stand(ledger, range(1, MANY + 1, 7))
    assert entered == [0, 64, 128, MANY, MANY, MANY]
    assert await stand(ledger, range(1001, 1006))


@pytest.mark.parametrize("entering", range(4))
async def test_after_a_restart(ledger, file, entering: int):
    """Wherever they were then, the file knows them: here as a process left it that was killed."""
    await ledger.commit(new(range(1, MANY + 1)))
    for number in range(1001, 1001 + entering):
        await ledger.commit(new(range(number, number + 1)))
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
        assert start - len(indexed(file)) < MANY
        await again.commit(new(range(start + 1, start + 61)))
        await again.close()
    again = await SqliteLedger.opened(str(file))
    assert await stand(again, range(1, 1201, 11))
    await again.close()


@pytest.mark.parametrize("statement", [sql.ENTER_KEYS, "COMMIT"])
async def test_a_commit_that_fails(ledger, file, statement: str):
    """Its own keys stand for nothing; those on their way stay where they were, and are entered by the next."""
    await ledger.commit(new(range(1, MANY + 1)))

    def fail(_connection: sqlite3.Connection, about: str) -> None:
        if about == statement:
            raise database_error("SQLITE_FULL")

    real = put_before(ledger, fail)
    with pytest.raises(NotCommitted):
        await ledger.commit(new(range(1001, 1101)))
    ledger._connection = real
    assert indexed(file) == []
    assert kinds(await ledger.commit(new(range(1001, 1101)))) == ["Accepted"] * 100
    assert len(indexed(file)) == MANY
    assert await stand(ledger, range(1, MANY + 1))
    assert await stand(ledger, range(1001, 1101))


@pytest.mark.parametrize("entering", range(4))
async def test_one_that_is_over(ledger, file, entering: int):
    """It is free again, wherever it was, and leaves nothing in the index."""
    short = [accept(n, key=a_key(f"key-{n}", f"body-{n}", expires_at=NOW + 60)) for n in range(1, MANY + 1)]
    await ledger.commit(short)
    for number in range(1001, 1001 + entering):
        await ledger.commit(new(range(number, number + 1)))
    taken = [accept(2000 + n, key=a_key(f"key-{n}", "another"), at=NOW + 60) for n in range(1, 5)]
    assert kinds(await ledger.commit(taken)) == ["Accepted"] * 4
    await one(ledger, ExpireKeys(NOW + 60))
    assert {type(outcome) for outcome in await asked(ledger, range(5, MANY + 1))} == {Accepted}
    assert {type(outcome).__name__ for outcome in await asked(ledger, range(1, 5))} == {"Reused"}
    with closing(sqlite3.connect(file)) as connection:
        stale = "SELECT count(*) FROM idempotency_index WHERE seq NOT IN (SELECT seq FROM idempotency_keys)"
        assert connection.execute(stale).fetchone() == (0,)


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
