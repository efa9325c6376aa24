"""The registry over HTTP: register, beat, drain, leave, list."""

from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from orchestrator.testing import ScriptedAgent, Service

pytestmark = pytest.mark.anyio

REGISTRATION = {"agent_id": "agent-1", "endpoint": "http://127.0.0.1:9009/base/", "capabilities": ["embed", "indexing"]}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def register(service: Service, **fields: Any) -> Any:
    reply = await service.ask("POST", "/register_agent", json={**REGISTRATION, **fields})
    assert reply.status == 200, reply
    return reply.json


async def test_registration(service: Service) -> None:
    """Is answered with the agent as it is known from now on."""
    known = await register(service, location="edge-a", site="a", model_version="m1", max_concurrency=3, cost=0.5)
    assert known.pop("seen_ago_s") < 5
    assert known == {
        "status": "ok",
        "agent_id": "agent-1",
        "endpoint": "http://127.0.0.1:9009/base",
        "raw_media": True,
        "mode": "push",
        "capabilities": ["embed", "indexing"],
        "location": "edge-a",
        "site": "a",
        "model_version": "m1",
        "max_concurrency": 3,
        "cost": 0.5,
        "state": "ready",
        "back_in_s": None,
        "in_flight": 0,
        "failures": 0,
        "latency_s": None,
    }
    listed = (await service.ask("GET", "/agents")).json
    assert [agent["agent_id"] for agent in listed["agents"]] == ["agent-1"]
    assert {"status": "ok", **listed["agents"][0]}.keys() == {*known, "seen_ago_s"}


async def test_where_we_and_our_servers_listen(service: Service) -> None:
    """No agent is there, at whatever address of this machine: not the orchestrator, not its database, not its Redis."""
    storage = service.settings.storage
    urls = [url for url in (storage.database_url, storage.redis_url) if "@" in url or url.startswith("redis")]
    ports = {service.port, *(urlsplit(url).port for url in urls)}
    for port in ports:
        for host in ("127.0.0.1", "localhost", "[::1]", "127.1", "[::ffff:127.0.0.1]"):
            endpoint = f"http://{host}:{port}"
            reply = await service.ask("POST", "/register_agent", json={**REGISTRATION, "endpoint": endpoint})
            assert (reply.status, reply.json["code"]) == (422, "E_VALIDATION"), (endpoint, reply)
    assert len(ports) == 1 + len(urls)
    assert (await service.ask("GET", "/agents")).json["agents"] == []


@pytest.mark.parametrize("capabilities", ["embed,indexing", " embed , indexing, ", ["embed", "indexing"]])
async def test_every_way_to_register(service: Service, capabilities: Any) -> None:
    """JSON, a form and the query say the same."""
    text = capabilities if isinstance(capabilities, str) else ",".join(capabilities)
    fields = {**REGISTRATION, "capabilities": text, "max_concurrency": "4", "cost": "1.5"}
    bodies = [
        {"json": {**REGISTRATION, "capabilities": capabilities, "max_concurrency": 4, "cost": 1.5}},
        {"data": urlencode(fields), "headers": FORM},
        {"params": fields},
        {"params": fields, "headers": {"Content-Type": "application/json"}},
        {"params": fields, "headers": FORM},
    ]
    seen = []
    for options in bodies:
        reply = await service.ask("POST", "/register_agent", **options)
        assert reply.status == 200, (options, reply)
        seen.append({name: reply.json[name] for name in (*REGISTRATION, "max_concurrency", "cost")})
    expected = {**REGISTRATION, "endpoint": "http://127.0.0.1:9009/base", "max_concurrency": 4, "cost": 1.5}
    assert seen == [expected] * len(bodies)


