"""The real thing for every test here: an orchestrator on a loopback port, and each combination of stores."""

from collections.abc import AsyncGenerator
from functools import partial

import pytest
from described import DescribedService
from stores import count
from uvicorn_serving import OnUvicorn

from orchestrator import HttpProtocol
from orchestrator.testing import Service
from orchestrator.web import doors, server
from orchestrator.web.door import Door
from orchestrator.web.fast_door import FastDoor


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


@pytest.fixture(params=[FastDoor, Door, HttpProtocol], ids=["httptools", "h11", "uvicorn"])
def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type:
    """Each of the classes that speak HTTP/1.1, in the place of the best one; the last of them on its own server."""
    if request.param is HttpProtocol:
        monkeypatch.setattr(server, "WebServer", OnUvicorn)
    else:
        monkeypatch.setattr(doors, "best_door", lambda: request.param)
    return request.param
