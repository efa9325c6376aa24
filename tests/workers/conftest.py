"""Fixtures for the tests of the kit and the reference agents; the helpers are in `orchestrator.workers.testing`."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

import orchestrator
from orchestrator.workers.testing import StubOrchestrator, stub_orchestrator


@pytest.fixture
def examples() -> Path:
    """The folder of the sample cases, where an installed wheel has it."""
    return Path(orchestrator.__file__).parent / "examples"


@pytest.fixture
async def stub(anyio_backend: str) -> AsyncGenerator[StubOrchestrator]:
    """A stub orchestrator on a loopback port."""
    async with stub_orchestrator() as stub:
        yield stub