@pytest.mark.parametrize(
    "fields",
    [
        {"agent_id": ""}, {"agent_id": "x" * 5000}, {"agent_id": "a/b"}, {"agent_id": 1}, {"capabilities": []},
        {"capabilities": ""}, {"capabilities": " , "}, {"capabilities": None}, {"capabilities": "a b"},
        {"capabilities": {"embed": 1}}, {"max_concurrency": 0}, {"max_concurrency": "4"}, {"max_concurrency": 1.5},
        {"cost": -1}, {"cost": "free"}, {"unknown": 1}, {"endpoint": ""}, {"endpoint": 7}, {"site": ""},
        {"location": "x" * 201}, {"in_flight": 3}, {"status": "ok"},
    ],
)  # fmt: skip
async def test_a_registration_that_does_not_fit(service: Service, fields: dict[str, Any], rows) -> None:
    """422, and nobody is registered."""
    reply = await service.ask("POST", "/register_agent", json={**REGISTRATION, **fields})
    assert (reply.status, reply.json["code"]) == (422, "E_VALIDATION"), reply
    assert (await service.ask("GET", "/agents")).json == {"agents": []}
    assert (rows("agents"), rows("audit_entries")) == (0, 0)


@pytest.mark.parametrize(
    "endpoint",
    [
        "ftp://box/", "file:///etc/passwd", "javascript:alert(1)", "", " ", "box:80", "//box", "http://", "http:///x",
        "http://169.254.169.254/latest", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]/", "http://2852039166/",
        "http://0xa9fea9fe/", "http://0251.0376.0251.0376/", "http://169.254.43518/", "http://0.0.0.0/", "http://[::]/",
        "http://metadata.google.internal/", "http://224.0.0.1/", "http://user:pw@box/", "http://box/?q", "http://box/#f",
        "http://box:0/", "http://box:99999/", "http://box:x/", "http://bo x/", "http://box\\@evil/", "http://box/\n",
        "HTTP//box", "unix:///run/x.sock", "data:text/html,x", "http://[::1", "http://box:/",
        # Beyond the packaged allow-list, which is this machine; and ports of it that agents may not have.
        "https://10.0.0.1", "http://192.168.1.1:8080", "https://[fd12::1]", "http://127.0.0.1:22",
        "http://localhost:22", "http://127.1:1023", "https://[2002:7f00:1::]",
    ],
)  # fmt: skip
async def test_an_endpoint_where_no_agent_may_live(service: Service, endpoint: str, rows) -> None:
    """422 by every way to register, and nothing is stored."""
    fields = {**REGISTRATION, "endpoint": endpoint, "capabilities": "embed"}
    for options in ({"json": fields}, {"data": urlencode(fields), "headers": FORM}, {"data": b"", "params": fields}):
        reply = await service.ask("POST", "/register_agent", **options)
        assert (reply.status, reply.json["code"]) == (422, "E_VALIDATION"), (options, reply)
    assert (rows("agents"), rows("audit_entries")) == (0, 0)


async def test_an_agent_that_is_the_orchestrator_itself(service: Service, rows) -> None:
    """422: it would be asked to ask itself; by whichever of its addresses."""
    for host in ("127.0.0.1", "localhost", "[::1]", "127.1", "[::ffff:127.0.0.1]"):
        fields = {**REGISTRATION, "endpoint": f"http://{host}:{service.port}"}
        reply = await service.ask("POST", "/register_agent", json=fields)
        assert (reply.status, reply.json["code"]) == (422, "E_VALIDATION"), (host, reply)
        assert "itself" in reply.json["detail"]
    assert (rows("agents"), rows("audit_entries")) == (0, 0)


async def test_a_form_that_is_ambiguous(service: Service) -> None:
    """Is refused: a field twice, bad encoding, NUL, too many fields, and bodies of other types."""
    good = urlencode({**REGISTRATION, "capabilities": "embed"})
    for data in (
        good + "&agent_id=other",
        "agent_id=%ff",
        good + "&location=%00",
        "&".join(f"f{n}=1" for n in range(65)),
    ):
        reply = await service.ask("POST", "/register_agent", data=data, headers=FORM)
        assert (reply.status, reply.json["code"]) == (422, "E_VALIDATION"), data
    for kind in ("multipart/form-data; boundary=x", "text/plain", "application/xml"):
        reply = await service.ask("POST", "/register_agent", data=good, headers={"Content-Type": kind})
        assert (reply.status, reply.json["code"]) == (415, "E_UNSUPPORTED_MEDIA_TYPE")


