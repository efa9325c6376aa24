"""An agent is itself, stays what it was, and gets nothing when it does not."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from orchestrator.domain.identity import Scope
from orchestrator.testing import ScriptedAgent, Service, a_task

pytestmark = pytest.mark.anyio

AGENT = frozenset({Scope.AGENTS_REGISTER})
CARD: dict[str, Any] = {
    "agent_id": "agent-1", "endpoint": "http://127.0.0.1:9000/", "capabilities": ["embed"], "model_version": "1",
}  # fmt: skip


async def test_an_agent_registers_as_itself_only(service: Service, caller) -> None:
    """403 for another name, and the trail tells who tried; nobody is registered."""
    impostor, operator = await caller("agent-2", AGENT), await caller("operator")
    reply = await impostor.ask("POST", "/register_agent", json=CARD)
    assert (reply.status, reply.json["code"]) == (403, "E_FORBIDDEN")
    assert (await operator.ask("GET", "/agents")).json == {"agents": []}
    entries = (await operator.ask("GET", "/audit")).json["entries"]
    tried = [(entry["agent_id"], entry["principal"]) for entry in entries if entry["event"] == "agent_refused"]
    assert tried == [("agent-1", "agent-2")]
    assert (await (await caller("agent-1", AGENT)).ask("POST", "/register_agent", json=CARD)).status == 200


async def test_an_agent_speaks_for_itself_only(service: Service, caller) -> None:
    """Beats, drains, leases and results for another are refused, and change nothing."""
    own, impostor = await caller("agent-1", AGENT), await caller("agent-2", AGENT)
    pull = {name: value for name, value in CARD.items() if name != "endpoint"}
    assert (await own.ask("POST", "/register_agent", json=pull)).status == 200
    word = {"agent_id": "agent-1", "attempt": 1, "lease": "0" * 32}
    for method, path, body in (
        ("POST", "/agents/agent-1/heartbeat", {}),
        ("POST", "/agents/agent-1/drain", {}),
        ("DELETE", "/agents/agent-1", None),
        ("POST", "/agents/agent-1/lease", {}),
        ("POST", "/task/task-1/result", {**word, "success": True, "output": 1}),
        ("POST", "/task/task-1/extend", word),
    ):
        reply = await impostor.ask(method, path, json=body)
        assert (reply.status, reply.json["code"]) == (403, "E_FORBIDDEN"), path
    assert (await own.ask("POST", "/agents/agent-1/heartbeat", json={})).json["state"] == "quarantined"


async def test_a_changed_agent_waits_for_an_operator(tmp_path: Path, service: Service, caller, environ) -> None:
    """It gets no work, over a restart too and whatever it does, until it is allowed; explained and audited."""
    client, operator = await caller("clinic-a", [Scope.TASKS_SUBMIT, Scope.TASKS_READ]), await caller("operator")
    own = await caller("agent-1", AGENT)
    async with ScriptedAgent("agent-1") as before, ScriptedAgent("agent-1") as after:
        assert (await own.ask("POST", "/register_agent", json=before.registration)).json["state"] == "quarantined"
        assert (await operator.ask("POST", "/agents/agent-1/allow")).json["state"] == "ready"
        assert (await own.ask("POST", "/register_agent", json=before.registration)).json["state"] == "ready"
        changed = await own.ask("POST", "/register_agent", json=after.registration)
        assert (changed.status, changed.json["state"]) == (200, "quarantined")
        # It cannot be forgotten by itself, to come back as somebody new.
        assert (await own.ask("DELETE", "/agents/agent-1")).status == 200
        assert (await own.ask("POST", "/register_agent", json=after.registration)).json["state"] == "quarantined"
        task_id = (await client.ask("POST", "/route_task", json=a_task())).json["task_id"]
        dry = await client.ask("POST", "/route_task?dry_run=true", json=a_task())
        assert dry.json["candidates"] == [{"agent_id": "agent-1", "excluded": "quarantined"}]
        assert (await client.ask("GET", f"/task/{task_id}?wait=0.3")).json["status"] == "queued"
        assert (await own.ask("POST", "/agents/agent-1/allow")).status == 403
        allowed = await operator.ask("POST", "/agents/agent-1/allow")
        assert (allowed.status, allowed.json["state"]) == (200, "ready")
        assert (await client.ask("GET", f"/task/{task_id}?wait=20")).json["status"] == "succeeded"
        assert not before.calls
        assert (await own.ask("POST", "/register_agent", json=before.registration)).json["state"] == "quarantined"
        entries = (await operator.ask("GET", "/audit?limit=1000")).json["entries"]
        told = [(e["event"], e["principal"]) for e in entries if e["event"].startswith("agent_")]
        assert told == [
            ("agent_quarantined", "agent-1"),
            ("agent_allowed", "operator"),
            ("agent_quarantined", "agent-1"),
            ("agent_allowed", "operator"),
            ("agent_quarantined", "agent-1"),
        ]
        await service.stop()
        async with Service(tmp_path / "ledger.db", environ) as again:
            headers = {"Authorization": f"Bearer {operator.token}"}
            (agent,) = (await again.ask("GET", "/agents", headers=headers)).json["agents"]
            assert agent["state"] == "quarantined"


@pytest.mark.parametrize(("word", "right"), [({}, False), ({"raw_media": True}, True)])
async def test_a_new_agent_waits_for_an_operator(service: Service, caller, word, right) -> None:
    """Its first claim counts for nothing until it is allowed; raw media only by a word of its own."""
    client, operator = await caller("clinic-a", [Scope.TASKS_SUBMIT, Scope.TASKS_READ]), await caller("operator")
    own = await caller("agent-1", AGENT)
    async with ScriptedAgent("agent-1", capabilities=["embed", "raw_image"]) as agent:
        assert (await own.ask("POST", "/register_agent", json=agent.registration)).json["state"] == "quarantined"
        task = a_task(payload={"image": "x", "n": 1}, consent={"consent_given": True, "consent_id": "c"})
        task_id = (await client.ask("POST", "/route_task", json=task)).json["task_id"]
        assert (await client.ask("GET", f"/task/{task_id}?wait=0.3")).json["status"] == "queued"
        allowed = (await operator.ask("POST", "/agents/agent-1/allow", json=word)).json
        assert (allowed["state"], allowed["raw_media"]) == ("ready", right)
        assert ("raw_image" in allowed["capabilities"]) is right
        # It starts again, and says what it said before.
        assert (await own.ask("POST", "/register_agent", json=agent.registration)).json["state"] == "ready"
        if right:
            assert (await client.ask("GET", f"/task/{task_id}?wait=20")).json["status"] == "succeeded"
        else:
            dry = await client.ask("POST", "/route_task?dry_run=true", json=task)
            assert dry.json["candidates"] == [{"agent_id": "agent-1", "excluded": "raw_media"}]
            other = (await client.ask("POST", "/route_task", json=a_task())).json["task_id"]
            assert (await client.ask("GET", f"/task/{other}?wait=20")).json["status"] == "succeeded"
        assert [call.body["payload"] for call in agent.calls] == [task["payload"] if right else a_task()["payload"]]


async def test_right_to_raw_media_that_is_given_later(service: Service, caller) -> None:
    """Counts at once, and once more when the agent starts again: it never claimed anything else."""
    client, operator = await caller("clinic-a", [Scope.TASKS_SUBMIT, Scope.TASKS_READ]), await caller("operator")
    own = await caller("agent-1", AGENT)
    async with ScriptedAgent("agent-1", capabilities=["embed", "raw_image"]) as agent:
        for word, left in [({}, ["embed"]), ({"raw_media": True}, ["embed", "raw_image"])]:
            await own.ask("POST", "/register_agent", json=agent.registration)
            allowed = (await operator.ask("POST", "/agents/agent-1/allow", json=word)).json
            assert (allowed["state"], allowed["capabilities"]) == ("ready", left)
        again = (await own.ask("POST", "/register_agent", json=agent.registration)).json
        assert (again["state"], again["raw_media"], again["capabilities"]) == ("ready", True, ["embed", "raw_image"])
        task = a_task(payload={"image": "x"}, consent={"consent_given": True, "consent_id": "c"})
        task_id = (await client.ask("POST", "/route_task", json=task)).json["task_id"]
        assert (await client.ask("GET", f"/task/{task_id}?wait=20")).json["status"] == "succeeded"
        assert [call.body["payload"] for call in agent.calls] == [{"image": "x"}]


class TestListed:
    """An agent of which the operator's list says what it may be."""

    LISTED: ClassVar = {
        "ORCHESTRATOR_AUTH_API_KEYS": "true", "ORCHESTRATOR_AGENTS_ALLOWED": "agent-1 embed model=1"
    }  # fmt: skip

    @pytest.fixture
    def environ(self) -> dict[str, str]:
        return self.LISTED

    async def test_within_the_list(self, service: Service, caller) -> None:
        """It works at once, without an operator's word, and is no more than the list says."""
        card = {**CARD, "capabilities": ["embed", "indexing", "raw_image"]}
        reply = await (await caller("agent-1", AGENT)).ask("POST", "/register_agent", json=card)
        assert (reply.json["state"], reply.json["capabilities"], reply.json["raw_media"]) == ("ready", ["embed"], False)

    @pytest.mark.parametrize("card", [{"model_version": "2"}, {"capabilities": ["indexing"]}])
    async def test_beyond_the_list(self, service: Service, caller, card) -> None:
        """It waits, and no word but a change of the list helps it."""
        own, operator = await caller("agent-1", AGENT), await caller("operator")
        assert (await own.ask("POST", "/register_agent", json=CARD | card)).json["state"] == "quarantined"
        reply = await operator.ask("POST", "/agents/agent-1/allow", json={"raw_media": True})
        assert (reply.status, reply.json["code"]) == (403, "E_FORBIDDEN")

    async def test_list_that_changed(self, service: Service, caller, tmp_path: Path) -> None:
        """Binds agents that are known from before, whether they register anew or not."""
        own = await caller("agent-1", AGENT)
        assert (await own.ask("POST", "/register_agent", json=CARD)).json["state"] == "ready"
        await service.stop()
        other = {**self.LISTED, "ORCHESTRATOR_AGENTS_ALLOWED": "agent-1 indexing"}
        async with Service(tmp_path / "ledger.db", other) as again:
            headers = {"Authorization": f"Bearer {own.token}"}
            beat = await again.ask("POST", "/agents/agent-1/heartbeat", json={}, headers=headers)
            assert beat.json["state"] == "quarantined"


async def test_without_authentication_agents_change_as_they_like(tmp_path: Path) -> None:
    """Unless the setting says otherwise."""
    for setting, state in (("auto", "ready"), ("on", "quarantined"), ("off", "ready")):
        environ = {"ORCHESTRATOR_AGENTS_QUARANTINE_CHANGES": setting}
        async with Service(tmp_path / f"{setting}.db", environ) as service:
            await service.ask("POST", "/register_agent", json=CARD)
            reply = await service.ask("POST", "/register_agent", json={**CARD, "model_version": "2"})
            assert reply.json["state"] == state, setting


async def test_nobody_says_of_himself_that_he_is_well(service: Service, caller) -> None:
    """What is made of an agent is no field of its registration."""
    own = await caller("agent-1", AGENT)
    reply = await own.ask("POST", "/register_agent", json={**CARD, "quarantined": False})
    assert (reply.status, reply.json["code"]) == (422, "E_VALIDATION")
