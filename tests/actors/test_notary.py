"""A checkpoint is written in time, names what there is, and costs nothing while nothing happens."""

from collections.abc import Sequence

import anyio
import msgspec
import pytest

from orchestrator.crypto.signing import Signer, verifies
from orchestrator.domain.audit import Head
from orchestrator.domain.checkpoint import Checkpoint
from orchestrator.embedding import Orchestrator
from orchestrator.settings import SettingsError, load
from orchestrator.storage.commands import Command, Outcome
from orchestrator.storage.memory import MemoryLedger
from orchestrator.storage.ports import NotCommitted
from orchestrator.testing import ScriptedAgents, a_request, embedded, trail

pytestmark = pytest.mark.anyio


KEY = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
"""


def signing(ledger, **environ):
    return embedded(ScriptedAgents(), ledger, ORCHESTRATOR_AUDIT_SIGNING_KEY=KEY, **environ)


async def events(ledger) -> list[str]:
    return [entry.event for entry in await trail(ledger)]


async def signed(ledger) -> list[int]:
    """How far each checkpoint testifies to the chain, in their order."""
    ends: list[int] = []
    for entry in await trail(ledger):
        if entry.event == "checkpoint":
            found = msgspec.json.decode(entry.detail or "", type=Checkpoint)
            assert verifies(found.public_key, found.statement(entry.created_at), found.signature)
            ends.append(found.heads[0].seq)
    return ends


async def test_orderly_end():
    """All that was written is under a signature."""
    ledger = MemoryLedger()
    async with signing(ledger) as system:
        for _ in range(3):
            await system.route(a_request())
        assert await events(ledger) == ["accepted"] * 3
    assert await events(ledger) == ["accepted"] * 3 + ["checkpoint"]
    assert await signed(ledger) == [3]


async def test_many_entries():
    """A checkpoint comes after so many entries, whatever the time, and none of them is left out."""
    ledger = MemoryLedger()
    async with signing(ledger, ORCHESTRATOR_AUDIT_CHECKPOINT_ENTRIES="10") as system:
        for _ in range(95):
            await system.route(a_request())
    ends = await signed(ledger)
    assert 8 <= len(ends) <= 11
    assert max(later - earlier for earlier, later in zip([0, *ends], ends, strict=False)) <= 13
    assert (await events(ledger))[-1] == "checkpoint"


class TestInTime:
    """On a clock that jumps."""

    @pytest.fixture
    def anyio_backend(self, virtual_clock):
        return virtual_clock

    async def test_few_entries(self):
        """They are signed within a minute; afterwards, while nothing happens, there is no other checkpoint."""
        ledger = MemoryLedger()
        async with signing(ledger) as system:
            await anyio.sleep(3600.0)
            assert await events(ledger) == []
            await system.route(a_request())
            await anyio.sleep(59.0)
            assert await signed(ledger) == []
            await anyio.sleep(2.0)
            assert await signed(ledger) == [1]
            await anyio.sleep(7200.0)
            assert await signed(ledger) == [1]

    async def test_ledger_that_cannot_be_written(self):
        """It tries again until it can."""
        ledger = Refusing()
        async with signing(ledger) as system:
            await system.route(a_request())
            ledger.refuses = True
            await anyio.sleep(600.0)
            assert await signed(ledger) == []
            ledger.refuses = False
            await anyio.sleep(5.0)
            assert await signed(ledger) == [1]

    async def test_end_of_a_former_process(self):
        """What it left unsigned when it was killed is signed by the next one, also if nothing more happens."""
        ledger = MemoryLedger()
        async with embedded(ScriptedAgents(), ledger) as system:
            await system.route(a_request())
        async with signing(ledger):
            await anyio.sleep(61.0)
            assert await signed(ledger) == [1]


class Refusing(MemoryLedger):
    """A ledger whose disk is full at times."""

    refuses = False

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        if self.refuses:
            raise NotCommitted("full")
        return await super().commit(commands)


async def test_no_key():
    """Nothing is written that would only look like a signature, and there is no notary."""
    ledger = MemoryLedger()
    async with embedded(ScriptedAgents(), ledger) as system:
        await system.route(a_request())
        assert "notary" not in [child.name for child in system.status()]
    assert await events(ledger) == ["accepted"]


async def test_receipt_of_each_answer():
    """It is the place of the task's acceptance, for a duplicate as well."""
    ledger = MemoryLedger()
    async with signing(ledger) as system:
        first = await system.route(a_request(idempotency_key="key-1"))
        await system.route(a_request())
        again = await system.route(a_request(idempotency_key="key-1"))
    entry = (await trail(ledger))[0]
    assert first.receipt == again.receipt == Head("main", 1, entry.entry_hash)


@pytest.mark.parametrize("key", ["x", "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----"])
def test_bad_key(key):
    """The start is refused by the name of the setting, and nothing of the key is said."""
    with pytest.raises(SettingsError, match=r"audit.signing_key") as error:
        Orchestrator(load(environ={"ORCHESTRATOR_AUDIT_SIGNING_KEY": key, "DATABASE_URL": "memory://"}))
    assert "secret" not in str(error.value)


def test_key_is_not_shown():
    """Neither by the settings nor by what is printed of them."""
    settings = load(environ={"ORCHESTRATOR_AUDIT_SIGNING_KEY": KEY})
    assert "MC4C" not in repr(settings)
    assert "MC4C" not in repr(Signer(KEY))