async def test_a_heartbeat(service: Service) -> None:
    """With a load, or with nothing at all, whatever type the nothing is said to be."""
    await register(service)
    for options in (
        {"json": {"load": 0.5}},
        {"json": {}},
        {"data": b""},
        {"headers": {"Content-Type": "application/json"}},
    ):
        reply = await service.ask("POST", "/agents/agent-1/heartbeat", **options)
        assert (reply.status, reply.json["status"], reply.json["state"]) == (200, "ok", "ready"), options
    for load in (2, -1, "0.5", True):
        reply = await service.ask("POST", "/agents/agent-1/heartbeat", json={"load": load})
        assert (reply.status, reply.json["code"]) == (422, "E_VALIDATION"), load
    reply = await service.ask("POST", "/agents/agent-1/heartbeat", data="load=1", headers=FORM)
    assert (reply.status, reply.json["code"]) == (415, "E_UNSUPPORTED_MEDIA_TYPE")


async def test_an_agent_that_drains(service: Service) -> None:
    """Gets no more work, not after a heartbeat either; a registration brings it back."""
    async with ScriptedAgent("agent-1") as agent:
        await agent.register(service)
        assert (await service.ask("POST", "/agents/agent-1/drain")).json["state"] == "draining"
        assert (await service.ask("POST", "/agents/agent-1/heartbeat")).json["state"] == "draining"
        task_id = (await service.route({})).json["task_id"]
        dry = await service.ask(
            "POST", "/route_task?dry_run=1", json={"case_id": "c", "task_type": "embed", "payload": {}}
        )
        assert dry.json["candidates"] == [{"agent_id": "agent-1", "excluded": "draining"}]
        assert not agent.calls
        await agent.register(service)
        assert (await service.ended(task_id))["status"] == "succeeded"


async def test_an_agent_that_leaves(service: Service) -> None:
    """Is gone from the list, and can come back."""
    await register(service)
    reply = await service.ask("DELETE", "/agents/agent-1")
    assert (reply.status, reply.json) == (200, {"status": "ok", "agent_id": "agent-1"})
    assert (await service.ask("GET", "/agents")).json == {"agents": []}
    assert [e["event"] for e in await service.audit()] == ["agent_registered", "agent_removed"]
    await register(service)


async def test_an_unknown_agent(service: Service) -> None:
    """404 for every call."""
    for method, path in [("POST", "/agents/x/heartbeat"), ("POST", "/agents/x/drain"), ("DELETE", "/agents/x")]:
        reply = await service.ask(method, path)
        assert (reply.status, reply.json["code"]) == (404, "E_NOT_FOUND")


async def test_too_many_agents(ledger, environ: dict[str, str]) -> None:
    """503 for one more; those that are known go on."""
    async with Service(ledger, {**environ, "ORCHESTRATOR_AGENTS_MAX_AGENTS": "1"}) as service:
        await register(service)
        reply = await service.ask("POST", "/register_agent", json={**REGISTRATION, "agent_id": "agent-2"})
        assert (reply.status, reply.json["code"]) == (503, "E_OVERLOADED")
        await register(service, cost=2)


async def test_agents_survive_a_restart(ledger, environ: dict[str, str]) -> None:
    """As unknown until they are heard of."""
    async with Service(ledger, environ) as service:
        await register(service)
    async with Service(ledger, environ) as service:
        (agent,) = (await service.ask("GET", "/agents")).json["agents"]
        assert (agent["agent_id"], agent["state"], agent["seen_ago_s"]) == ("agent-1", "unknown", None)
