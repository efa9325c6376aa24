"""Pages of other sites, which can have a browser send forms to a machine that only the browser's own user reaches."""

from typing import Any
from urllib.parse import urlencode

import pytest

from orchestrator.testing import Service

pytestmark = pytest.mark.anyio

AGENT = {"agent_id": "agent-1", "endpoint": "http://127.0.0.1:9009", "capabilities": "embed"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
TEXT = {"Content-Type": "text/plain"}
ELSEWHERE = [
    {"Origin": "https://elsewhere.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"},
    {"Origin": "http://[", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://["},
]


@pytest.fixture
def environ() -> dict[str, str]:
    """Nobody need say who he is."""
    return {}


async def register(service: Service, headers: dict[str, str]) -> Any:
    return await service.ask("POST", "/register_agent", data=urlencode(AGENT), headers={**FORM, **headers})


@pytest.mark.parametrize("origin", ELSEWHERE)
async def test_a_form_of_another_site(service: Service, origin: dict[str, str]) -> None:
    """Registers no agent."""
    reply = await register(service, origin)
    assert (reply.status, reply.json["code"]) == (403, "E_FORBIDDEN")
    assert (await service.ask("GET", "/agents", headers=origin)).json == {"agents": []}


@pytest.mark.parametrize("path", ["/route_task", "/route_task/", "/route_tasks", "/agents/agent-1/drain", "/keys"])
async def test_every_call(service: Service, path: str) -> None:
    """That changes something is refused, whatever its content calls itself."""
    reply = await service.ask("POST", path, data="{}", headers={**TEXT, **ELSEWHERE[0]})
    assert (reply.status, reply.json["code"]) == (403, "E_FORBIDDEN")


@pytest.mark.parametrize("behind_a_proxy", [False, True])
async def test_a_page_of_our_own(service: Service, behind_a_proxy: bool) -> None:
    """Registers one, even where a proxy has changed the host; so does a program, which names no origin."""
    origin = "https://public.example" if behind_a_proxy else f"http://127.0.0.1:{service.port}"
    site = {"Sec-Fetch-Site": "same-origin"} if behind_a_proxy else {}
    assert (await register(service, {"Origin": origin, **site})).status == 200
    assert (await register(service, {})).status == 200
