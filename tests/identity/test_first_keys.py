"""Keys that the settings give: the one with which everything else can begin."""

from hashlib import sha256

import pytest

from orchestrator.domain import api_key
from orchestrator.domain.api_key import FirstKey
from orchestrator.domain.identity import Scope
from orchestrator.testing import Service, a_task

pytestmark = pytest.mark.anyio

ROOT = f"rok_{'0123456789abcdef'}_{'5a' * 32}"
CLIENT = f"rok_{'fedcba9876543210'}_{'a5' * 32}"


def hashed(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@pytest.fixture
def environ() -> dict[str, str]:
    """As a Secret or a file would have it: no key, but what tells it."""
    lines = f"{hashed(ROOT)} root {' '.join(Scope)}\n{hashed(CLIENT)} clinic-a tasks:submit\n"
    return {"ORCHESTRATOR_AUTH_API_KEYS": "true", "ORCHESTRATOR_AUTH_FIRST_KEYS": lines}


def showing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_the_first_key_makes_others(service: Service) -> None:
    """With a ledger that holds no key it opens what its line says, makes a key, and the audit names its holder."""
    made = await service.ask(
        "POST", "/keys", json={"subject": "clinic-b", "scopes": ["agents:read"]}, headers=showing(ROOT)
    )
    assert made.status == 201
    assert (await service.ask("GET", "/agents", headers=showing(made.json["api_key"]))).status == 200
    entries = (await service.ask("GET", "/audit", headers=showing(ROOT))).json["entries"]
    assert [(e["event"], e["principal"]) for e in entries] == [("key_created", "root")]


async def test_it_opens_what_its_line_says(service: Service) -> None:
    """And nothing else."""
    assert (await service.ask("POST", "/route_task", json=a_task(), headers=showing(CLIENT))).status == 202
    for method, path in (("GET", "/agents"), ("GET", "/audit"), ("GET", "/keys")):
        assert (await service.ask(method, path, headers=showing(CLIENT))).status == 403, path


@pytest.mark.parametrize("key", [ROOT[:-1] + "b", ROOT.upper(), hashed(ROOT), f"rok_{hashed(ROOT)}"])
async def test_another_key(service: Service, key: str) -> None:
    """401, for the hash of a right one too: who reads the settings has no key."""
    assert (await service.ask("GET", "/agents", headers=showing(key))).status == 401


@pytest.mark.parametrize("environ", [{"ORCHESTRATOR_AUTH_FIRST_KEYS": f"{hashed(ROOT)} root agents:read"}])
async def test_alone(service: Service) -> None:
    """It is enough to have everybody asked; keys of the ledger are taken only where that is set."""
    assert (await service.ask("GET", "/agents")).status == 401
    assert (await service.ask("GET", "/agents", headers=showing(ROOT))).status == 200
    _, other = await service.orchestrator.gateway.create_key("clinic-b", {Scope.AGENTS_READ})
    assert (await service.ask("GET", "/agents", headers=showing(other))).status == 401


def test_a_line_of_a_key_that_anybody_could_think_of() -> None:
    """It opens nothing: what is no key by its form has not the entropy of one."""
    assert not FirstKey(f"{hashed('rok_secret')} root operate").matches("rok_secret")
    assert FirstKey(f"{hashed(ROOT)} root operate").matches(ROOT)
    assert api_key.parts(ROOT) is not None
