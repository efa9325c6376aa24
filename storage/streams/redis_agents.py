"""The agents in Redis, for replicas whose ledgers are their own: a hash of agents, and one of what was heard of them.

One field of the hash is no agent: it is given anew where Redis has lost what it held, so that each replica notices.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from orchestrator.domain.agent import Agent, Sighting
from orchestrator.storage.ports import AgentsUnavailable, StreamsUnavailable
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
        self._client = client(url)
        self._life: str | None = None

    async def agents(self) -> list[Agent] | None:
        stored = await _reach(answer(self._client.hgetall(self._agents)))
        life, self._life = self._life, stored.pop(LIFE, None)
        if self._life is None or life not in (None, self._life):
            return None
        return [msgspec.json.decode(text, type=Agent) for _, text in sorted(stored.items())]

    async def restore(self, agents: Sequence[Agent]) -> None:
        seconds, micros = await _reach(answer(self._client.time()))
        pipe = self._client.pipeline(transaction=True)
        for agent in agents:
            pipe.hsetnx(self._agents, agent.agent_id, _text(agent))
        pipe.hsetnx(self._agents, LIFE, f"{seconds}.{micros}")
        await _reach(answers(pipe))

    async def save(self, agent: Agent) -> None:
        await _reach(answer(self._client.hset(self._agents, agent.agent_id, _text(agent))))

    async def forget(self, agent_id: str) -> None:
        pipe = self._client.pipeline(transaction=True)
        pipe.hdel(self._agents, agent_id)
        pipe.hdel(self._sightings, agent_id)
        await _reach(answers(pipe))

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


async def _reach(reaching: Awaitable[Any]) -> Any:
    try:
        return await reaching
    except StreamsUnavailable as error:
        raise AgentsUnavailable(str(error)) from error


def _text(value: Agent | Sighting) -> str:
    return msgspec.json.encode(value).decode()


def _seconds(time: Sequence[int]) -> float:
    return time[0] + time[1] / 1e6
