"""A browser before the real thing: each page is watched for what must not happen on any of them."""

import warnings
from collections.abc import AsyncGenerator

import pytest
from playwright.async_api import Browser, async_playwright
from visiting import CHROMIUM, FLAGS, Visitor

from orchestrator.testing import Service

SETTINGS = {
    "ORCHESTRATOR_LIMITS_REQUESTS_PER_S": "0",
    "ORCHESTRATOR_LIMITS_URGENT_PER_S": "0",
    "ORCHESTRATOR_AGENT_TTL": "3600",
    "ORCHESTRATOR_RETRY_BASE": "0.01",
    "ORCHESTRATOR_RETRY_CAP_S": "0.05",
    "ORCHESTRATOR_RETRY_MAX_RETRIES": "1",
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One for a module, so that its tests share a loop, a server and a browser."""
    return "asyncio"


@pytest.fixture(scope="module")
async def chromium(anyio_backend) -> AsyncGenerator[Browser]:
    """A browser, for all tests of a module."""
    if not CHROMIUM.exists():
        warnings.warn(pytest.PytestWarning(f"THE PAGE IS NOT TESTED: there is no {CHROMIUM}"), stacklevel=1)
        pytest.skip(f"the page is not tested: there is no {CHROMIUM} (scripts/get_chromium.sh)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture(scope="module")
def environ() -> dict[str, str]:
    """Settings beside SETTINGS; a module may override it."""
    return {}


@pytest.fixture(scope="module")
async def service(anyio_backend, environ, tmp_path_factory) -> AsyncGenerator[Service]:
    """A running orchestrator, for all tests of a module."""
    async with Service(tmp_path_factory.mktemp("box") / "ledger.db", {**SETTINGS, **environ}) as service:
        yield service


@pytest.fixture
async def visitor(chromium: Browser, service: Service) -> AsyncGenerator[Visitor]:
    """Somebody with an empty browser. At the end nothing may have gone wrong on what was visited."""
    async with Visitor(chromium, service.port) as visitor:
        yield visitor
    assert visitor.wrong == []
