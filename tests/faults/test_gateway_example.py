"""The example of a program that embeds the orchestrator, run as its reader would."""

from pathlib import Path

import pytest
from aiohttp import web

from orchestrator.testing import ScriptedAgent

pytestmark = pytest.mark.anyio

PROGRAM = Path(__file__).resolve().parents[2] / "examples/gateway.py"
SCREENING = {"child": "case-1", "visit": "visit-7", "consent": True, "growth": {"height": 87.1}}


@pytest.fixture
async def gateway(served):
    server = served()
    server.process = await server.spawn(str(server.port), program=(str(PROGRAM),))
    while await server.status("GET", "/orchestrator/ready") != 200:
        assert server.process.returncode is None, await server.end()
    return server


async def finding(_request: web.Request) -> web.Response:
    return web.json_response({"success": True, "output": {"centile": 50}})


async def test_a_gateway_with_the_orchestrator_inside(gateway):
    """Its page gives the finding, once for a visit; the API is beside it; SIGTERM ends both in good order."""
    async with ScriptedAgent("agent-1", finding, capabilities=["analyze_monitor"]) as agent:
        status, _, _ = await gateway.ask("POST", "/orchestrator/register_agent", json=agent.registration)
        assert status == 200
        first = await gateway.ask("POST", "/screenings", json=SCREENING)
        again = await gateway.ask("POST", "/screenings", json=SCREENING)
        assert (first[0], first[2]["finding"]) == (200, {"centile": 50})
        assert again[2] == first[2]
        assert len(agent.calls) == 1
        task = (await gateway.ask("GET", f"/orchestrator/task/{first[2]['task']}"))[2]
        assert task["status"] == "succeeded"
    assert (await gateway.ask("POST", "/screenings", json={"child": 1}))[0] == 400
    assert (await gateway.ask("GET", "/nothing"))[0] == 404
    code, said = await gateway.stop()
    assert (code, "Traceback" in said) == (0, False), said
    code, said = await gateway.run("audit", "verify")
    assert code == 0, said
