"""How often a batch goes to the database and back: on a network that is what a commit costs."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from ledger_builders import LANE, READY, a_key, a_task, accept, draft, kinds, move, moved, stored, trail
from proxy import Proxy

from orchestrator.domain.agent import Sighting
from orchestrator.domain.lifecycle import Step
from orchestrator.domain.task import Consent
from orchestrator.storage.commands import (
    Accept,
    Command,
    EndWebhook,
    ExpireKeys,
    ForgetAgent,
    Note,
    Relayed,
    SaveAgent,
    TellSightings,
    TryWebhook,
    Webhook,
)
from orchestrator.storage.postgres.ledger import PostgresLedger
from orchestrator.testing import an_agent

pytestmark = pytest.mark.anyio

BEGIN_CALL_COMMIT = 3


@pytest.fixture
async def database(anyio_backend, postgres):
    return await postgres.new_database()


class Counted:
    """A ledger whose round trips are counted on the line."""

    def __init__(self, ledger: PostgresLedger, proxy: Proxy) -> None:
        self.ledger, self._proxy = ledger, proxy

    async def commit(self, commands: Sequence[Command]) -> tuple[int, list[str]]:
        """How many there were, and the kinds of the outcomes."""
        before = self._proxy.turns
        outcomes = await self.ledger.commit(commands)
        return self._proxy.turns - before, kinds(outcomes)


@asynccontextmanager
async def counted(postgres, database, writer: str = "clinic") -> AsyncIterator[Counted]:
    async with Proxy(postgres.port) as proxy:
        url = postgres.url(database, proxy.port)
        ledger = await PostgresLedger.opened(url, writer, time.time, outbox=True)
        try:
            await ledger.commit([Note(draft("warm"))])  # What is prepared once for a connection is not counted.
            yield Counted(ledger, proxy)
        finally:
            await ledger.close()


def called_back(number: int) -> Accept:
    """A task of which every table is told something at its acceptance."""
    task = a_task(number, consent=Consent(consent_given=True, consent_id=f"consent-{number}"))
    audit = draft("accepted", task, READY)
    return Accept(task, READY, LANE, audit, a_key(f"key-{number}"), 10**6, f"https://clinic/{number}")


async def test_however_many_commands(postgres, database):
    """A batch of 256 takes no more round trips than one command: BEGIN, the call, COMMIT."""
    async with counted(postgres, database) as clinic:
        assert await clinic.commit([accept(1)]) == (BEGIN_CALL_COMMIT, ["Accepted"])
        many = [accept(number, key=a_key(f"k-{number}")) for number in range(2, 258)]
        assert await clinic.commit(many) == (BEGIN_CALL_COMMIT, ["Accepted"] * 256)


async def test_however_many_tables(postgres, database):
    """Nor does one that writes to every table there is."""
    async with counted(postgres, database) as clinic:
        first, second = await stored(clinic.ledger, called_back(1), called_back(2))
        first = await moved(clinic.ledger, first, Step.LEASE)
        second = await moved(clinic.ledger, second, Step.LEASE, Step.SUCCEED)
        webhook = Webhook(second.task.task_id, "https://clinic/2", 0)
        batch = [
            ExpireKeys(0.0),
            called_back(3),
            move(first, Step.SUCCEED, output={"a": 1}),
            TryWebhook(webhook, 9.0),
            SaveAgent(an_agent(), draft("registered")),
            TellSightings((Sighting("agent-1", 5.0),)),
            Relayed((1,)),
            Note(draft("note")),
        ]
        turns, outcomes = await clinic.commit(batch)
        assert (turns, outcomes[:3]) == (BEGIN_CALL_COMMIT, ["Noted", "Accepted", "Moved"])
        assert set(outcomes[3:]) == {"Noted"}
        last = [EndWebhook(webhook.task_id, draft("called_back")), ForgetAgent("agent-1", draft("left"))]
        assert await clinic.commit(last) == (BEGIN_CALL_COMMIT, ["Noted", "Noted"])
        events = [entry.event for entry in await trail(clinic.ledger)]
        assert events[-5:] == ["succeeded", "registered", "note", "called_back", "left"]


async def test_after_another_replica_has_written(postgres, database):
    """It is one more, in which the batch hears of that; its numbers go on from there."""
    async with counted(postgres, database, "one") as one, counted(postgres, database, "two") as two:
        for number in range(1, 9, 2):
            turns, _ = await one.commit([accept(number)])
            assert turns in (BEGIN_CALL_COMMIT, BEGIN_CALL_COMMIT + 1)
            assert await two.commit([accept(number + 1)]) == (BEGIN_CALL_COMMIT + 1, ["Accepted"])
        assert await two.commit([accept(9)]) == (BEGIN_CALL_COMMIT, ["Accepted"])
        records = await two.ledger.records([a_task(number).task_id for number in range(1, 10)])
        assert sorted(record.seq for record in records) == list(range(1, 10))
        assert one.ledger.depths() != two.ledger.depths()


@pytest.mark.parametrize("bad", ["key", "value"])
async def test_one_bad_command_among_many(postgres, database, bad):
    """It is found by halves: that costs by the logarithm of how many they are."""
    async with counted(postgres, database) as clinic:
        await stored(clinic.ledger, accept(1000, key=a_key()))
        spoilt = {"key": accept(137, key=a_key()), "value": accept(137, case_id="a\0b")}[bad]
        batch = [spoilt if number == 137 else accept(number) for number in range(1, 257)]
        turns, outcomes = await clinic.commit(batch)
        assert outcomes[136] in ("Reused", "Duplicate", "Failed")
        assert outcomes[:136] + outcomes[137:] == ["Accepted"] * 255
        assert turns <= 64


async def test_no_commands(postgres, database):
    """A probe writes, and that is all that it does."""
    async with counted(postgres, database) as clinic:
        await clinic.commit([])
        assert await clinic.commit([]) == (3, [])
