"""Three replicas on shared stores under load, while everything that they stand on is taken away in turn."""

from collections import Counter
from contextlib import AsyncExitStack

import anyio
import pytest
from replicas import Agent, Clients, Replica, seconds

from orchestrator.domain.lifecycle import State
from orchestrator.storage.opening import open_reader
from orchestrator.testing import check_history, trail

pytestmark = pytest.mark.anyio

REPLICAS = 3
CLIENTS = 18
TASKS = 10_000
REDIS_AWAY_S = 20.0
TURN = ("kill", "flush", "kill", "postgres", "kill", "redis", "kill", "flush", "postgres", "kill")
OPEN = "SELECT open_urgent + open_high + open_normal + open_low FROM book"
STATES = (
    "SELECT task_id, state, priority, lane, attempt, failures, lost, due_at, lease_until, owner, reason, updated_at,"
    " (SELECT count(*) FROM outbox WHERE outbox.task_id = tasks.task_id) AS in_outbox, extract(epoch FROM now())"
    " FROM tasks WHERE state IN ('queued', 'leased', 'retry_wait') LIMIT 20"
)
STUCK_S = 60.0
SETTINGS = {
    # What a killed replica held is free again soon.
    "ORCHESTRATOR_TASKS_EMBED_TIMEOUT_S": "3",
    "ORCHESTRATOR_TASKS_ANALYZE_MONITOR_TIMEOUT_S": "3",
    "ORCHESTRATOR_RETRY_BASE": "0.05",
    # A machine that is slow for three seconds at a time makes no dead letters.
    "ORCHESTRATOR_TASK_MAX_RETRIES": "30",
    "ORCHESTRATOR_LIMITS_REQUESTS_PER_S": "0",
}


class Faults:
    """What is done to them, and how often it was."""

    def __init__(self, replicas, postgres, redis):
        self._replicas, self._postgres, self._redis = replicas, postgres, redis
        self.counts: Counter[str] = Counter()

    async def bring(self, fault: str) -> None:
        await getattr(self, fault)()
        self.counts[fault] += 1

    async def kill(self) -> None:
        await self._replicas[self.counts["kill"] % REPLICAS].kill()

    async def flush(self) -> None:
        await anyio.to_thread.run_sync(self._redis.flush)

    async def redis(self) -> None:
        await anyio.to_thread.run_sync(self._redis.stop)
        await anyio.sleep(REDIS_AWAY_S)
        await anyio.to_thread.run_sync(self._redis.start)

    async def postgres(self) -> None:
        await anyio.to_thread.run_sync(self._postgres.stop)
        await anyio.to_thread.run_sync(self._postgres.start)


@pytest.mark.timeout(600 + 3 * seconds())
async def test_everything_fails_in_turn(served, postgres, redis, redis_url, record_property):
    """Every acknowledged task is done, each has one result, and all chains verify."""
    database = await postgres.new_database()
    stores = {"DATABASE_URL": postgres.url(database), "REDIS_URL": redis_url}
    replicas = [
        Replica(served(**SETTINGS, **stores, ORCHESTRATOR_STORAGE_WRITER=f"replica-{number + 1}"))
        for number in range(REPLICAS)
    ]
    clients, faults = Clients(replicas), Faults(replicas, postgres, redis)
    agents = [Agent("one", "embed"), Agent("two", "embed", "analyze_light"), Agent("three", "analyze_light")]
    async with AsyncExitStack() as stack, anyio.create_task_group() as keeping:
        for agent in agents:
            await stack.enter_async_context(agent)
        for replica in replicas:
            keeping.start_soon(replica.keep)
        for replica in replicas:
            await replica.until_ready()
        keeping.start_soon(_register_for_ever, agents, replicas)
        async with anyio.create_task_group() as load:
            for number in range(CLIENTS):
                load.start_soon(clients.run, number)
            await _in_turn(clients, faults)
            clients.ending = True
        await _until_done(postgres, database, replicas)
        runs = sum((agent.runs for agent in agents), Counter())
        for replica in replicas:
            replica.stop()
        with anyio.fail_after(60):
            while any(replica.served.process.returncode is None for replica in replicas):  # noqa: ASYNC110 - processes
                await anyio.sleep(0.05)
        keeping.cancel_scope.cancel()
    assert (await replicas[0].served.run("audit", "verify"))[0] == 0
    chains = await _check(postgres.url(database), clients)
    record_property("seen", _report(clients, faults, replicas, runs, chains))


async def _in_turn(clients: Clients, faults: Faults) -> None:
    """The faults, evenly among the tasks; then again until the time is over."""
    end_at = anyio.current_time() + seconds()
    share = TASKS // len(TURN)
    while True:
        for fault in TURN:
            await clients.until(len(clients.acknowledged) + share)
            await faults.bring(fault)
        if anyio.current_time() >= end_at:
            return await clients.until(TASKS)


async def _register_for_ever(agents, replicas) -> None:
    while True:
        for agent in agents:
            for replica in replicas:
                await agent.register(replica)
        await anyio.sleep(5)


async def _until_done(postgres, database: str, replicas) -> None:
    """No task is open any more. Raises AssertionError when for a minute none was finished, with what may explain it."""
    left, changed_at = -1, anyio.current_time()
    while left:
        ((now,),) = await postgres.execute(OPEN, database)
        if now != left:
            left, changed_at = now, anyio.current_time()
        if anyio.current_time() - changed_at > STUCK_S:
            tasks = [tuple(row) for row in await postgres.execute(STATES, database)]
            told = [(await replica.served.ask("GET", "/agents"))[2] for replica in replicas]
            raise AssertionError(f"{left} tasks are stuck:\n{tasks}\n{told}\n{[replica.said for replica in replicas]}")
        await anyio.sleep(0.2)


async def _check(url: str, clients: Clients) -> int:
    """Compares what the ledger and its audit hold with what the clients were told; how many chains there are."""
    reader = await open_reader(url)
    try:
        records = {record.task.task_id: record for record in await check_history(reader)}
        succeeded = Counter(entry.task_id for entry in await trail(reader) if entry.event == "succeeded")
        heads = await reader.audit_heads()
    finally:
        await reader.close()
    lost = {key for key, task_id in clients.acknowledged.items() if task_id not in records}
    wrong = {key for key, task_id in clients.acknowledged.items() if records[task_id].task.case_id != key}
    undone = {str(it.progress) for it in records.values() if it.progress.state is not State.SUCCEEDED}
    twice = {task_id for task_id, times in succeeded.items() if times > 1}
    assert (lost, wrong, undone, twice) == (set(), set(), set(), set())
    results = {record.task.case_id: record.result for record in records.values()}
    assert not [case for case, result in results.items() if result is None or result.output != {"key": case}]
    assert len(clients.acknowledged) >= TASKS
    assert len(heads) >= REPLICAS
    return len(heads)


def _report(clients, faults, replicas, runs, chains) -> str:
    twice = sum(1 for times in runs.values() if times > 1)
    exits = sum((replica.exits for replica in replicas), Counter())
    return (
        f"\n  {len(clients.acknowledged)} tasks acknowledged, 0 lost, 0 with two results; {chains} chains verified"
        f"\n  faults: {dict(faults.counts)}; exits of replicas: {dict(exits)}"
        f"\n  answers: {dict(clients.told)}; asked of agents more than once: {twice}"
    )
