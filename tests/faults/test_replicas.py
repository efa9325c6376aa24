"""What several replicas promise over HTTP while they share a database, and while it is taken away from them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.testing import Reply, Service, a_task

pytestmark = pytest.mark.anyio

READY_WITHIN_S = 10.0
AT_ONCE_S = 2.5
SCRIPT = Path(__file__).parents[2] / "scripts" / "create_tables.py"
BACKENDS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"


@pytest.fixture
async def database(anyio_backend, postgres):
    return await postgres.new_database()


@asynccontextmanager
async def replicas(number: int, **stores: str) -> AsyncIterator[list[Service]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Service({**stores, "ORCHESTRATOR_STORAGE_WRITER": f"replica-{i}"}))
            for i in range(number)
        ]


async def until_accepted(service: Service) -> None:
    """Ready, and takes work, within ten seconds."""
    with anyio.fail_after(READY_WITHIN_S):
        while True:
            if (await service.ask("GET", "/ready")).status == 200 and (await service.route({})).status == 202:
                return
            await anyio.sleep(0.05)


async def routed(service: Service, task: dict[str, Any]) -> Reply:
    """The answer; as long as the ledger did not confirm in time, that to the same request sent again."""
    while (reply := await service.ask("POST", "/route_task", json=task)).status == 503:
        pass
    return reply


@pytest.mark.parametrize("streams", [False, True], ids=["postgresql", "postgresql+redis"])
async def test_one_key_sixty_four_times_at_three_replicas(postgres, database, redis_url, streams):
    """Whoever is asked first: one task, accepted once; all others hear of that one, or that it is on its way."""
    stores = {"DATABASE_URL": postgres.url(database)} | ({"REDIS_URL": redis_url} if streams else {})
    async with replicas(3, **stores) as services:
        for turn in range(4):
            task = a_task(idempotency_key=f"k-{turn}")
            replies = await asyncio.gather(*(routed(services[number % 3], task) for number in range(64)))
            told = Counter(reply.json.get("code") or reply.json["status"] for reply in replies)
            # None where the first was not confirmed in time: then all hear that it was there.
            assert told.pop("queued", 0) <= 1
            assert set(told) <= {"duplicate", "E_IN_PROGRESS"}, told
            assert len({reply.json["task_id"] for reply in replies if "task_id" in reply.json}) == 1
        assert (await postgres.execute("SELECT count(*) FROM tasks", database))[0][0] == 4
        accepted = "SELECT count(*) FROM audit_entries WHERE event = 'accepted'"
        assert (await postgres.execute(accepted, database))[0][0] == 4


async def _stopped(postgres, _database):
    await anyio.to_thread.run_sync(postgres.stop)


async def _started(postgres, _database):
    await anyio.to_thread.run_sync(postgres.start)


async def _read_only(postgres, _database):
    await postgres.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    await postgres.execute("SELECT pg_reload_conf()")


async def _writable(postgres, _database):
    await postgres.execute("ALTER SYSTEM RESET default_transaction_read_only")
    await postgres.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("take", "give_back"), [(_stopped, _started), (_read_only, _writable)], ids=["stopped", "read-only"]
)
async def test_the_database_is_away(postgres, database, take, give_back):
    """Each caller is told so at once, none hangs, the process stays; ten seconds after it is back all is well."""
    async with replicas(2, DATABASE_URL=postgres.url(database)) as services:
        for service in services:
            await until_accepted(service)
        await take(postgres, database)
        try:
            with anyio.fail_after(READY_WITHIN_S):
                while (await services[0].route({})).status == 202:
                    pass
            for _ in range(5):
                with anyio.fail_after(AT_ONCE_S):
                    replies = await asyncio.gather(*(service.route({}) for service in services for _ in range(8)))
                assert {(reply.status, reply.json["code"]) for reply in replies} == {(503, "E_AUDIT_UNAVAILABLE")}
                assert all("Retry-After" in reply.headers for reply in replies)
            assert (await services[0].ask("GET", "/ready")).status == 503
        finally:
            await give_back(postgres, database)
        for service in services:
            await until_accepted(service)
            assert [child.name for child in service.orchestrator.status() if child.restarts] == []


async def test_every_connection_is_killed(postgres, database):
    """Again and again, under load: what was acknowledged is there, and each replica is ready again."""
    async with replicas(2, DATABASE_URL=postgres.url(database)) as services:
        acknowledged: list[str] = []

        async def send(service: Service) -> None:
            for _ in range(30):
                reply = await service.route({})
                assert reply.status in (202, 503), reply
                if reply.status == 202:
                    acknowledged.append(reply.json["task_id"])

        async with anyio.create_task_group() as load:
            for service in services * 3:
                load.start_soon(send, service)
            for _ in range(5):
                await postgres.execute(BACKENDS.format(database))
                await anyio.sleep(0.1)
        for service in services:
            await until_accepted(service)
        stored = {task_id for (task_id,) in await postgres.execute("SELECT task_id FROM tasks", database)}
        assert acknowledged
        assert set(acknowledged) <= stored


async def test_tables_are_made_by_many_at_once(served, postgres, database):
    """The command and the script, all at the same moment: each succeeds, and the schema is made once."""
    box = served(DATABASE_URL=postgres.url(database))
    programs = [(("-m", "orchestrator"), ("tables",)), ((str(SCRIPT),), ())] * 3
    running = [await box.spawn(*words, program=program) for program, words in programs]
    said = await asyncio.gather(*(process.communicate() for process in running))
    assert [process.returncode for process in running] == [0] * len(programs), said
    assert len(await postgres.execute("SELECT version FROM schema_version", database)) == 1
