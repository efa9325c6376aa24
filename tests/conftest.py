"""The servers that tests start themselves: each once for a session, when it is first asked for."""

import gc
import signal
import sys
from pathlib import Path

import aiosqlite
import pytest
from hypothesis import settings

# What tests of one folder share with each other, and with those of others.
sys.path += [
    str(Path(__file__).parent / folder)
    for folder in ("shared", "storage", "faults", "identity", "outbound", "web", "audit", "deploy", "dashboard")
]

import postgres_server
import redis_server
import stores

# For `make fuzz`.
settings.register_profile("fuzz", max_examples=20_000, deadline=None)


@pytest.fixture
def anyio_backend() -> str:
    """Hypercorn, aiohttp and the drivers of databases need asyncio; folders of what does not have their own."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def threads_end_with_the_process():
    """A test that fails before it closes its ledger must not keep the whole run from ending."""

    def connect(*args, real=aiosqlite.connect, **options):
        connection = real(*args, **options)
        connection._thread.daemon = True
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiosqlite, "connect", connect)
        yield


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server; each test makes databases of its own in it."""
    with postgres_server.running(postgres_server.PACKAGED) as server:
        yield server


@pytest.fixture(scope="session")
def redis_process():
    """The server behind `redis`."""
    with redis_server.running(redis_server.PACKAGED) as server:
        yield server


@pytest.fixture
def redis(redis_process):
    """A Redis server, up and empty, whatever the test before did to it."""
    if not redis_process.is_up:
        redis_process.restart()
    redis_process.flush()
    return redis_process


@pytest.fixture
def redis_url(redis):
    """An empty database of it."""
    return redis.url(redis.new_database())


@pytest.fixture(scope="session")
def emptied(postgres):
    """A database that is empty for each test that asks for it."""
    return stores.Emptied(postgres)


@pytest.fixture(params=stores.COMBINATIONS)
async def ledger(request, anyio_backend, tmp_path) -> dict[str, str]:
    """The variables that name the stores: everything that HTTP promises, it promises on each combination of them."""
    database, _, queue = request.param.partition("+")
    if database == "postgresql":
        url = await request.getfixturevalue("emptied").url()
    else:
        url = f"sqlite:///{tmp_path}/ledger.db"
    return {"DATABASE_URL": url} | ({"REDIS_URL": request.getfixturevalue("redis_url")} if queue else {})


def pytest_configure():
    """A script that runs us in its background has us ignore Ctrl-C, and all that we start would do the same."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Thousands of tests stay for good: to look through them again and again stops the loops of those that run."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """What tests recorded as `seen`, such as counts of faults: told at the end, whichever process ran them."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "seen":
                terminalreporter.write_line(f"{report.nodeid}: {text}")
