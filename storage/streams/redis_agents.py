"""The agents in Redis, for replicas whose ledgers are their own: a hash of agents, and one of what was heard of them.

One field of the hash is no agent: it is given anew where Redis has lost what it held, so that each replica notices. And
changes are counted, so that each notices where Redis holds an older copy, as after a fail-over or a restart from one.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from orchestrator.domain.agent import Agent, Sighting
from orchestrator.storage.agent_store import AgentsUnavailable
from orchestrator.storage.ports import StreamsUnavailable
from orchestrator.storage.streams.connecting import answer, answers, client, let_go

LIFE = "-"
"""No agent bears that name."""


class RedisAgents:
    """One process's way to the agents. Times travel by the clock of Redis. Runs on asyncio, which its driver needs."""

    def __init__(self, url: str, key: str, now: Callable[[], float]) -> None:
        """Connects at the first call. `key` begins the names of the hashes, `now` is the wall clock.

        Raises InvalidRedisURL.
        """
        self._agents, self._sightings, self._now = f"{key}:agents", f"{key}:sightings", now
        self._changes = f"{key}:changes"
        self._client = client(url)
        self._life: str | None = None
        self._seen = 0
        """So many changes, of that life."""
        self._is_older = False
        """Whether it was an older copy when it was looked at last."""

    async def agents(self) -> list[Agent] | None:
        pipe = self._client.pipeline(transaction=True)
        pipe.hgetall(self._agents)
        pipe.get(self._changes)
        stored, counted = await _reach(answers(pipe))
        changes = int(counted or 0)
        life, self._life = self._life, stored.pop(LIFE, None)
        is_lost = self._life is None or life not in (None, self._life)
        self._is_older = not is_lost and changes < self._seen
        if not self._is_older:
            self._seen = changes
        if is_lost or self._is_older:
            return None
        return [msgspec.json.decode(text, type=Agent) for _, text in sorted(stored.items())]

    async def restore(self, agents: Sequence[Agent]) -> None:
        seconds, micros = await _reach(answer(self._client.time()))
        pipe = self._client.pipeline(transaction=True)
        life = f"{seconds}.{micros}"
        if self._is_older and self._life is not None:
            # What it holds says nothing that is not known better. The others see so many changes, and take it over.
            life = self._life
            pipe.delete(self._agents)
            pipe.set(self._changes, self._seen + 1)
        for agent in agents:
            pipe.hsetnx(self._agents, agent.agent_id, _text(agent))
        pipe.hsetnx(self._agents, LIFE, life)
        await _reach(answers(pipe))

    async def save(self, agent: Agent) -> None:
        pipe = self._client.pipeline(transaction=True)
        pipe.hset(self._agents, agent.agent_id, _text(agent))
        pipe.incr(self._changes)
        self._count((await _reach(answers(pipe)))[-1])

    async def forget(self, agent_id: str) -> None:
        pipe = self._client.pipeline(transaction=True)
        pipe.hdel(self._agents, agent_id)
        pipe.hdel(self._sightings, agent_id)
        pipe.incr(self._changes)
        self._count((await _reach(answers(pipe)))[-1])

    async def sightings(self) -> list[Sighting]:
        pipe = self._client.pipeline(transaction=False)
        pipe.time()
        pipe.hgetall(self._sightings)
        time, stored = await _reach(answers(pipe))
        ahead = _seconds(time) - self._now()
        found = [msgspec.json.decode(text, type=Sighting) for _, text in sorted(stored.items())]
        return [msgspec.structs.replace(sighting, seen_at=sighting.seen_at - ahead) for sighting in found]

    async def tell(self, sightings: Sequence[Sighting]) -> None:
        if not sightings:
            return
        names = [sighting.agent_id for sighting in sightings]
        pipe = self._client.pipeline(transaction=False)
        pipe.time()
        pipe.hmget(self._sightings, names)
        time, earlier = await _reach(answers(pipe))
        ahead = _seconds(time) - self._now()
        # Two replicas that tell of one agent at once: the later word counts, and the next heartbeat mends what it hid.
        told = {
            sighting.agent_id: _text(
                msgspec.structs.replace(sighting, seen_at=sighting.seen_at + ahead).after(
                    msgspec.json.decode(text, type=Sighting) if text else None
                )
            )
            for sighting, text in zip(sightings, earlier, strict=True)
        }
        await _reach(answer(self._client.hset(self._sightings, mapping=told)))

    async def close(self) -> None:
        await let_go(self._client)

    def _count(self, changes: int) -> None:
        """A change of our own. One that comes out behind those before was made to an older copy, which stays that."""
        self._seen = max(changes, self._seen + 1)


async def _reach(reaching: Awaitable[Any]) -> Any:
    try:
        return await reaching
    except StreamsUnavailable as error:
        raise AgentsUnavailable(str(error)) from error


def _text(value: Agent | Sighting) -> str:
    return msgspec.json.encode(value).decode()


def _seconds(time: Sequence[int]) -> float:
    return time[0] + time[1] / 1e6
