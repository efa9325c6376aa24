"""Whose share of the requests it is, where callers say who they are."""

import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
def environ() -> dict[str, str]:
    return {
        "ORCHESTRATOR_AUTH_API_KEYS": "true",
        "ORCHESTRATOR_LIMITS_REQUESTS_PER_S": "0.01",
        "ORCHESTRATOR_LIMITS_REQUESTS_BURST": "3",
    }


async def test_callers_of_one_machine(caller) -> None:
    """Have a share each; two keys of one caller have one between them."""
    ada, again, bob = await caller("ada"), await caller("ada"), await caller("bob")
    assert [(await who.ask("GET", "/agents")).status for who in (ada, again, ada, again)] == [200, 200, 200, 429]
    assert (await bob.ask("GET", "/agents")).status == 200


async def test_somebody_who_guesses_keys(service, caller) -> None:
    """Has the share of its machine, and takes nothing from those who have keys."""
    ada = await caller("ada")
    wrong = {"Authorization": "Bearer rok_0000"}
    statuses = [(await service.ask("GET", "/agents", headers=wrong)).status for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    assert (await ada.ask("GET", "/agents")).status == 200
