"""A standby takes over while the old primary is still there: nothing may stay with it, and nothing is lost."""

import time

import anyio
import pytest
from ledger_builders import accept, stored, task_id

from orchestrator.storage.ports import NotCommitted
from orchestrator.storage.postgres.ledger import PostgresLedger
from orchestrator.testing import Service

pytestmark = pytest.mark.anyio

READY_WITHIN_S = 10.0
CAUGHT_UP = "SELECT coalesce(bool_and(replay_lsn = pg_current_wal_lsn()), false) FROM pg_stat_replication"
SERVERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'orchestrator'"


async def test_whole_orchestrator_on_several_hosts(postgres):
    """It starts and works: each of their ports is closed to agents."""
    hosts = f"127.0.0.1:{postgres.port},localhost:{postgres.port}"
    store = {"DATABASE_URL": f"postgresql://tests@{hosts}/{await postgres.new_database()}"}
    async with Service(store) as service:
        assert (await service.route({})).status == 202
        card = {"agent_id": "a", "endpoint": f"http://127.0.0.1:{postgres.port}", "capabilities": ["embed"]}
        assert (await service.ask("POST", "/register_agent", json=card)).status == 422


async def test_writer_and_readers_leave_the_old_primary(postgres):
    """Where it is alive, readable, and refuses writes, a pool would stay with it for ever, and read what is old."""
    database = await postgres.new_database()
    with postgres.standby() as standby:
        hosts = f"127.0.0.1:{postgres.port},127.0.0.1:{standby.port}"
        ledger = await PostgresLedger.opened(f"postgresql://tests@{hosts}/{database}", "clinic", time.time)
        try:
            await stored(ledger, accept(1))
            async with anyio.create_task_group() as readers:
                for _ in range(8):
                    readers.start_soon(ledger.task, task_id(1))
            with anyio.fail_after(READY_WITHIN_S):
                while not (await postgres.execute(CAUGHT_UP))[0][0]:  # noqa: ASYNC110 - it happens in the servers
                    await anyio.sleep(0.02)
            await anyio.to_thread.run_sync(standby.promote)
            await postgres.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            await postgres.execute("SELECT pg_reload_conf()")
            with anyio.fail_after(READY_WITHIN_S):
                while (await postgres.execute("SHOW default_transaction_read_only"))[0][0] != "on":  # noqa: ASYNC110 - it is told by a signal
                    await anyio.sleep(0.02)
            await _until_stored(ledger, 2)
            assert (await ledger.task(task_id(1)), await ledger.task(task_id(2))) != (None, None)
            assert (await standby.execute("SELECT count(*) FROM tasks", database))[0][0] == 2
            assert (await postgres.execute("SELECT count(*) FROM tasks", database))[0][0] == 1
            with anyio.fail_after(READY_WITHIN_S):
                while (await postgres.execute(SERVERS.format(database)))[0][0]:  # noqa: ASYNC110 - as above
                    await anyio.sleep(0.02)
            assert (ledger.writer, [head.seq for head in await ledger.audit_heads()]) == ("clinic", [2])
        finally:
            await ledger.close()
            await postgres.execute("ALTER SYSTEM RESET default_transaction_read_only")
            await postgres.execute("SELECT pg_reload_conf()")


async def _until_stored(ledger: PostgresLedger, number: int) -> None:
    with anyio.fail_after(READY_WITHIN_S):
        while True:
            try:
                await stored(ledger, accept(number))
            except NotCommitted:
                await anyio.sleep(0.05)
            else:
                return
