"""Requests made from the description of the API, right and wrong ones: what it says is what the server does.

`make fuzz` makes thousands of them, at random; otherwise they are few, and the same each time: each combination of
stores gets its share of the right ones, and one gets the wrong ones, of which few come as far as to a store.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from stores import COMBINATIONS

from orchestrator.web.openapi import CALLS

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
"""About so many requests; an operation without parameters has one."""
SOAK = "FUZZ_EXAMPLES" in os.environ
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def stores_of(request: pytest.FixtureRequest, folder: Path) -> dict[str, str]:
    """The variables that name new stores."""
    database, _, queue = request.param.partition("+")
    url = f"sqlite:///{folder}/ledger.db"
    if database == "postgresql":
        server = request.getfixturevalue("postgres")
        url = server.url(asyncio.run(server.new_database()))
    named = {"DATABASE_URL": url}
    if queue:
        server = request.getfixturevalue("redis_process")
        named["REDIS_URL"] = server.url(server.new_database())
    return named


@pytest.fixture(scope="module")
def schema(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The description that a process serves, whose limits are out of the way."""
    folder: Path = tmp_path_factory.mktemp("box")
    environ = {
        **os.environ,
        **stores_of(request, folder),
        "ORCHESTRATOR_LIMITS_REQUESTS_PER_S": "0",
        "ORCHESTRATOR_LIMITS_URGENT_PER_S": "0",
        "ORCHESTRATOR_WEB_MAX_WAIT_S": "0.1",
        "LOG_LEVEL": "ERROR",
    }
    command = [sys.executable, "-m", "orchestrator", "serve", "--port", "0"]
    with subprocess.Popen(command, env=environ, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        yield schemathesis.openapi.from_url(f"{server.stderr.readline().split()[-1]}/openapi.json")
        server.terminate()
        said = server.communicate(timeout=30)[1]
        assert server.returncode == 0
        assert said == ""


PLACES = [(call.method, call.path) for call in CALLS if not call.path.endswith("/events")]

SHARES = {GenerationMode.POSITIVE: len(COMBINATIONS), GenerationMode.NEGATIVE: 1}
RUNS = [(stores, mode) for mode, share in SHARES.items() for stores in COMBINATIONS[:share]]


@pytest.mark.parametrize(
    ("schema", "mode"),
    RUNS,
    ids=lambda each: getattr(each, "value", each),
    indirect=["schema"],
    scope="module",
)
@pytest.mark.parametrize(("method", "path"), PLACES, ids=[f"{method} {path}" for method, path in PLACES])
def test_what_the_description_says(schema: Any, method: str, path: str, mode: GenerationMode) -> None:
    """No fault of ours whatever is sent; statuses, types and bodies are those that the description declares."""

    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=max(2, EXAMPLES // len(PLACES) // SHARES[mode]),
        deadline=None,
        derandomize=not SOAK,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    def send(case: Any) -> None:
        response = case.call(timeout=30)
        if response.status_code == 501 and "transfer-encoding" in map(str.lower, case.headers or {}):
            return  # A coding that nobody knows, by chance (RFC 9112 §6.1): told before anything is asked of the API.
        assert response.status_code < 500, (response.status_code, response.text)
        case.validate_response(response, checks=CHECKS)

    with suppress(Unsatisfiable):  # Where nothing can be wrong, no wrong request is made.
        send()
