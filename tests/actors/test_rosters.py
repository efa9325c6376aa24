"""Agents in a store that goes away: what is remembered until it is back has a bound."""

from typing import Any

import pytest

from orchestrator.actors import rosters
from orchestrator.actors.rosters import StoreRoster
from orchestrator.domain.audit import AuditDraft
from orchestrator.storage.commands import Command, Noted
from orchestrator.storage.streams.memory import Board, MemoryAgents
from orchestrator.testing import an_agent

pytestmark = pytest.mark.anyio

AUDIT = AuditDraft(event="left", created_at=0.0)


class Writer:
    """Takes every command."""

    async def commit(self, command: Command) -> Noted:
        assert command
        return Noted()


async def test_more_agents_leave_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ones that left are gone when the store is back; one that came again since is there."""
    monkeypatch.setattr(rosters, "MOST_GONE", 3)
    board, writer = Board(), Writer()
    committer: Any = writer
    roster = StoreRoster(MemoryAgents(board), committer)
    assert list(await roster.agents()) == []
    for name in "abcdef":
        await roster.save(an_agent(name), AUDIT)
    board.up = False
    for name in "abcdef":
        await roster.forget(name, AUDIT)
    await roster.save(an_agent("f"), AUDIT)
    board.up = True
    assert [agent.agent_id for agent in await roster.agents()] == ["a", "b", "c", "f"]
    await roster.forget("a", AUDIT)
    assert [agent.agent_id for agent in await roster.agents()] == ["b", "c", "f"]
