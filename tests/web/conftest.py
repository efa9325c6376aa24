"""The real thing for every test here: an orchestrator on a loopback port, and each combination of stores."""

from collections.abc import AsyncGenerator
from functools import partial

import pytest
from described import DescribedService
from stores import count

from orchestrator.testing import Service
from orchestrator.web import doors
from orchestrator.web.door import Door
from orchestrator.web.fast_http import FastDoor


@pytest.fixture
def environ() -> dict[str, str]:
    """Settings that differ from the packaged ones; a module may override it."""
    return {"ORCHESTRATOR_RETRY_BASE": "0.01", "ORCHESTRATOR_RETRY_CAP_S": "0.05"}


@pytest.fixture
async def service(ledger: dict[str, str], environ: dict[str, str]) -> AsyncGenerator[Service]:
    """A running orchestrator, whose answers are held to the description of the API."""
    async with DescribedService(ledger, environ) as service:
        yield service


@pytest.fixture
def rows(ledger: dict[str, str]):
    """Counts the rows of a table, read past the orchestrator."""

    return partial(count, ledger["DATABASE_URL"])


@pytest.fixture(params=[FastDoor, Door], ids=["httptools", "h11"])
def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Door]:
    """Each of the two classes that speak HTTP/1.1, in the place of the best one."""
    monkeypatch.setattr(doors, "best_door", lambda: request.param)
    return request.param
