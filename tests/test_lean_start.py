"""A start imports what its settings need, and nothing for what others may have configured."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from orchestrator.cli import MODULES, main

SERVING = """
import sys
from pathlib import Path
from orchestrator import serving
from orchestrator.cli import console, service
from orchestrator.embedding import load_settings
from orchestrator.listening import Listeners, serve_on
from orchestrator.web.server import listen
settings = load_settings(environ={})
with listen("127.0.0.1", 0) as listener:
    serve_on(Listeners(listener), settings)
    from orchestrator.outbound import agents
    from orchestrator.web import app
    print(*sorted(set(sys.argv[1:]) & sys.modules.keys()))
"""
NOT_NEEDED = (
    "redis", "asyncpg", "opentelemetry", "boto3", "numpy", "cryptography", "jwt", "aiohttp", "orchestrator.client",
    "orchestrator.doctor", "orchestrator.auditing", "orchestrator.demo", "orchestrator.testing", "orchestrator.workers",
)  # fmt: skip


def test_a_process_that_serves_loads_nothing_that_is_not_configured(tmp_path: Path) -> None:
    """Neither drivers of other stores, nor cryptography without a key, nor what other commands stand on."""
    command = [sys.executable, "-c", SERVING, *NOT_NEEDED]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", MODULES)
def test_each_command_is_where_the_table_says(name: str) -> None:
    """It bears the name by which it is asked for, in this package and not where it was imported to."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert command.callback is not None
    assert command.callback.__module__ == f"orchestrator.cli.{MODULES[name]}"


def test_a_command_that_there_is_not() -> None:
    """It is none, and click says so."""
    assert main.get_command(click.Context(main), "nonsense") is None
