"""The servers that tests start themselves: each once for a session, when it is first asked for."""

import sys
from pathlib import Path

import pytest

if (storage := str(Path(__file__).parent / "storage")) not in sys.path:
    sys.path.append(storage)


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server; each test makes databases of its own in it."""
    import postgres_server

    with postgres_server.running(postgres_server.PACKAGED) as server:
        yield server


@pytest.fixture(scope="session")
def redis_process():
    """The server behind `redis`."""
    import redis_server

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
