"""A drain that nobody follows up by a stop."""

from pathlib import Path

import anyio
import pytest

from orchestrator.testing import Service


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_drain_that_outlives_its_deadline_fails_no_actor(tmp_path: Path) -> None:
    """Whoever embeds us may drain long before stopping: the actors wait, refuse, and are not restarted."""
    async with Service(tmp_path / "ledger.db", {"ORCHESTRATOR_DISPATCH_DRAIN_S": "0.2"}) as service:
        service.orchestrator.drain()
        with anyio.move_on_after(1):
            while not any(child.last_error for child in service.orchestrator.status()):  # noqa: ASYNC110 - no event tells of it
                await anyio.sleep(0.05)
        assert [child for child in service.orchestrator.status() if child.restarts or child.last_error] == []
